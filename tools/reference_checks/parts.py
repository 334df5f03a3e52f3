"""Parts on recorded input: losses, deformable attention, panoptic quality, SAM ViT-T."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from reference_checks.compare import Row, compare, compare_numbers, split_stride, strided
from reference_checks.reference_model import Case, drawn_weights
from torch import Tensor

from frozenseg.losses import Criterion, HungarianMatcher
from frozenseg.losses.matcher import pack_targets
from frozenseg.metrics import Classes, PanopticEvaluator
from frozenseg.modeling.deformable_encoder import DeformableAttention, MapSizes
from frozenseg.ops.ms_deform_attn import ms_deform_attn, reread_single_level
from frozenseg.structures import PanopticMap, Prediction, Segment, Target
from frozenseg.towers.tiny_vit import TinyVit

Arrays = Mapping[str, np.ndarray]
EXACT = 1e-10  # float64


def check_criterion(case: Case, arrays: Arrays) -> list[Row]:
    """Losses, gradients and matches on the recorded random points."""
    rows: list[Row] = []
    for scenario, facts in case.items():
        if isinstance(facts, dict) and "draw_shapes" in facts:
            rows += _check_scenario(case, scenario, arrays)
    return rows + _others(arrays, rows, r".*_(pred|target\d+)_.*|.*_drawn_points")


def _check_scenario(case: Case, scenario: str, arrays: Arrays) -> list[Row]:
    facts, config = case[scenario], case["config"]
    logits, masks = (
        torch.from_numpy(arrays[f"{scenario}_pred_{name}"]).requires_grad_()
        for name in ("logits", "masks")
    )
    predictions = [Prediction(*layer) for layer in zip(logits, masks, strict=True)]
    targets = [
        Target(
            *(torch.from_numpy(arrays[f"{scenario}_target{b}_{n}"]) for n in ("labels", "masks"))
        )
        for b in range(facts["images"])
    ]
    drawn = _Replay(arrays[f"{scenario}_drawn_points"])
    matcher = HungarianMatcher(
        class_weight=config["cost_class"],
        mask_weight=config["cost_mask"],
        dice_weight=config["cost_dice"],
        num_points=config["num_points"],
    )
    criterion = Criterion(
        matcher=matcher,
        class_weight=1.0,
        mask_weight=1.0,
        dice_weight=1.0,
        no_object_weight=config["eos_coef"],
        num_points=config["num_points"],
        oversample_ratio=config["oversample_ratio"],
        importance_ratio=config["importance_sample_ratio"],
        draw=drawn,
    )
    losses = criterion(predictions, targets)
    weights = config["loss_weights"]
    weighted = [weights["_".join(n.split("_")[:2])] * loss for n, loss in losses.items()]
    total = torch.stack(weighted).sum()
    total.backward()
    numbers = {name: loss.item() for name, loss in losses.items()}
    rows = [
        compare_numbers(f"{scenario} losses", numbers, facts["losses"], tolerance=1e-5),
        compare_numbers(
            f"{scenario} total",
            {"weighted_total": total.item()},
            {"weighted_total": facts["weighted_total"]},
            tolerance=1e-5,
        ),
        _check_matches(case, scenario, matcher, predictions, targets, arrays),
    ]
    for tensor, name in ((logits, f"{scenario}_grad_logits"), (masks, f"{scenario}_grad_masks")):
        if name in arrays and tensor.grad is not None:
            rows.append(compare(name, tensor.grad, arrays[name], tolerance=1e-5))
    return rows


def _check_matches(
    case: Case,
    scenario: str,
    matcher: HungarianMatcher,
    predictions: Sequence[Prediction],
    targets: Sequence[Target],
    arrays: Arrays,
) -> Row:
    facts, shapes = case[scenario], list(case[scenario]["draw_shapes"])
    numbers = _Replay(arrays[f"{scenario}_drawn_points"])
    num_images, per_layer = facts["images"], len(shapes) // len(predictions)
    layers = [len(predictions) - 1, *range(len(predictions) - 1)]  # the final one draws first
    wrong = 0
    for index, (layer, wanted) in enumerate(zip(layers, facts["matched"], strict=True)):
        draws = [numbers(shape) for shape in shapes[index * per_layer : (index + 1) * per_layer]]
        points = torch.cat(draws[:num_images])
        (match,) = matcher([predictions[layer]], pack_targets(targets), [points])
        for image, pairs in enumerate(wanted):
            own = match.image_ids == image
            found = (match.query_ids[own].tolist(), match.target_ids[own].tolist())
            wrong += found != (pairs["query"], pairs["target"])
    verdict = "fail" if wrong else "pass"
    return Row(f"{scenario} matched", verdict, float(wrong), None, 0.0, "wrong matchings")


class _Replay:
    """Hands out recorded numbers in the order in which they were drawn."""

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers, self.used = torch.from_numpy(numbers), 0

    def __call__(self, shape: Sequence[int], device: object = None) -> Tensor:
        start, self.used = self.used, self.used + math.prod(shape)
        return self.numbers[start : self.used].reshape(*shape)


def check_attention(case: Case, arrays: Arrays) -> list[Row]:
    """The operator and the module, on three maps, and on one as the official kernel reads it."""
    rows: list[Row] = []
    for prefix in ("", "single_"):
        if f"{prefix}value" in arrays:
            rows += _check_operator(arrays, prefix)
    for prefix, sizes in (
        ("module_three_", "spatial_shapes"),
        ("module_one_", "single_spatial_shapes"),
    ):
        if f"{prefix}query" in arrays:
            rows.append(_check_module(case["module"], arrays, prefix, sizes))
    inputs = r".*(spatial_shapes|level_start_index|value|sampling_locations|attention_weights|"
    return rows + _others(arrays, rows, inputs + r"grad_output|query|input|reference_points)")


def _check_operator(arrays: Arrays, prefix: str) -> list[Row]:
    names = ("value", "sampling_locations", "attention_weights")
    value, locations, weights = (
        torch.from_numpy(arrays[prefix + name]).requires_grad_() for name in names
    )
    shapes = torch.from_numpy(arrays[f"{prefix}spatial_shapes"])
    used = (locations, weights)
    if len(shapes) < locations.shape[3]:
        used = _read_as_the_official_kernel(*used)
    starts = F.pad(shapes.prod(dim=1).cumsum(0)[:-1], (1, 0))
    output = ms_deform_attn(value, shapes, starts, *used)
    gradient = torch.from_numpy(arrays[f"{prefix}grad_output"])
    gradients = torch.autograd.grad(output, (value, locations, weights), gradient)
    ours = {"output": output} | {f"grad_{n}": g for n, g in zip(names, gradients, strict=True)}
    return [
        compare(prefix + name, tensor, arrays[prefix + name], tolerance=EXACT)
        for name, tensor in ours.items()
        if prefix + name in arrays
    ]


def _check_module(facts: Case, arrays: Arrays, prefix: str, sizes_name: str) -> Row:
    module = DeformableAttention(
        dim=facts["d_model"],
        num_heads=facts["n_heads"],
        num_levels=facts["n_levels"],
        num_points=facts["n_points"],
    ).double()
    module.load_state_dict(drawn_weights(facts["weights"]))
    query, values = (torch.from_numpy(arrays[prefix + name]) for name in ("query", "input"))
    places = torch.from_numpy(arrays[f"{prefix}reference_points"])[0, :, 0]
    sizes = torch.from_numpy(arrays[sizes_name])
    points = module.points(query, places, sizes)
    if len(sizes) < facts["n_levels"]:
        points = _read_as_the_official_kernel(*points)
    maps = MapSizes([tuple(size) for size in sizes.tolist()], sizes)
    output = module.gather(module.project(values), maps, *points)
    return compare(f"{prefix}output", output, arrays[f"{prefix}output"], tolerance=EXACT)


def _read_as_the_official_kernel(locations: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Through the borders between images, which the model itself respects."""
    read = reread_single_level(locations.flatten(0, 1)[None], weights.flatten(0, 1)[None])
    first, second = (tensor[0].unflatten(0, locations.shape[:2]) for tensor in read)
    return first, second


