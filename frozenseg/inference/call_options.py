"""The keywords of a call of the segmenter: checked, and applied to a model's own settings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypedDict, get_args

from frozenseg.errors import UserError
from frozenseg.io.text import quoted
from frozenseg.pipeline.fusion.coat import Coat
from frozenseg.pipeline.fusion.geometric import Geometric
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.pipeline.protocols import Fusion
from frozenseg.vocabulary.templates import check_templates

Task = Literal["panoptic", "semantic", "instance"]


class CallOptions(TypedDict, total=False):
    """Options of one call; an option that is not given is the model's.

    Args:
        task: ``panoptic`` (default, if the model gives it): at most one named segment per pixel;
            ``semantic``: a class per pixel; ``instance``: scored, possibly overlapping things.
        bgr: arrays and tensors have OpenCV's order of colours, not RGB.
        alpha: weight of CLIP for classes seen in training, 0 to 1 (eq. 3).
        beta: weight of CLIP for the other classes, 0 to 1.
        threshold: minimum score of a segment, 0 to 1; not for semantic results.
        templates: sentences with one ``{}`` each that class names are embedded in.
    """

    task: Task
    bgr: bool
    alpha: float
    beta: float
    threshold: float
    templates: Sequence[str]


def check_options(options: CallOptions) -> None:
    """Refuses options that do not exist, and values that they cannot have.

    Raises:
        TypeError: an unknown option.
        UserError: a value out of range, or a threshold for semantic results.
    """
    known = CallOptions.__annotations__
    if unknown := [name for name in options if name not in known]:
        raise TypeError(f"unknown option {unknown[0]!r}: options are {', '.join(known)}")
    task = options.get("task", "panoptic")
    if task not in get_args(Task):
        raise UserError(f"no task {quoted(task)}: give {' or '.join(get_args(Task))}")
    for name in ("alpha", "beta", "threshold"):
        value = options.get(name, 0.0)
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise UserError(f"{name} is {quoted(value)}: give a number from 0 to 1")
    if "threshold" in options and task == "semantic":
        raise UserError("semantic results have no scores: omit threshold, or choose another task")
    if "templates" in options:
        check_templates(options["templates"])


def chosen_model(model: SegmentationModel, options: CallOptions) -> SegmentationModel:
    """Returns the model with the ``alpha`` and ``beta`` of a call.

    Raises:
        UserError: its fusion has no such weights.
    """
    given = {"alpha": options.get("alpha"), "beta": options.get("beta")}
    weights = {name: float(value) for name, value in given.items() if value is not None}
    if not weights:
        return model
    panoptic = model.panoptic_fusion
    return model.with_fusions(
        _weighted(model.fusion, weights), panoptic and _weighted(panoptic, weights)
    )


def _weighted(fusion: Fusion, weights: Mapping[str, float]) -> Fusion:
    if isinstance(fusion, Coat):
        return replace(fusion, fusion=_weighted(fusion.fusion, weights))
    if isinstance(fusion, Geometric):
        return replace(fusion, **weights)
    raise UserError(
        f"{' and '.join(weights)} belong to the fusion geometric, which this model does not use: "
        "omit them"
    )
