"""Class lists, synonyms, prompt templates, and the text classifier made of them."""

from frozenseg.vocabulary.class_tables import class_table
from frozenseg.vocabulary.templates import VILD_TEMPLATES
from frozenseg.vocabulary.text_classifier import (
    TextClassifier,
    build_text_classifier,
    embed_vocabulary,
)
from frozenseg.vocabulary.vocabulary import (
    Vocabulary,
    builtin_names,
    builtin_vocabulary,
    parse_vocabulary,
    read_vocabulary,
)

__all__ = [
    "VILD_TEMPLATES",
    "TextClassifier",
    "Vocabulary",
    "build_text_classifier",
    "builtin_names",
    "builtin_vocabulary",
    "class_table",
    "embed_vocabulary",
    "parse_vocabulary",
    "read_vocabulary",
]
