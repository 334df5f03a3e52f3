"""The meta-architectures ``FrozenSeg`` and ``FCCLIP``."""

from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from typing import Any, NamedTuple

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, autocast, device, nn

from frozenseg.builders.model import build_model, trained_part
from frozenseg.builders.segmenter import build_segmenter, load_stored
from frozenseg.builders.stored_weights import open_whole_weights
from frozenseg.builders.systems import build_system_training, training_rows
from frozenseg.builders.training import build_criterion
from frozenseg.builders.vocabularies import (
    build_test_vocabulary,
    build_trained_vocabulary,
    build_training_vocabulary,
)
from frozenseg.checkpoint.weights import stored_towers
from frozenseg.detectron2.config import check_part_names
from frozenseg.detectron2.records import Entry, entry_of, input_of, target_of
from frozenseg.detectron2.weights import weights_path
from frozenseg.inference.segmenter import Segmenter, VocabularyLike
from frozenseg.io.weight_files import WeightsFile
from frozenseg.losses import TrainingLoss
from frozenseg.modeling.trained import TrainedProposer
from frozenseg.ops.maps import size_of
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.structures import Result
from frozenseg.training.system_step import SystemTraining
from frozenseg.vocabulary.text_classifier import TextClassifier, embed_vocabulary
from frozenseg.vocabulary.vocabulary import Vocabulary, parse_vocabulary


class Asked(NamedTuple):
    """Classes and outputs requested for an image."""

    vocabulary: Vocabulary
    outputs: tuple[str, ...]  # none: those that are configured
    known: Vocabulary | None  # None: the training classes


class IncompatibleKeys(NamedTuple):
    """Reply to Detectron2's checkpointer, always empty: weights that do not fit are errors."""

    missing_keys: list[str]
    unexpected_keys: list[str]


