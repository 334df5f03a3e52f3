"""The nouns of a caption, found by a word list and a few rules; nothing is downloaded.

Captions are short and plain: a word that the list does not know as a verb, adjective or function
word is a noun. Words of the list count as nouns where only a noun can be ("a cross", "on top of").
"""

import re
from functools import cache
from pathlib import Path

WORDS = Path(__file__).with_name("other_words.txt")
NOUN, BREAK = "noun", "break"

_TOKEN = re.compile(r"[a-z]+(?:[-'\u2019][a-z]+)*|[0-9]+|[^\sa-z0-9]")
_POSSESSIVE = re.compile(r"['\u2019]s?$")
_BEFORE_A_NOUN = ("determiner", "adjective")


def find_nouns(caption: str) -> list[str]:
    """Returns the nouns of an English caption in lower case, each once, in order.

    A compound ("shower curtain") gives each of its nouns, as a part-of-speech tagger does.
    """
    return list(dict.fromkeys(word for word, kind in _tagged(caption) if kind == NOUN))


def find_phrases(caption: str) -> list[str]:
    """Returns the nouns as ``find_nouns``, each after the adjectives right before it.

    "a dotted red star on wet sand" gives "dotted red star" and "wet sand".
    """
    found, adjectives = [], []
    for word, kind in _tagged(caption):
        if kind == NOUN:
            found.append(" ".join([*adjectives, word]))
        adjectives = [*adjectives, word] if _describes(word, kind) else []
    return list(dict.fromkeys(found))


def _describes(word: str, kind: str) -> bool:
    """Returns True for adjectives and words like "dotted", but not for "riding"."""
    return kind == "adjective" or (kind == "participle" and not word.endswith("ing"))


def _tagged(caption: str) -> list[tuple[str, str]]:
    """Returns the words of a caption in lower case with their parts of speech."""
    words = _TOKEN.findall(caption.lower())
    words = [_POSSESSIVE.sub("", word) if word[0].isalpha() else word for word in words]
    kinds = [BREAK, *map(_kind_of, words), BREAK]
    for place in range(1, len(words) + 1):
        if _is_noun_here(kinds, place):
            kinds[place] = NOUN
    return list(zip(words, kinds[1:-1], strict=True))


def _kind_of(word: str) -> str:
    if not word[0].isalpha():
        return "determiner" if word.isdecimal() else BREAK
    if len(word) == 1:
        return "determiner" if word == "a" else "function"
    return other_words().get(word, NOUN)


def _is_noun_here(kinds: list[str], place: int) -> bool:
    """Returns True if a verb or adjective of the list is used as a noun."""
    before, kind, after = kinds[place - 1 : place + 2]
    if kind == "verb":
        listed = before == BREAK and place > 1 and kinds[place - 2] == NOUN
        return before in _BEFORE_A_NOUN or (listed and after != "determiner")
    if kind == "adjective":
        return before in ("determiner", "preposition") and after in (BREAK, "preposition")
    return False


@cache
def other_words() -> dict[str, str]:
    """Returns the part of speech of the words that are not nouns by themselves."""
    kinds: dict[str, str] = {}
    kind = ""
    for line in WORDS.read_text(encoding="utf8").splitlines():
        if line.startswith("["):
            kind = line.strip("[]")
        elif not line.startswith("#"):
            kinds |= dict.fromkeys(line.split(), kind)
    return kinds
