"""Speed and memory of a model (Table 6): parameters, multiply-adds, times, peak memory."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from frozenseg.analysis.parameter_summary import Size as PartSize
from frozenseg.analysis.parameter_summary import summarize
from frozenseg.builders.frozenseg import frozenseg_outline
from frozenseg.builders.model import build_model, model_outline
from frozenseg.builders.sam_masks import build_mask_generator
from frozenseg.builders.segmenter import build_segmenter
from frozenseg.builders.trunk import trains_scale, trains_trunk
from frozenseg.builders.vocabularies import build_test_vocabulary
from frozenseg.errors import UserError
from frozenseg.inference.predictor import Predictor, Size
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.modeling.maskformer.maskformer import MaskFormer
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.pipeline.protocols import Proposer, RegionClassifier
from frozenseg.pipeline.region_classifiers.masked_crops import Crops, MaskedCrops
from frozenseg.runtime.progress import peak_memory_gib
from frozenseg.structures import InputImage, Proposals
from frozenseg.towers.clip import ConvNeXtClip
from frozenseg.vocabulary.text_classifier import TextClassifier
from frozenseg.vocabulary.two_spaces import TwoSpaces

SAMPLE_WORK = 5  # multiply-adds of one bilinear sample and its weight, for each channel
STAGES = {  # parts of the model by what is measured there
    "CLIP image encoder": "backbone",
    "SAM image encoder": "sam",
    "pixel decoder": "pixel_decoder",
    "transformer decoder": "transformer_decoder",
}
SAM_MASKS = "SAM's masks (eq. 4)"
ENSEMBLE = "class ensemble (eq. 3)"
CROPS = "CLIP on crops, and fusion"
POSTPROCESSING = "post-processing"


@dataclass(frozen=True)
class Speed:
    """Times of a model on images, one at a time, from pixels to results.

    ``stages`` are medians in milliseconds, each waited for by itself; ``images_per_second`` is of
    whole passes that nobody interrupts. The memory is the device's, or the process's on a CPU.
    """

    images_per_second: float
    stages: dict[str, float]
    peak_memory_gib: float


def count_parameters(cfg: CfgNode) -> list[PartSize]:
    """Trained and frozen parameters of each part; nothing is downloaded for it."""
    keys = cfg.MODEL.PIPELINE
    whole = keys.PROPOSER == "maskformer" or keys.REGION_CLASSIFIER != "pooled_map"
    whole = whole or keys.TEXT_ROWS == "content"
    outline = model_outline(cfg) if whole else frozenseg_outline(cfg)
    if trains_trunk(cfg):
        proposer = outline.proposer if isinstance(outline, SegmentationModel) else outline
        if isinstance(proposer, FrozenSeg) and isinstance(proposer.backbone, ConvNeXtClip):
            proposer.backbone.unfreeze_trunk(with_scale=trains_scale(cfg))
    from_weights = cfg.MODEL.WEIGHTS_TOWERS == "use" and not trains_trunk(cfg)
    return summarize(outline, clip_from_weights=from_weights)


def count_multiply_adds(cfg: CfgNode, image_size: Size, num_rows: int) -> dict[str, int]:
    """Of matrix products, convolutions and attention, part by part, for one image.

    Nothing is computed: the shapes alone say it. Norms, activations and sums are not counted.

    Args:
        num_rows: of the text classifier, one for each synonym.
    """
    model = model_outline(cfg).eval().requires_grad_(False)
    text = random_classifier(num_rows, num_rows, model.text_encoder.embed_dim).to("meta")
    pixels = torch.empty(3, *image_size, device="meta")
    image = InputImage(pixels, pixels, image_size)
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.frozenseg.ms_deform_attn: _sampling_work}
    )
    with counter:
        (proposals,) = model.proposer.propose([image], text)
        text.logits(_embed_regions(model.region_classifier, image, proposals), 1.0)
    counts, owner = counter.get_flop_counts(), type(model.proposer).__name__
    parts = {
        title: sum(counts.get(f"{owner}.{name}", {}).values()) // 2
        for title, name in stages_of(model.proposer).items()
    }
    total = counter.get_total_flops() // 2
    return {"all": total, **parts, "the rest": total - sum(parts.values())}


def _embed_regions(
    regions: RegionClassifier, image: InputImage, proposals: Proposals
) -> torch.Tensor:
    """Returns an image's region embeddings on the meta device; every mask counts as valid."""
    if not isinstance(regions, MaskedCrops):
        return regions(image, proposals).embeddings
    size, num_masks = regions.clip.image_size, len(proposals.mask_logits)
    boxes, pixels = (torch.empty(num_masks, *shape, device="meta") for shape in ((4,), (3, *size)))
    inside = torch.empty(num_masks, *size, dtype=torch.bool, device="meta")
    return regions.embed(Crops(pixels, inside, boxes, inside.flatten(1).any(dim=1)))


