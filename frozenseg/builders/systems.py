"""Trainings of more than the decoder: which one a configuration has, its rows and its notes."""

from fvcore.common.config import CfgNode
from torch import Tensor

from frozenseg.builders.adapter import build_adapter_training, trains_adapter
from frozenseg.builders.model import trained_part
from frozenseg.builders.trunk import build_trunk_training, trains_trunk
from frozenseg.checkpoint.members import map_note
from frozenseg.checkpoint.weights import stored_towers, tower_notes
from frozenseg.modeling.text_transfer import ContentTransfer
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.pipeline.protocols import TextRows
from frozenseg.training.adapter_training import AdapterTraining
from frozenseg.training.trunk_training import TrunkTraining
from frozenseg.vocabulary.content_rows import ContentRows
from frozenseg.vocabulary.text_classifier import TextClassifier


def build_system_training(
    cfg: CfgNode, model: SegmentationModel
) -> AdapterTraining | TrunkTraining | None:
    """Builds the training of a system that computes its own losses; None: the proposer alone."""
    if trains_adapter(cfg):
        return build_adapter_training(cfg, model)
    return build_trunk_training(cfg, model) if trains_trunk(cfg) else None


def training_rows(model: SegmentationModel, rows: TextClassifier) -> TextRows:
    """Returns the rows of the training classes, adapted to the image where the system does so."""
    transfer = model.text_transfer
    return rows if transfer is None else ContentRows(rows, transfer)


def separate_towers(
    model: SegmentationModel, training: AdapterTraining | TrunkTraining | None
) -> dict[str, Tensor]:
    """Returns towers that are stored with the trained weights and that training does not change."""
    trained = isinstance(training, TrunkTraining)  # such a tower is part of its own state
    return {} if trained else stored_towers(trained_part(model))


def weight_notes(
    model: SegmentationModel, training: AdapterTraining | TrunkTraining | None
) -> dict[str, str]:
    """Returns what a checkpoint notes about its weights: towers, the teacher, the image map."""
    notes = tower_notes(trained_part(model))
    if isinstance(training, TrunkTraining) and training.teacher is not None:
        notes["teacher"] = training.teacher.fingerprint
    if isinstance(model.text_transfer, ContentTransfer):
        notes |= map_note(scrambled=model.text_transfer.scrambled)
    return notes


def fixed_notes(
    model: SegmentationModel, training: AdapterTraining | TrunkTraining | None
) -> dict[str, str]:
    """Returns the notes that training does not change: by them a resumed run is known."""
    notes = weight_notes(model, training)
    if isinstance(training, TrunkTraining):
        del notes["clip"]
    return notes
