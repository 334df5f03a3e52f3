"""The class names of a visitor: never a path or the name of a list, and checked while typed."""

from frozenseg.errors import UserError
from frozenseg.io.text import quoted
from frozenseg.vocabulary.vocabulary import Vocabulary, parse_vocabulary, split_classes
from frozenseg.web.limits import Limits

_SHOWN = 3  # names that a note lists


def read_words(text: str, limits: Limits) -> Vocabulary:
    """Returns the classes of a text: ``;`` or new lines between classes, ``,`` between synonyms.

    Raises:
        UserError: no class, too many, too long a text, an empty or a repeated name.
    """
    if len(text) > limits.characters:
        raise UserError(
            f"the class names have {len(text):,} characters, more than {limits.characters:,}: "
            "remove some"
        )
    classes = split_classes(text)
    if not classes:
        raise UserError("no class names: type some, separated by ';'")
    if len(classes) > limits.classes:
        raise UserError(
            f"there are {len(classes)} classes, more than {limits.classes}: remove some"
        )
    return parse_vocabulary(classes)


def check_words(
    text: str, limits: Limits, *, training: Vocabulary, known: frozenset[str] | None
) -> dict[str, object]:
    """What the page shows while somebody types.

    Args:
        text: the class names.
        limits: of their number and length.
        training: the classes of the training data, which are the seen ones.
        known: all names that the model can know; None for a model of the open world.

    Returns:
        ``classes`` (each with ``name``, ``thing``, ``seen``), ``error`` and ``note``, one sentence
        or None each.
    """
    try:
        vocabulary = read_words(text, limits)
    except UserError as error:
        return {"classes": [], "error": str(error), "note": None}
    rows = zip(vocabulary.names, vocabulary.is_thing, vocabulary.seen_by(training), strict=True)
    classes = [{"name": name, "thing": thing, "seen": seen} for name, thing, seen in rows]
    return {"classes": classes, "error": None, "note": _note(vocabulary, known)}


def _note(vocabulary: Vocabulary, known: frozenset[str] | None) -> str | None:
    if known is not None:
        strange = [words[0] for words in vocabulary.synonyms if known.isdisjoint(words)]
        if strange:
            listed = ", ".join(quoted(name) for name in strange[:_SHOWN])
            more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
            return f"The miniature model has never read {listed}{more}."
    if len(vocabulary) == 1 and len(vocabulary.synonyms[0]) > 1:
        return "This is one class with synonyms: separate classes with ';'."
    return None
