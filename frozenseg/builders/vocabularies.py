"""The vocabularies of a configuration: of training, of trained weights, and of tests."""

from pathlib import Path

from fvcore.common.config import CfgNode

from frozenseg.checkpoint.class_names import noted_classes
from frozenseg.data.catalog import (
    DETECTRON2,
    SHAPES,
    dataset_spec,
    dataset_vocabulary,
    training_vocabulary,
)
from frozenseg.errors import UserError
from frozenseg.vocabulary.literal import as_literal, literal_vocabulary
from frozenseg.vocabulary.vocabulary import Vocabulary, parse_vocabulary


def only_training_set(cfg: CfgNode) -> str:
    """Returns the one name of ``DATASETS.TRAIN``.

    Raises:
        UserError: there is none, or there are several.
    """
    names = cfg.DATASETS.TRAIN
    if len(names) != 1:
        raise UserError(
            f"DATASETS.TRAIN names {len(names)} data sets: name exactly one, because the model "
            "learns its vocabulary"
        )
    return names[0]


def build_training_vocabulary(cfg: CfgNode) -> Vocabulary:
    """Returns the classes to train on, with the synonyms of ``DATASETS.TRAIN_VOCABULARY`` if set.

    Classes that a data set file lists as unseen are left out.
    """
    name = only_training_set(cfg)
    return _text_rows(cfg, name, training_vocabulary(name), cfg.DATASETS.TRAIN_VOCABULARY)


def build_trained_vocabulary(cfg: CfgNode) -> Vocabulary:
    """Returns the classes that a model was trained on.

    They are those of ``DATASETS.TRAIN_VOCABULARY`` if it is set, else those that the file of
    ``MODEL.WEIGHTS`` notes, else those of ``DATASETS.TRAIN``. Therefore weights work on machines
    that do not have their training data.
    """
    noted = None if cfg.DATASETS.TRAIN_VOCABULARY else noted_classes(cfg.MODEL.WEIGHTS)
    return build_training_vocabulary(cfg) if noted is None else noted


def trained_in_this_run(cfg: CfgNode) -> CfgNode:
    """Returns the configuration for evaluating a model during its training.

    The classes of the weights that the training started from do not count then.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = ""
    cfg.freeze()
    return cfg


def build_test_vocabulary(cfg: CfgNode, name: str) -> Vocabulary:
    """Returns a test set's classes, with the synonyms of ``DATASETS.TEST_VOCABULARY`` if set.

    Raises:
        UserError: there are files of synonyms, but not one for each test set.
    """
    names, files = cfg.DATASETS.TEST, cfg.DATASETS.TEST_VOCABULARY
    if files and len(files) != len(names):
        raise UserError(
            f"DATASETS.TEST_VOCABULARY has {len(files)} files for the {len(names)} data sets of "
            'DATASETS.TEST: give one each, "" for the built-in synonyms'
        )
    own = dataset_vocabulary(name)
    return _text_rows(cfg, name, own, files[names.index(name)] if files and name in names else "")


def build_known_vocabulary(cfg: CfgNode, name: str) -> Vocabulary:
    """Returns the classes by which a test set's classes count as seen.

    They are those that the model was trained on; for LVIS only the things, as in official
    evaluation. If a data set file lists unseen classes, they are all others of the test set.
    """
    trained = build_trained_vocabulary(cfg)
    if name in SHAPES:
        return trained
    spec = dataset_spec(name)
    if spec.unseen is not None:
        return build_test_vocabulary(cfg, name).subset(spec.is_seen)
    return trained.things() if spec.trained_on_things else trained


def _text_rows(cfg: CfgNode, name: str, own: Vocabulary, file: str) -> Vocabulary:
    """Returns a data set's classes with the names that ``MODEL.PIPELINE.TEXT_ROWS`` asks for."""
    chosen = parse_vocabulary(Path(file).expanduser(), like=own) if file else own
    if cfg.MODEL.PIPELINE.TEXT_ROWS != "literal":
        return chosen
    table = "" if file or name in SHAPES or name in DETECTRON2 else dataset_spec(name).vocabulary
    return literal_vocabulary(table) if table else as_literal(chosen)