@META_ARCH_REGISTRY.register()
class FrozenSeg(nn.Module):
    """The model in Detectron2's standard form: a list of dictionaries in, losses or results out.

    In training mode the classes are those of the first training set. In evaluation mode they are
    those of ``vocabulary``, or those under an entry's own ``vocabulary`` key.

    Args:
        segmenter: the model with its ensemble and post-processing.
        training_vocabulary: called for the classes to train on; None: those of the segmenter.
        build_training: called by ``start_training`` for the system that computes its own losses;
            if it returns None, the proposer is trained with ``criterion``.
        vocabulary: classes, as ``Segmenter`` takes them.
        read_weights: reads a file of trained weights.
        load_stored: loads weights into the model; ``source`` is their name in messages.
    """

    @configurable
    def __init__(
        self,
        *,
        segmenter: Segmenter,
        criterion: TrainingLoss,
        vocabulary: VocabularyLike,
        read_weights: Callable[[str], WeightsFile],
        load_stored: Callable[..., None],
        training_vocabulary: Callable[[], Vocabulary] | None = None,
        build_training: Callable[[SegmentationModel], SystemTraining | None] = lambda _: None,
    ) -> None:
        super().__init__()
        self.network: Any = segmenter.model.proposer  # the part that is trained
        self._build_training = build_training
        self.segmenter, self.criterion, self.vocabulary = segmenter, criterion, vocabulary
        self._read_weights, self._load_stored = read_weights, load_stored
        self._training_vocabulary = training_vocabulary or (lambda: segmenter.training)
        self._training_classifier: TextClassifier | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        check_part_names(cfg)
        read = partial(open_whole_weights, cfg=cfg)
        weights = cfg.MODEL.WEIGHTS and read(weights_path(cfg.MODEL.WEIGHTS)).tensors
        return {
            "segmenter": build_segmenter(cfg, model=build_model(cfg, weights=weights or None)),
            "criterion": build_criterion(cfg),
            "vocabulary": _first_vocabulary(cfg),
            "read_weights": read,
            "load_stored": partial(load_stored, cfg),
            "training_vocabulary": partial(build_training_vocabulary, cfg),
            "build_training": partial(build_system_training, cfg),
        }

    def start_training(self) -> None:
        """Makes the trained part one that computes its own losses, if the system has such a one.

        Evaluation does without, and needs no teacher.
        """
        training = self._build_training(self.segmenter.model)
        if training is not None:
            self.network = training.train(self.training)

    @property
    def device(self) -> device:
        return next(self.segmenter.model.parameters()).device

    def forward(self, batched_inputs: list[Entry]) -> dict[str, Tensor] | list[Entry]:
        """Returns weighted losses in training mode, else a dictionary of results per image.

        Args:
            batched_inputs: ``image`` (3, H, W) RGB in 0..255; ``height`` and ``width`` of the
                output; ``instances``, the training targets. In evaluation mode also ``vocabulary``,
                classes for this image; ``known_vocabulary``, whose classes count as seen;
                ``outputs``, the requested tasks; ``original``, the uint8 image before resizing.
        """
        images = [entry["image"].to(self.device) for entry in batched_inputs]
        if self.training:
            return self._losses(images, batched_inputs)
        return [entry_of(result) for result in self._results(images, batched_inputs)]

    def _losses(self, images: list[Tensor], entries: list[Entry]) -> dict[str, Tensor]:
        model, network = self.segmenter.model, self.network
        size = model.proposer.padded_size([size_of(image) for image in images])
        targets = [target_of(entry["instances"].to(self.device), size) for entry in entries]
        rows = self._classifier()
        if isinstance(network, TrainedProposer):
            return self.criterion(network(images, rows).predictions, targets)
        return network(images, targets, training_rows(model, rows))

    def _results(self, images: list[Tensor], entries: list[Entry]) -> list[Result]:
        inputs = [input_of(entry, image) for entry, image in zip(entries, images, strict=True)]
        asked = [self._asked(entry) for entry in entries]
        results: dict[int, Result] = {}
        for each in dict.fromkeys(asked):
            rows = [row for row, own in enumerate(asked) if own == each]
            predict = self.segmenter.build_predictor(
                each.vocabulary, outputs=each.outputs, training=each.known, class_maps=True
            )
            results.update(zip(rows, predict([inputs[row] for row in rows]), strict=True))
        return [results[row] for row in range(len(entries))]

    def _asked(self, entry: Entry) -> Asked:
        words = entry.get("vocabulary", self.vocabulary)
        words = words if isinstance(words, Vocabulary) else parse_vocabulary(words)
        return Asked(words, entry.get("outputs", ()), entry.get("known_vocabulary"))

    def _classifier(self) -> TextClassifier:
        """Returns embeddings of the training classes, computed once, on the model's device."""
        if self._training_classifier is None:
            with autocast(self.device.type, enabled=False):  # the trainer may have it on
                classifier = embed_vocabulary(
                    self.segmenter.model.text_encoder,
                    self._training_vocabulary(),
                    cache_dir=self.segmenter.cache_dir,
                )
            self._training_classifier = classifier.to(self.device)
        return self._training_classifier

    def load_weights(self, path: str, *, for_training: bool = False) -> None:
        """Loads trained weights from a file or a checkpoint's folder; see ``load_stored``."""
        model = self.segmenter.model
        if model.has_trained_parts:
            stored = self._read_weights(path)
            self._load_stored(model, stored, source=path, for_training=for_training)

    def state_dict(
        self,
        *,
        destination: MutableMapping[str, Tensor] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> MutableMapping[str, Tensor]:
        """Returns the trained weights by this project's names, and towers that belong to them."""
        destination = {} if destination is None else destination
        model = self.segmenter.model
        towers = stored_towers(trained_part(model)) if model.has_trained_parts else {}
        for name, value in (model.trainable_state() | towers).items():
            destination[prefix + name] = value
        return destination

    def load_state_dict(
        self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Loads trained weights, ours or official ones; every weight is accounted for.

        Raises:
            UserError: they belong to another architecture or other towers.
        """
        notes = getattr(state_dict, "_metadata", {})
        weights = WeightsFile(dict(state_dict), notes)
        self._load_stored(self.segmenter.model, weights, source="the checkpoint")
        return IncompatibleKeys([], [])


@META_ARCH_REGISTRY.register()
class FCCLIP(FrozenSeg):
    """FC-CLIP: no SAM."""


def _first_vocabulary(cfg: CfgNode) -> Vocabulary:
    """Returns the first test set's classes; without a test set, those of training."""
    if not cfg.DATASETS.TEST:
        return build_trained_vocabulary(cfg)
    return build_test_vocabulary(cfg, cfg.DATASETS.TEST[0])
