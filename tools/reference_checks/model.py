"""A whole model on recorded images: everything that has a name on the way to the results."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from fvcore.common.config import CfgNode
from reference_checks import coat, mask_adapter, ovr
from reference_checks.compare import Row, compare, split_stride, strided
from reference_checks.reference_model import Case, build_reference, reference_vocabularies
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from frozenseg.builders.segmenter import output_settings
from frozenseg.inference.mask_ensemble import MaskEnsemble
from frozenseg.inference.predictor import Predictor
from frozenseg.modeling.frozenseg import FrozenSeg, Output
from frozenseg.ops.maps import size_of
from frozenseg.ops.mask_pooling import binary_masks
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.pipeline.region_classifiers.mask_adapter import AdaptedMaps
from frozenseg.pipeline.region_classifiers.pooled_map import PooledMap, stretched_masks
from frozenseg.sam_masks.generator import SamMasks
from frozenseg.structures import (
    ClipMap,
    Frame,
    InputImage,
    Instances,
    PanopticMap,
    Proposals,
    Regions,
    Result,
)
from frozenseg.towers.clip import ClipTower, ResNetClip
from frozenseg.vocabulary.templates import VILD_TEMPLATES
from frozenseg.vocabulary.text_classifier import build_text_classifier

Arrays = Mapping[str, np.ndarray]
Values = dict[str, Tensor]  # by recorded name, without the axis of images
MakeResult = Callable[..., Result]

# the first pattern that fits a name says how near ours must come
TOLERANCES = (
    (r"tokens_.*|category_overlapping_mask|inst_classes|.*masks_kept", 0.0),
    (r"pred_masks.*", 1e-3),
    (r"grad_.+", 1e-12),  # relative to the largest value
    (r"pred_logits.*|.*log_probs.*|.*_logits", 3e-4),
    (r".*sem_seg.*", 2e-4),
    (r".*", 1e-4),  # features, embeddings, scores
)
AREA_TOLERANCE = 1e-3  # of the largest one
FLOAT32_DIGITS = 1e-5  # of the largest value: no more can be asked
SAME_PIXELS = 0.999
NOT_COMPARED = (
    (r"(image|sam_masks)(_.+)?", "input"),
    (r"(.+_)?variant_all_points_.+", "not the official function"),
    (
        r"(.+_)?(sam_region_embedding|sam_cls_logits|panoptic_mode_sem_seg|semantic_only_sem_seg)",
        "official pooling displaces SAM's masks",
    ),
)


FAMILY_NOT_COMPARED = {  # by the name of the case
    "ovrcoat": (*coat.NOT_COMPARED, *ovr.NOT_COMPARED),
    "mask_adapter_fcclip": mask_adapter.NOT_COMPARED,
}


class Scene(NamedTuple):
    """One recorded image and what the description says of it."""

    prefix: str  # of its arrays
    image: str
    sam_masks: str
    output_size: tuple[int, int]
    segments: Mapping[str, list[dict[str, Any]]]  # by overlap threshold
    masks_kept: list[int] | None


def check_model(case: Case, arrays: Arrays) -> list[Row]:
    """Compares in float32; what then fails is looked at again in float64.

    Masks are cut at zero in three places. A logit within rounding of zero can fall on the other
    side than in the recorded run, and whatever depends on it then differs without a fault. So a
    failure is forgiven if there is such a logit and float64, where there is hardly any rounding,
    agrees.
    """
    model, cfg = build_reference(case)
    single = Inspection(model, cfg, case, arrays)
    rows = single.rows()
    if all(row.verdict != "fail" for row in rows):
        return rows
    double = Inspection(model.double(), cfg, case, arrays)
    flips = sum(_count_flips(single.outputs[p], double.outputs[p]) for p in single.outputs)
    if not flips:
        return rows
    note = f"float64; in float32 {flips} mask cells within rounding of 0 flip"
    return [
        again._replace(note=note) if (row.verdict, again.verdict) == ("fail", "pass") else row
        for row, again in zip(rows, double.rows(), strict=True)
    ]


def _count_flips(single: Output, double: Output) -> int:
    """Cells that a mask covers in one precision only, at the sizes that masks are cut at."""
    height, width = double.clip_map.shape[-2:]
    sizes = [(height * factor, width * factor) for factor in (1, 2, 4, 8)]
    return sum(
        int((binary_masks(one.mask_logits, size) != binary_masks(two.mask_logits, size)).sum())
        for one, two in zip(single.predictions, double.predictions, strict=True)
        for size in sizes
    )


class Inspection:
    """All values that a model, in the precision that it is in, gives for the scenes of a case."""

    @torch.no_grad()
    def __init__(self, system: SegmentationModel, cfg: CfgNode, case: Case, arrays: Arrays) -> None:
        assert isinstance(system.proposer, FrozenSeg), "the cases are of FrozenSeg and FC-CLIP"
        assert isinstance(system.region_classifier, (PooledMap, AdaptedMaps)), "as there"
        assert isinstance(system.text_encoder, ClipTower), "as in the official code"
        self.model, self.regions, self.arrays = system.proposer, system.region_classifier, arrays
        clip = system.text_encoder
        training, test = reference_vocabularies(case)
        words = [word for synonyms in test.synonyms for word in synonyms]
        encode = clip.encode_text
        self.text = build_text_classifier(encode, test)
        self.predictor = Predictor(
            model=system,
            text=self.text,
            is_thing=torch.tensor(test.is_thing),
            seen=torch.tensor(test.seen_by(training)),
            settings=replace(
                output_settings(cfg), semantic=True, class_maps=True, panoptic=True, instance=True
            ),
        )
        self.epsilon = case.get("sam_mask_pred_alpha", 0.2)
        self.not_compared = FAMILY_NOT_COMPARED.get(case.get("case", ""), ())
        self.values: Values = {
            "tokens_template0": clip.tokenize([VILD_TEMPLATES[0].format(w) for w in words]),
            "text_raw_first14": encode([t.format(words[0]) for t in VILD_TEMPLATES]),
            "text_classifier": self.text.embeddings,
            "category_overlapping_mask": self.predictor.seen,
        }
        self.system, self.cfg, self.case = system, cfg, case
        self.training_text = build_text_classifier(encode, training)
        self.losses: list[Row] = []
        self.outputs: dict[str, Output] = {}
        self.make_result: dict[str, MakeResult] = {}
        scenes = list(_scenes(case))
        self.values["train_text_classifier"] = self._with_void(self.training_text.embeddings)
        self.missing = [scene.image for scene in scenes if scene.image not in arrays]
        self.scenes = {scene.prefix: scene for scene in scenes if scene.image in arrays}
        for scene in self.scenes.values():
            own = self._values_of(scene)
            self.values |= {scene.prefix + name: value for name, value in own.items()}

    def rows(self) -> list[Row]:
        """One per recorded array, and one per list of kept masks."""
        rows = [Row(name, "fail", note="the input is missing") for name in self.missing]
        rows += [self._row(name, recorded) for name, recorded in self.arrays.items()]
        rows += self.losses
        for scene in self.scenes.values():
            name = f"{scene.prefix}variant_aligned_masks_kept"
            if scene.masks_kept is not None and name in self.values:
                rows.append(self._row(name, np.array(scene.masks_kept)))
        return rows

    def _row(self, name: str, recorded: np.ndarray) -> Row:
        full, stride = split_stride(name)
        prefix = next((p for p in self.scenes if p and full.startswith(p)), "")
        base = full.removeprefix(prefix)
        match = re.fullmatch(r"panoptic_(?:(\d[\d.]*)_overlap_)?(\d[\d.]*)", base)
        if match and prefix in self.make_result:
            thresholds = {"overlap_threshold": float(match[2])}
            if match[1]:
                thresholds["object_threshold"] = float(match[1])
            result = self.make_result[prefix](**thresholds)
            segments = self.scenes[prefix].segments.get(base.removeprefix("panoptic_"))
            return _panoptic_row(name, result.panoptic, recorded, segments)
        patterns = self.not_compared if full in self.values else (*self.not_compared, *NOT_COMPARED)
        reasons = (reason for pattern, reason in patterns if re.fullmatch(pattern, base))
        if reason := next(reasons, None):
            return Row(name, "not compared", note=reason)
        if full not in self.values:
            return Row(name, "unknown")
        ours = self.values[full]
        if base in ("pred_logits", "pred_masks") and recorded.ndim < ours.ndim:
            ours = ours[-1]
        tolerance = next(value for pattern, value in TOLERANCES if re.fullmatch(pattern, base))
        relative = FLOAT32_DIGITS if tolerance else 0.0
        if base in ("inst_areas", "inst_row_sums", "inst_col_sums"):
            relative = AREA_TOLERANCE
        ours = strided(ours, stride)
        return compare(name, ours, recorded, tolerance=tolerance, relative=relative)

    def _values_of(self, scene: Scene) -> Values:
        image = torch.from_numpy(self.arrays[scene.image]).float()
        values, output = self._forward(image)
        frame = Frame(output.padded_size, output.image_sizes[0])
        clip_map = ClipMap(output.clip_map, frame, self.model.backbone)
        class_logits, mask_logits = (value[0] for value in output.predictions[-1])
        proposals = Proposals(mask_logits, frame, class_logits, clip_map)
        shown = InputImage(image, image.to(torch.uint8), scene.output_size)
        probs = self.predictor.class_probs(shown, proposals)
        regions = self.regions(shown, proposals)

        def make_result(ensemble: MaskEnsemble | None = None, **changes: Any) -> Result:
            other = self.predictor.with_settings(replace(self.predictor.settings, **changes))
            other.mask_ensemble = ensemble
            sam_masks = None
            if ensemble is not None:
                sam_masks = torch.from_numpy(self.arrays[scene.sam_masks])
            return other.outputs(shown._replace(sam_masks=sam_masks), proposals, probs)

        self.outputs[scene.prefix], self.make_result[scene.prefix] = output, make_result
        values |= {
            "clip_region_embedding": regions.embeddings,
            "clip_region_logits": self._logits(regions),
            "final_log_probs": (probs.general + 1e-8).log(),
            "sem_seg": make_result().class_maps,
            "sem_seg_semantic_only": make_result(panoptic=False, instance=False).class_maps,
            **_instance_values(make_result().instances, self.arrays, scene.prefix),
        }
        rule = self.predictor.model.fusion
        if isinstance(rule, coat.Coat):
            logits = self.text.logits(regions.embeddings, regions.logit_scale)
            values |= coat.coat_values(rule, class_logits, logits, self.predictor.seen)
        if "train_out_vocab_probs" in self.arrays:
            trained, self.losses = ovr.training_rows(
                self.system,
                self.cfg,
                self.case,
                self.arrays,
                self.training_text,
                image,
                mask_logits,
            )
            values |= trained
        if isinstance(self.regions, AdaptedMaps):
            values |= mask_adapter.adapter_values(
                self.regions, clip_map, mask_logits, self._logits(regions)
            )
            trained, losses = mask_adapter.training_rows(
                self.system,
                self.cfg,
                self.case,
                self.arrays,
                self.training_text,
                clip_map,
                mask_logits,
            )
            values |= trained
            self.losses = [losses]
        if scene.sam_masks in self.arrays:
            values |= self._ensembled(
                torch.from_numpy(self.arrays[scene.sam_masks]), clip_map, make_result
            )
        return {name: value for name, value in values.items() if value is not None}

    def _logits(self, regions: Regions) -> Tensor:
        return self.text.logits(regions.embeddings, regions.logit_scale, void=self.model.void)

    def _with_void(self, rows: Tensor) -> Tensor:
        """Adds the void row where the official code keeps it among the text rows."""
        if not isinstance(self.regions, AdaptedMaps):
            return rows
        return torch.cat([rows, nn.functional.normalize(self.model.void, dim=-1)[None]])

    def _ensembled(self, masks: Tensor, clip_map: ClipMap, make_result: MakeResult) -> Values:
        frame = Frame(size_of(masks), size_of(masks))
        masks = masks.to(clip_map.features)
        assert isinstance(self.regions, PooledMap), "SAM's masks were recorded with it"
        regions = self.regions.embed(clip_map, stretched_masks(Proposals(masks, frame), clip_map))
        logits, seen = self._logits(regions), self.predictor.seen
        ensemble = MaskEnsemble(_no_source, self.regions, epsilon=self.epsilon)
        kept = (logits.softmax(dim=-1)[:, :-1].masked_fill(seen, 0) > 0.5).any(dim=-1)
        both = make_result(ensemble).class_maps
        alone = make_result(ensemble, panoptic=False, instance=False).class_maps
        assert both is not None and alone is not None, "semantic output is on"
        values: Values = {
            "masks_kept": kept,
            "sam_region_embedding": regions.embeddings,
            "sam_cls_logits": logits,
            "sem_seg": both,
            "panoptic_mode_sem_seg": both,
            "semantic_only_sem_seg": alone,
        }
        aligned = {f"variant_aligned_{name}": value for name, value in values.items()}
        if any(side % 32 for side in size_of(clip_map.features)):
            return aligned
        del values["sem_seg"]  # the recorded one is without SAM's masks
        return aligned | values  # the official padding has nothing to add here

    def _forward(self, image: Tensor) -> tuple[Values, Output]:
        """One forward pass, overheard at every place that has a recorded name."""
        heard: dict[str, tuple[Any, Any]] = {}
        with ExitStack() as hooks:
            for name, module in _places(self.model).items():

                def listen(_: nn.Module, given: Any, result: Any, name: str = name) -> None:
                    heard[name] = given, result

                hooks.callback(module.register_forward_hook(listen).remove)
            output = self.model([image], self.text, every_layer=True)
        clip, pixels = heard["clip"][1], heard["pixels"][1]
        values = {f"clip_res{level + 2}": value for level, value in enumerate(clip.levels)}
        values |= {f"multi_scale_{level}": value for level, value in enumerate(pixels.levels)}
        values |= {
            "clip_stem": heard["stem"][1],
            "clip_vis_dense": clip.clip_map,
            "mask_features": pixels.mask_features,
        }
        if self.model.sam is not None:
            values["sam_input"], values["sam_embedding"] = heard["sam"][0][0], heard["sam"][1]
        if pixels.sam is not None:
            values["sam_fpn3"], values["sam_branch"] = heard["reduce"][1], pixels.sam
        values = {name: value[0] for name, value in values.items()}
        for name in ("class_logits", "mask_logits"):
            heads = torch.stack([getattr(p, name)[0] for p in output.predictions])
            recorded = {"class_logits": "pred_logits", "mask_logits": "pred_masks"}[name]
            values |= {recorded: heads, f"{recorded}_last": heads[-1]}
        return values, output


def _places(model: FrozenSeg) -> dict[str, nn.Module]:
    clip: Any = model.backbone
    visual = clip.model.visual
    stem = visual.avgpool if isinstance(clip, ResNetClip) else visual.trunk.stem
    places = {"clip": clip, "stem": stem, "pixels": model.pixel_decoder}
    if model.sam is not None:
        places["sam"] = model.sam.model.image_encoder
    if model.pixel_decoder.sam_branch is not None:
        places["reduce"] = model.pixel_decoder.sam_branch.reduce
    return places


def _scenes(case: Case) -> Iterator[Scene]:
    if "images" not in case:
        size = tuple(case["input"]["output_height_width"])
        yield Scene("", "image", "sam_masks", size, case.get("panoptic", {}), None)
        return
    for name, facts in case["images"].items():
        yield Scene(
            prefix=f"{name}_",
            image=f"image_{name}",
            sam_masks=f"sam_masks_{name}",
            output_size=tuple(facts["output"]),
            segments=facts.get("panoptic", {}),
            masks_kept=facts.get("variant_aligned_masks_kept"),
        )


def _no_source(_: Tensor) -> SamMasks:
    raise AssertionError("SAM's masks are recorded")


def _panoptic_row(
    name: str, ours: PanopticMap | None, recorded: np.ndarray, segments: list[dict[str, Any]] | None
) -> Row:
    assert ours is not None, "asked for above"
    wanted = torch.from_numpy(np.asarray(recorded, np.int64))
    if wanted.shape != ours.ids.shape:
        return Row(
            name, "fail", note=f"size {tuple(ours.ids.shape)}, recorded {tuple(wanted.shape)}"
        )
    same = (ours.ids == wanted).float().mean().item()
    found = [(s.id, s.is_thing, s.class_id) for s in ours.segments]
    listed = [(s["id"], s["isthing"], s["category_id"]) for s in segments or ()]
    agree = segments is None or found == listed
    note = f"{100 * same:.2f} % of pixels" + ("" if agree else f", segments {found}, not {listed}")
    verdict = "pass" if same >= SAME_PIXELS and agree else "fail"
    return Row(name, verdict, 1 - same, 1 - same, 1 - SAME_PIXELS, note)


def _instance_values(ours: Instances | None, arrays: Arrays, prefix: str) -> Values:
    """Ours in the order of the recorded ones: equal scores have no order of their own."""
    assert ours is not None, "asked for above"
    rows, columns = (torch.arange(side) for side in ours.masks.shape[-2:])
    values = {
        "inst_scores": ours.scores,
        "inst_classes": ours.class_ids,
        "inst_areas": ours.masks.sum(dim=(1, 2)),
        "inst_row_sums": (ours.masks.sum(dim=2) * rows).sum(dim=1),
        "inst_col_sums": (ours.masks.sum(dim=1) * columns).sum(dim=1),
    }
    recorded = {
        name: torch.from_numpy(np.asarray(arrays[prefix + name], np.float64))
        for name in values
        if prefix + name in arrays
    }
    if any(len(wanted) != len(ours.scores) for wanted in recorded.values()):
        return values
    scales = {"inst_scores": 1e-4, "inst_classes": 1e-3}  # what counts as one unit of difference
    cost = sum(
        (wanted[:, None] - values[name].double()).abs() / scales.get(name, 10.0)
        for name, wanted in recorded.items()
    )
    if not isinstance(cost, Tensor):
        return values
    order = torch.from_numpy(linear_sum_assignment(cost.numpy())[1])
    return {name: value[order] for name, value in values.items()}