def check_panoptic_quality(case: Case, arrays: Arrays) -> list[Row]:
    """PQ, SQ and RQ over all recorded images, averaged and per class."""
    categories = case["categories"]
    class_ids = {category["id"]: index for index, category in enumerate(categories)}
    is_thing = [bool(category["isthing"]) for category in categories]

    def read(ids: np.ndarray, segments: Iterable[Case]) -> PanopticMap:
        records = [
            Segment(
                id=segment["id"],
                class_id=class_ids[segment["category_id"]],
                is_thing=is_thing[class_ids[segment["category_id"]]],
                is_crowd=bool(segment.get("iscrowd", 0)),
                area=segment.get("area", 0),
            )
            for segment in segments
        ]
        return PanopticMap(torch.from_numpy(ids), tuple(records))

    evaluator = PanopticEvaluator(Classes(len(is_thing), is_thing=is_thing))
    pairs = zip(case["pred_annotations"], case["gt_annotations"], strict=True)
    for i, (predicted, annotated) in enumerate(pairs):
        evaluator.process(
            read(arrays[f"pred_{i}"], predicted["segments_info"]),
            read(arrays[f"gt_{i}"], annotated["segments_info"]),
        )
    metrics, results = evaluator.evaluate(), case["results"]
    rows = []
    for group, prefix in (("All", ""), ("Things", "things/"), ("Stuff", "stuff/")):
        ours = {
            name: metrics[f"panoptic/{prefix}{name.upper()}"] / 100 for name in ("pq", "sq", "rq")
        }
        wanted = {name: results[group][name] for name in ours}
        rows.append(compare_numbers(group, ours, wanted, tolerance=1e-9))
    for row, category in zip(evaluator.per_class(), categories, strict=True):
        wanted = results["per_class"][str(category["id"])]
        ours = {name: float(np.nan_to_num(row[name.upper()])) / 100 for name in ("pq", "sq", "rq")}
        name = f"class {category['id']}"
        rows.append(compare_numbers(name, ours, {n: wanted[n] for n in ours}, tolerance=1e-9))
    return rows + _others(arrays, rows, r"(gt|pred)_\d+")


