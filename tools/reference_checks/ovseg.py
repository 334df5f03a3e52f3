"""OVSeg's second stage: crops, mask prompts, text rows, fusion and class maps."""

import re
from collections.abc import Iterator, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from reference_checks.compare import Row, compare
from reference_checks.ovseg_case import LOGIT_SCALE, SecondStage
from reference_checks.reference_model import Case
from torch import Tensor

from frozenseg.inference.best_masks import keep_best_masks
from frozenseg.inference.semantic import class_maps
from frozenseg.pipeline.region_classifiers.masked_crops import Crops
from frozenseg.towers.clip_vit import CropClip

Arrays = Mapping[str, np.ndarray]
# array, ours, the kind of its tolerance. "exact" is 0. "tokens" is that of features, relative to
# the largest value: tokens reach 11, and the recorded float32 run is itself 1e-5 from float64.
Compared = tuple[str, Tensor, str]

INPUTS = ("image", "mask_logits_q", "pred_embedding")
DEMO_THRESHOLD = 0.35
ARGMAX_SHARE = 1e-3  # of pixels that may differ


@torch.no_grad()
def check_ovseg(case: Case, arrays: Arrays) -> list[Row]:
    """Every recorded array of the second stage, from the recorded image, masks and embeddings.

    Thresholds, exponents and prompt depths are read off the arrays' names.
    """
    stage = SecondStage(case, arrays)
    rows = [
        _row(name, ours, arrays[name], kind, case["tolerances"])
        for name, ours, kind in _computed(case, stage, arrays)
        if name in arrays
    ]
    rows += [Row(name, "not compared", note="input") for name in INPUTS if name in arrays]
    compared = {row.name for row in rows}
    return [*rows, *(Row(name, "unknown") for name in arrays if name not in compared)]


def _row(
    name: str, ours: Tensor, recorded: np.ndarray, kind: str, tolerances: Mapping[str, float]
) -> Row:
    if kind == "argmax":
        if tuple(ours.shape) != recorded.shape:
            return Row(name, "fail", note=f"shape {tuple(ours.shape)}, recorded {recorded.shape}")
        share = float((ours.numpy() != recorded).mean())
        verdict = "pass" if share <= ARGMAX_SHARE else "fail"
        return Row(name, verdict, share, None, ARGMAX_SHARE, "share of pixels that differ")
    relative = tolerances["features"] if kind == "tokens" else 0.0
    allowed = tolerances.get(kind, 0.0)
    return compare(name, ours, recorded, tolerance=allowed, relative=relative)


def _computed(case: Case, stage: SecondStage, arrays: Arrays) -> Iterator[Compared]:
    yield from _text(stage, tokens=arrays["tokens"].shape[-1] if "tokens" in arrays else None)
    yield from _regions(stage)
    yield from _boxes(stage, arrays)
    yield from _inside_the_tower(stage.clip, stage.crops())
    yield from _logits(stage, arrays)
    for setting in _settings(arrays, r"(?:scores|sem)_(.+?)(?:_sub|_sum|_argmax)?"):
        yield from _outputs(case, stage, setting, arrays)


def _settings(arrays: Arrays, pattern: str) -> list[str]:
    matches = (re.fullmatch(pattern, name) for name in arrays)
    return list(dict.fromkeys(match[1] for match in matches if match))


def _text(stage: SecondStage, tokens: int | None) -> Iterator[Compared]:
    prompts = [template.format(name) for template in stage.templates for name in stage.names]
    yield "tokens", stage.clip.tokenize(prompts)[:, :tokens], "exact"
    yield "text_features", stage.rows, "features"
    yield "text_per_template", F.normalize(stage.clip.encode_text(prompts), dim=-1), "features"
    yield "proposal_logits", stage.proposer_logits(), "logits"


def _regions(stage: SecondStage) -> Iterator[Compared]:
    crops, area = stage.crops(), (-2, -1)
    pixels = crops.pixels
    yield "valid", crops.valid, "exact"
    yield "boxes", crops.boxes, "exact"
    yield "region_mask_bits", torch.from_numpy(np.packbits(crops.masks.numpy())), "exact"
    yield "regions_sub", pixels[..., ::8, ::8], "regions"
    yield "regions_sum", pixels.double().sum(area), "region_sums"
    yield "regions_abs_sum", pixels.double().abs().sum(area), "region_sums"
    yield "regions_min", pixels.amin(area), "regions"
    yield "regions_max", pixels.amax(area), "regions"
    yield "patch_keep", ~stage.clip.blank_patches(crops.masks), "exact"


