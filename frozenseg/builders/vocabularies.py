"""The words that a configuration trains with, and those that it tests with."""

from pathlib import Path

from fvcore.common.config import CfgNode

from frozenseg.data.catalog import SHAPES, dataset_vocabulary
from frozenseg.data.registry import dataset_spec
from frozenseg.errors import UserError
from frozenseg.vocabulary.vocabulary import Vocabulary, parse_vocabulary


def only_training_set(cfg: CfgNode) -> str:
    names = cfg.DATASETS.TRAIN
    if len(names) != 1:
        raise UserError(
            f"DATASETS.TRAIN names {len(names)} data sets: name one, whose vocabulary is learned"
        )
    return names[0]


def build_training_vocabulary(cfg: CfgNode) -> Vocabulary:
    """The training set's classes, in the words of ``DATASETS.TRAIN_VOCABULARY`` if it is set."""
    return _in_words(dataset_vocabulary(only_training_set(cfg)), cfg.DATASETS.TRAIN_VOCABULARY)


def build_test_vocabulary(cfg: CfgNode, name: str) -> Vocabulary:
    """A test set's classes, in the words that ``DATASETS.TEST_VOCABULARY`` has for it, if any.

    Raises:
        UserError: there are files, but not one for each test set.
    """
    names, files = cfg.DATASETS.TEST, cfg.DATASETS.TEST_VOCABULARY
    if files and len(files) != len(names):
        raise UserError(
            f"DATASETS.TEST_VOCABULARY has {len(files)} files for the {len(names)} data sets of "
            'DATASETS.TEST: give one each, "" for the built-in words'
        )
    own = dataset_vocabulary(name)
    return _in_words(own, files[names.index(name)] if files and name in names else "")


def build_known_vocabulary(cfg: CfgNode, name: str) -> Vocabulary:
    """The training classes by which a test set's classes count as seen.

    For LVIS these are the things alone, as in official evaluation.
    """
    training = build_training_vocabulary(cfg)
    if name in SHAPES or not dataset_spec(name).trained_on_things:
        return training
    return training.things()


def _in_words(own: Vocabulary, file: str) -> Vocabulary:
    return parse_vocabulary(Path(file).expanduser(), like=own) if file else own
