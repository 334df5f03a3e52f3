"""Words in, text classifier out: class lists, synonyms, prompt templates, cached embeddings."""

from frozenseg.vocabulary.templates import VILD_TEMPLATES
from frozenseg.vocabulary.text_classifier import TextClassifier, build_text_classifier
from frozenseg.vocabulary.vocabulary import (
    Vocabulary,
    builtin_names,
    builtin_vocabulary,
    class_table,
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
    "parse_vocabulary",
    "read_vocabulary",
]