def check_sam_vit_t(case: Case, arrays: Arrays) -> list[Row]:
    """MobileSAM's image encoder.

    The recorded run had cached its attention biases, as zeros, before it took its weights over;
    that is asked of ours too if the output as it should be does not agree.
    """
    encoder = TinyVit().eval()
    state = drawn_weights(case["weights"], prefix="image_encoder.")
    encoder.load_state_dict(encoder.state_dict() | state)
    image = torch.from_numpy(arrays["input_lowres"])
    side = encoder.img_size
    image = F.interpolate(image, size=(side, side), mode="bilinear", align_corners=False)
    (name,) = (name for name in arrays if name.startswith("output"))
    count = float(sum(parameter.numel() for parameter in encoder.parameters()))
    counts = {"parameters": count}, {"parameters": float(case["parameters_encoder"])}
    rows = [compare_numbers("parameters_encoder", *counts, tolerance=0.0)]
    row = _encoder_row(encoder, image, name, arrays[name], case["tolerance_abs"])
    if row.verdict == "fail":
        for parameter_name, parameter in encoder.named_parameters():
            if parameter_name.endswith("attention_biases"):
                torch.nn.init.zeros_(parameter)
        row = _encoder_row(encoder, image, name, arrays[name], case["tolerance_abs"])
        row = row._replace(note="without attention biases, as it was recorded")
    rows.append(row)
    return rows + _others(arrays, rows, "input_lowres")


@torch.no_grad()
def _encoder_row(
    encoder: TinyVit, image: Tensor, name: str, recorded: np.ndarray, tolerance: float
) -> Row:
    output = strided(encoder(image), split_stride(name)[1])
    return compare(name, output, recorded, tolerance=tolerance)


def _others(arrays: Arrays, rows: list[Row], inputs: str) -> list[Row]:
    compared = {row.name for row in rows}
    return [
        Row(name, "not compared", note="input")
        if re.fullmatch(inputs, name)
        else Row(name, "unknown")
        for name in arrays
        if name not in compared
    ]