def stages_of(proposer: Proposer) -> dict[str, str]:
    """Returns the names of a proposer's parts by what is measured there."""
    if not isinstance(proposer, MaskFormer):
        return STAGES
    return {"backbone": "backbone"} | {
        title: name for title, name in STAGES.items() if name.endswith("decoder")
    }


def _sampling_work(
    value: Any, spatial_shapes: Any, level_start: Any, locations: Any, *_: Any, **__: Any
) -> int:
    """Floating-point operations of deformable attention, from the shapes of its arguments."""
    batch, queries, heads, levels, points, _two = locations
    return 2 * SAMPLE_WORK * batch * queries * heads * levels * points * value[-1]


def random_classifier(num_classes: int, num_rows: int, embed_dim: int) -> TextClassifier:
    """Rows for words that nobody chose: speed does not depend on what they are."""
    class_ids = torch.arange(num_rows) % num_classes
    return TextClassifier(F.normalize(torch.randn(num_rows, embed_dim), dim=-1), class_ids)


def build_predictor(cfg: CfgNode, *, random: bool = False) -> tuple[Predictor, int]:
    """The configured model with the words of its test set, and how many words there are.

    Masks of SAM, where they are used, are made every time.

    Args:
        random: take fresh weights, and rows at random for the words.

    Raises:
        UserError: the model is not one of single passes.
    """
    words = build_test_vocabulary(cfg, cfg.DATASETS.TEST[0])
    num_rows = sum(map(len, words.synonyms))
    segmenter = build_segmenter(cfg, model=build_model(cfg) if random else None)
    text = None
    if random:
        text = _random_rows(segmenter.model, len(words), num_rows).to(segmenter.device)
    predictor = segmenter.build_predictor(words, text=text)
    if not isinstance(predictor, Predictor):
        raise UserError("only a trained model of single passes is measured: turn TEST.AUG off")
    if predictor.mask_ensemble is not None:
        source, _ = build_mask_generator(cfg)
        predictor.mask_ensemble = predictor.mask_ensemble._replace(source=source)
    return predictor, num_rows


def _random_rows(
    model: SegmentationModel, num_classes: int, num_rows: int
) -> TextClassifier | TwoSpaces:
    rows = random_classifier(num_classes, num_rows, model.text_encoder.embed_dim)
    if model.region_text_encoder is None:
        return rows
    width = model.region_text_encoder.embed_dim
    return TwoSpaces(rows, random_classifier(num_classes, num_rows, width))


def measure_speed(
    predictor: Predictor, images: Sequence[InputImage], *, repeats: int = 1, warm_up: int = 1
) -> Speed:
    """Times a model over images, one at a time.

    Args:
        predictor: the model with its vocabulary.
        images: at the sizes that the model sees.
        repeats: passes over all images.
        warm_up: images that are segmented once before the clock starts.
    """
    device = predictor.seen.device
    for image in images[:warm_up]:
        predictor([image])
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = [
        _seconds(lambda image=image: predictor([image]), device)
        for _ in range(repeats)
        for image in images
    ]
    memory = peak_memory_gib(device)
    clock = StageClock(device)
    for image in images:
        _measure_stages(predictor, image, clock)
    return Speed(1 / mean(seconds), clock.medians(), memory)


class StageClock:
    """Collects how long stages take; each begins and ends with an idle device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = _now(self.device)
        yield
        self._seconds[name].append(_now(self.device) - began)

    @contextmanager
    def hooked(self, name: str, module: nn.Module) -> Iterator[None]:
        """Times every forward pass of a module as a stage."""
        began: list[float] = []
        before = module.register_forward_pre_hook(lambda *_: began.append(_now(self.device)))
        after = module.register_forward_hook(
            lambda *_: self._seconds[name].append(_now(self.device) - began.pop())
        )
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def medians(self) -> dict[str, float]:
        """In milliseconds."""
        return {name: 1000 * median(values) for name, values in self._seconds.items()}


@torch.inference_mode()
def _measure_stages(predictor: Predictor, image: InputImage, clock: StageClock) -> None:
    """Runs the steps of ``Predictor`` for one image, timing each stage."""
    image = image._replace(pixels=image.pixels.to(clock.device))
    if predictor.mask_ensemble is not None:
        with clock.stage(SAM_MASKS):
            image = predictor.with_sam_masks(image)
    with ExitStack() as hooks:
        for title, name in stages_of(predictor.model.proposer).items():
            module = getattr(predictor.model.proposer, name, None)
            if module is not None:
                hooks.enter_context(clock.hooked(title, module))
        (proposals,) = predictor.propose([image])
    crops = isinstance(predictor.model.region_classifier, MaskedCrops)
    with clock.stage(CROPS if crops else ENSEMBLE):
        class_probs = predictor.class_probs(image, proposals)
    with clock.stage(POSTPROCESSING):
        predictor.outputs(image, proposals, class_probs)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    began = _now(device)
    call()
    return _now(device) - began


def _now(device: torch.device) -> float:
    """Once the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
