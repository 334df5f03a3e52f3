"""Vocabularies whose class names are one literal string each, as OVSeg reads them."""

from collections.abc import Sequence

from frozenseg.errors import UserError
from frozenseg.vocabulary.vocabulary import (
    Vocabulary,
    builtin_names,
    builtin_vocabulary,
    class_table,
)

OTHERS = "others"
SHORT_NAMES = {"ade20k_150": "ade20k_150_short"}  # lists that OVSeg reads under other names


def literal_vocabulary(names: str | Sequence[str], *, like: Vocabulary | None = None) -> Vocabulary:
    """Returns a vocabulary with one synonym per class: the name as it is, commas and all.

    "road, route" is one prompt of CLIP, not two. (Other systems split at commas.)

    Args:
        names: of the classes; one string separates them by semicolons or lines, or is the name of a
            built-in list, whose data set's own names are taken (for ADE20K-150 Detectron2's short
            ones, with which OVSeg was evaluated).
        like: take thing flags and colours, class by class, from this one; without it, every class
            is a thing.

    Raises:
        UserError: no class, an empty or repeated name, or another number of classes than ``like``.
    """
    if isinstance(names, str) and names.strip() in builtin_names():
        known = names.strip()
        table = class_table(SHORT_NAMES.get(known, known))
        return literal_vocabulary(
            [row.name for row in table], like=like or builtin_vocabulary(known)
        )
    if isinstance(names, str):
        names = [name for name in names.replace(";", "\n").splitlines() if name.strip()]
    literal = [name.strip() for name in names]
    _check(literal, like)
    things = (True,) * len(literal) if like is None else like.is_thing
    colors = None if like is None else like.colors
    return Vocabulary(tuple((name,) for name in literal), things, colors)


def with_others(vocabulary: Vocabulary) -> Vocabulary:
    """Returns a single class with "others" as a second one, a larger vocabulary as it is.

    CLIP's softmax over one class would give it probability 1 everywhere.
    """
    if len(vocabulary) > 1:
        return vocabulary
    return Vocabulary((*vocabulary.synonyms, (OTHERS,)), (*vocabulary.is_thing, False))


def _check(names: Sequence[str], like: Vocabulary | None) -> None:
    if not names:
        raise UserError("the vocabulary holds no class: give at least one class name")
    if not all(names):
        raise UserError(f"class {names.index('') + 1} has an empty name: give it one or remove it")
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise UserError(f"the class name '{repeated[:200]}' is given twice: remove one")
    if like is not None and len(like) != len(names):
        raise UserError(
            f"the vocabulary has {len(names)} classes where {len(like)} are expected: give one "
            "name per class, in that order"
        )
