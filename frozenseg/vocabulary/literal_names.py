"""Class names as a user gives them, one literal string each; "others" beside a single one."""

from collections.abc import Sequence

from frozenseg.errors import UserError
from frozenseg.vocabulary.literal import literal_vocabulary
from frozenseg.vocabulary.vocabulary import Vocabulary, builtin_names

OTHERS = "others"


def literal_names(names: str | Sequence[str], *, like: Vocabulary | None = None) -> Vocabulary:
    """Returns a vocabulary with one synonym per class: the name as it is, commas and all.

    Args:
        names: of the classes; one string separates them by semicolons or lines, or is the name of
            a built-in list (see ``literal_vocabulary``).
        like: take thing flags and colours, class by class, from this one; without it, every class
            that a user names is a thing.

    Raises:
        UserError: no class, an empty or repeated name, or another number of classes than ``like``.
    """
    if isinstance(names, str):
        if names.strip() in builtin_names():
            return literal_vocabulary(names.strip())
        names = [name for name in names.replace(";", "\n").splitlines() if name.strip()]
    literal = [name.strip() for name in names]
    _check(literal, like)
    things = (True,) * len(literal) if like is None else like.is_thing
    colors = None if like is None else like.colors
    return Vocabulary(tuple((name,) for name in literal), things, colors)


def with_others(vocabulary: Vocabulary) -> Vocabulary:
    """Returns a single class with "others" as a second one; a larger vocabulary as it is.

    A softmax over one class alone would give it probability 1 everywhere.
    """
    if len(vocabulary) > 1:
        return vocabulary
    return Vocabulary((*vocabulary.synonyms, (OTHERS,)), (*vocabulary.is_thing, False))


def _check(names: Sequence[str], like: Vocabulary | None) -> None:
    if not names:
        raise UserError("the vocabulary holds no class: give at least one class name")
    if not all(names):
        raise UserError(f"class {names.index('') + 1} has an empty name: name it or remove it")
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise UserError(f"the class name '{repeated[:200]}' is given twice: remove one")
    if like is not None and len(like) != len(names):
        raise UserError(
            f"the vocabulary has {len(names)} classes where {len(like)} are expected: give one "
            "name per class, in that order"
        )
