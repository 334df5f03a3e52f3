"""Text from files and users, made safe for terminals and short enough for messages."""

import reprlib
import unicodedata

from rich.markup import escape

MAX_QUOTED = 200  # characters of input that a message repeats
# Unicode categories: control, format (direction overrides), surrogate, line and paragraph separator
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # format characters that words and emoji need

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = MAX_QUOTED + 2
_short.maxlist = _short.maxtuple = _short.maxdict = 20


def shown(text: object, *, keep: str = "") -> str:
    r"""Returns text with control characters written out: ``\x1b`` instead of an escape sequence.

    Args:
        text: anything; ``str`` is applied to it.
        keep: control characters to leave as they are, such as ``"\n"``.
    """
    plain = str(text)
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(each if each in keep or not _hidden(each) else _spelled(each) for each in plain)


def quoted(value: object) -> str:
    """Returns the ``repr`` of a value for a message, with at most 200 characters of it."""
    return cut(shown(_short.repr(value)))


def cut(text: str) -> str:
    """Returns at most 200 characters of text, and dots if there were more."""
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."


def one_line(text: object) -> str:
    """Returns text as one printable line: whitespace is joined, control characters are shown."""
    return shown(" ".join(str(text).split(None)))


def markup(text: object) -> str:
    """Returns text for rich: printed as it is, neither markup nor control characters act."""
    return escape(shown(text))


def _hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN and character not in _JOINERS


def _spelled(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
