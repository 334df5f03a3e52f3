"""Official class names as single strings: the text rows of OVSeg."""

from functools import cache

from frozenseg.vocabulary.vocabulary import CLASSES, Vocabulary, builtin_vocabulary, class_table

SHORT_SUFFIX = "_short"  # of tables with other names for the same classes


@cache
def literal_vocabulary(name: str) -> Vocabulary:
    """Returns a built-in vocabulary with one literal name per class.

    A name with commas ("road, route") is one string, not a list of synonyms. For ADE20K-150 these
    are the short names of Detectron2, 42 of which differ from the data set's own.

    Raises:
        UserError: no built-in vocabulary has this name.
    """
    classes = builtin_vocabulary(name)
    short = name + SHORT_SUFFIX
    rows = class_table(short if (CLASSES / f"{short}.tsv").is_file() else name)
    return Vocabulary(tuple((row.name,) for row in rows), classes.is_thing, classes.colors)


def as_literal(vocabulary: Vocabulary) -> Vocabulary:
    """Returns one text row per class: its synonyms as one string, with commas."""
    names = tuple((", ".join(synonyms),) for synonyms in vocabulary.synonyms)
    return Vocabulary(names, vocabulary.is_thing, vocabulary.colors)