def _boxes(stage: SecondStage, arrays: Arrays) -> Iterator[Compared]:
    for threshold in _settings(arrays, r"boxes_thr(.+)"):
        yield f"boxes_thr{threshold}", stage.crops(float(threshold)).boxes, "exact"
    for ratio in _settings(arrays, r"boxes_expand(.+)"):
        yield f"boxes_expand{ratio}", stage.crops(expansion=float(ratio)).boxes, "exact"


def _inside_the_tower(clip: CropClip, crops: Crops) -> Iterator[Compared]:
    outputs: list[Tensor] = []
    visual = clip.model.visual
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
        for module in (visual.ln_pre, *visual.transformer.resblocks)
    ]
    embeddings = clip.embed_crops(crops.pixels, crops.masks)
    for hook in hooks:
        hook.remove()
    first, blocks = outputs[0], torch.stack(outputs[1:])
    yield "tokens_ln_pre_sub", first[:, ::14, ::8], "tokens"
    yield "block_cls", blocks[:, :, 0], "tokens"
    yield "block_patch_sub", blocks[:, :, 1::14, ::8].transpose(1, 2), "tokens"
    yield f"image_embed_prompt{clip.mask_prompt_depth}_raw", embeddings, "features"


def _logits(stage: SecondStage, arrays: Arrays) -> Iterator[Compared]:
    for setting in _settings(arrays, r"(?:clip_logits|image_features)_(.+)"):
        features, judged = stage.features(**_tower_setting(setting))
        yield f"image_features_{setting}", features[judged], "features"
        yield f"clip_logits_{setting}", LOGIT_SCALE * features[judged] @ stage.rows.T, "logits"


def _tower_setting(setting: str) -> dict:
    """Reads "prompt1_thr0.5" or "noprompt"; nothing said is the case's own."""
    threshold = re.search(r"thr([\d.]+)", setting)
    depth = re.search(r"prompt(\d+)", setting)
    return {
        "threshold": float(threshold[1]) if threshold else None,
        "depth": 0 if "noprompt" in setting else int(depth[1]) if depth else None,
    }


def _outputs(case: Case, stage: SecondStage, setting: str, arrays: Arrays) -> Iterator[Compared]:
    """Yields scores and class maps of one recorded setting."""
    if setting.startswith("demo"):
        yield from _demo(stage, setting, case["one_class_demo_names"])
        return
    exponent = re.match(r"w([\d.]+)", setting)
    if setting == "proposal_only":
        scores, recorded = stage.proposer_logits().softmax(dim=-1), slice(None)
    elif exponent is None:
        return
    else:
        scores, judged = stage.scores(float(exponent[1]), **_tower_setting(setting))
        recorded = slice(None) if float(exponent[1]) else judged
    maps = class_maps(scores[:, :-1], stage.mask_probs)
    if setting.endswith("_resized"):
        size = arrays[f"sem_{setting}_argmax"].shape
        maps = F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
    yield f"scores_{setting}", scores[recorded][:, :-1], "scores"
    yield from _map_arrays(f"sem_{setting}", maps)


def _demo(stage: SecondStage, setting: str, one_class: list[str]) -> Iterator[Compared]:
    names = one_class if setting.endswith("one_class") else None
    scores, judged = stage.scores(0.0, DEMO_THRESHOLD, names=names)
    kept = keep_best_masks(scores, judged, num_shown=1 if names else None)
    masks = (stage.mask_probs > DEMO_THRESHOLD).float()
    yield f"scores_{setting}", kept[judged, :-1], "scores"
    yield from _map_arrays(f"sem_{setting}", class_maps(kept[:, :-1], masks))


def _map_arrays(name: str, maps: Tensor) -> Iterator[Compared]:
    yield f"{name}_sub", maps[:, ::6, ::8], "semantic_maps"
    yield f"{name}_sum", maps.double().sum((-2, -1)), "region_sums"
    yield f"{name}_argmax", maps.argmax(dim=0), "argmax"
