"""The meta-architectures ``FrozenSeg`` and ``FCCLIP``."""

from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, autocast, device, nn

from frozenseg.checkpoint.reading import WeightsFile
from frozenseg.checkpoint.weights import load_state
from frozenseg.config import ConfigError
from frozenseg.data.catalog import dataset_vocabulary
from frozenseg.detectron2.records import Entry, entry_of, target_of
from frozenseg.engine.build import build_criterion
from frozenseg.inference.build import build_segmenter
from frozenseg.inference.segmenter import Segmenter, VocabularyLike
from frozenseg.losses import Criterion
from frozenseg.modeling.build import build_model
from frozenseg.structures import Result
from frozenseg.vocabulary.text_classifier import TextClassifier, build_text_classifier
from frozenseg.vocabulary.vocabulary import Vocabulary, parse_vocabulary

# what official files call the parts; this project has no others of their kind
PART_NAMES = {
    "BACKBONE.NAME": ("CLIP",),
    "SEM_SEG_HEAD.NAME": ("FrozenSegHead", "FCCLIPHead"),
    "SEM_SEG_HEAD.PIXEL_DECODER_NAME": ("MSDeformAttnPixelDecoder",),
    "MASK_FORMER.TRANSFORMER_DECODER_NAME": ("MultiScaleMaskedTransformerDecoder",),
}


class IncompatibleKeys(NamedTuple):
    """What Detectron2's checkpointer asks after loading; weights that do not fit are an error."""

    missing_keys: list[str]
    unexpected_keys: list[str]


@META_ARCH_REGISTRY.register()
class FrozenSeg(nn.Module):
    """The model in Detectron2's standard form: a list of dictionaries in, losses or results out.

    While training it knows the classes of the first training set. Otherwise it segments into
    ``vocabulary``, or into the words that an image brings along under the key of that name.

    Args:
        segmenter: the model with its ensemble and post-processing.
        vocabulary: classes, as ``Segmenter`` takes them.
    """

    @configurable
    def __init__(
        self, *, segmenter: Segmenter, criterion: Criterion, vocabulary: VocabularyLike
    ) -> None:
        super().__init__()
        self.network = segmenter.model
        self.segmenter, self.criterion, self.vocabulary = segmenter, criterion, vocabulary
        self._training_classifier: TextClassifier | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        check_part_names(cfg)
        return {
            "segmenter": build_segmenter(cfg, model=build_model(cfg)),
            "criterion": build_criterion(cfg),
            "vocabulary": dataset_vocabulary((*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)[0]),
        }

    @property
    def device(self) -> device:
        return self.network.logit_scale.device

    def forward(self, batched_inputs: list[Entry]) -> dict[str, Tensor] | list[Entry]:
        """Weighted losses while training, else ``sem_seg``, ``panoptic_seg``, ``instances`` each.

        Args:
            batched_inputs: ``image`` (3, H, W) RGB in 0..255; ``height`` and ``width`` of the
                output; ``instances`` to train on; ``vocabulary``, words for this image.
        """
        images = [entry["image"].to(self.device) for entry in batched_inputs]
        if self.training:
            return self._losses(images, batched_inputs)
        return [entry_of(result) for result in self._results(images, batched_inputs)]

    def _losses(self, images: list[Tensor], entries: list[Entry]) -> dict[str, Tensor]:
        output = self.network(images, self._classifier())
        targets = [
            target_of(entry["instances"].to(self.device), output.padded_size) for entry in entries
        ]
        return self.criterion(output.predictions, targets)

    def _results(self, images: list[Tensor], entries: list[Entry]) -> list[Result]:
        sizes = [
            (entry.get("height", image.shape[-2]), entry.get("width", image.shape[-1]))
            for image, entry in zip(images, entries, strict=True)
        ]
        words = [parsed(entry.get("vocabulary", self.vocabulary)) for entry in entries]
        results: dict[int, Result] = {}
        for vocabulary in dict.fromkeys(words):
            rows = [row for row, own in enumerate(words) if own == vocabulary]
            predict = self.segmenter.predictor(vocabulary)
            found = predict([images[row] for row in rows], [sizes[row] for row in rows])
            results.update(zip(rows, found, strict=True))
        return [results[row] for row in range(len(entries))]

    def _classifier(self) -> TextClassifier:
        """The training classes' embeddings, made when they are first needed, on that device."""
        if self._training_classifier is None:
            with autocast(self.device.type, enabled=False):  # the trainer may have it on
                classifier = build_text_classifier(
                    self.network.clip.encode_text,
                    self.segmenter.training,
                    cache_dir=self.segmenter.cache_dir,
                    tower_fingerprint=self.network.clip.fingerprint,
                )
            self._training_classifier = classifier.to(self.device)
        return self._training_classifier

    def state_dict(
        self,
        *,
        destination: MutableMapping[str, Tensor] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> MutableMapping[str, Tensor]:
        """The trained weights alone, by this project's names; the towers are not stored."""
        destination = {} if destination is None else destination
        for name, value in self.network.trainable_state().items():
            destination[prefix + name] = value
        return destination

    def load_state_dict(
        self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Takes over trained weights, this project's or official ones, every one of them.

        Raises:
            UserError: they belong to another architecture or other towers.
        """
        notes = getattr(state_dict, "_metadata", {})
        load_state(self.network, WeightsFile(dict(state_dict), notes), source="the checkpoint")
        return IncompatibleKeys([], [])


@META_ARCH_REGISTRY.register()
class FCCLIP(FrozenSeg):
    """The same without SAM."""


def check_part_names(cfg: CfgNode) -> None:
    """Names that ask for another architecture must not be passed over.

    Raises:
        ConfigError: one does; the key is named.
    """
    for key, known in PART_NAMES.items():
        section, name = key.split(".")
        if cfg.MODEL[section][name] not in known:
            raise ConfigError(
                f"MODEL.{key} is {cfg.MODEL[section][name]!r}: {cfg.MODEL.META_ARCHITECTURE} is "
                f"built of {' or '.join(known)}"
            )


def parsed(words: VocabularyLike) -> Vocabulary:
    return words if isinstance(words, Vocabulary) else parse_vocabulary(words)
