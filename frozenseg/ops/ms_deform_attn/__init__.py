"""Multi-scale deformable attention, one operator with several implementations.

``torch.ops.frozenseg.ms_deform_attn`` and its backward are declared here, once, for every device.
Kernels compiled from ``csrc`` serve the devices they were built for; all others are served by
:mod:`.reference`, which gives the same numbers, slower, and says so once.
"""

import functools
import logging
from pathlib import Path

import torch
from torch import Tensor

from .reference import reference_backward, reference_forward

__all__ = ["agrees_with_reference", "implementation", "ms_deform_attn", "reread_single_level"]

logger = logging.getLogger(__name__)

_library = torch.library.Library("frozenseg", "FRAGMENT")
_library.define(
    "ms_deform_attn(Tensor value, Tensor spatial_shapes, Tensor level_start,"
    " Tensor sampling_locations, Tensor attention_weights) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_library.define(
    "ms_deform_attn_backward(Tensor grad_output, Tensor value, Tensor spatial_shapes,"
    " Tensor level_start, Tensor sampling_locations, Tensor attention_weights)"
    " -> (Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Gathers a weighted sum of samples from L maps for each query (Deformable DETR, eq. 3).

    Args:
        value: (B, T, M, C), the cells of all levels, one level after the other, each row by row.
        spatial_shapes: (L, 2) int64, height and width of each level.
        level_start: (L,) int64, the first cell of each level in ``value``.
        sampling_locations: (B, Q, M, L, P, 2) as (x, y); [0, 1] covers the map from outer edge to
            outer edge, between cell centres samples are bilinear, and outside of the map is zero.
        attention_weights: (B, Q, M, L, P); they need not sum to one.

    Returns:
        (B, Q, M * C) in the dtype of ``value``.

    ``value`` may be float64, float32, bfloat16 or float16, under autocast or not. Locations and
    weights are taken to float32 (float64 if ``value`` is), because half precision cannot name a
    position in a large map, and sums are accumulated there. First derivatives only.

    Raises:
        ValueError: if the shapes do not belong together.
    """
    _check_shapes(value, spatial_shapes, level_start, sampling_locations, attention_weights)
    work_dtype = torch.float64 if value.dtype == torch.float64 else torch.float32
    return torch.ops.frozenseg.ms_deform_attn(
        value,
        spatial_shapes,
        level_start,
        sampling_locations.to(work_dtype),
        attention_weights.to(work_dtype),
    )


def reread_single_level(
    sampling_locations: Tensor, attention_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Re-reads points laid out for L levels as the points of one map, as published weights expect.

    The official SAM branch predicts points for three levels but attends to one map, and its kernel
    then walks the flat arrays with the stride of one level: query-head ``s`` gets what was
    predicted for query-head ``s // L``, level ``s % L``, and its weights no longer sum to one. The
    official kernel reads through the borders between the images of a batch; here each image is read
    on its own, as in official evaluation (one image at a time).

    Args:
        sampling_locations: (B, Q, M, L, P, 2).
        attention_weights: (B, Q, M, L, P).

    Returns:
        The same with L = 1: (B, Q, M, 1, P, 2) and (B, Q, M, 1, P).
    """
    queries, heads = attention_weights.shape[1:3]
    used = queries * heads
    return (
        sampling_locations.flatten(1, 3)[:, :used].unflatten(1, (queries, heads, 1)),
        attention_weights.flatten(1, 3)[:, :used].unflatten(1, (queries, heads, 1)),
    )


def implementation(device: torch.device | str) -> str:
    """Returns the implementation of a device: compiled CPU or CUDA, or PyTorch reference."""
    key = torch.device(device).type.upper()
    name = "frozenseg::ms_deform_attn"
    compiled = key in ("CPU", "CUDA") and torch._C._dispatch_has_kernel_for_dispatch_key(name, key)
    return f"compiled {key}" if compiled else "PyTorch reference"


def agrees_with_reference(device: torch.device | str = "cpu") -> float:
    """Largest absolute difference to the definition, output and gradients, on a small random case.

    In float32 with locations up to 0.2 outside of the maps; rounding alone gives about 1e-5.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = torch.tensor([[6, 9], [3, 5]])
    starts = torch.tensor([0, 54])
    value = torch.randn(2, 69, 4, 8, generator=generator)
    locations = torch.rand(2, 11, 4, 2, 3, 2, generator=generator) * 1.4 - 0.2
    weights = torch.rand(2, 11, 4, 2, 3, generator=generator)
    inputs = [tensor.to(device).requires_grad_() for tensor in (value, locations, weights)]
    shapes, starts = shapes.to(device), starts.to(device)

    def output_and_gradients(operator) -> list[Tensor]:
        output = operator(inputs[0], shapes, starts, inputs[1], inputs[2])
        return [output, *torch.autograd.grad(output.sum(), inputs)]

    pairs = zip(
        output_and_gradients(ms_deform_attn), output_and_gradients(reference_forward), strict=True
    )
    return max((ours - reference).abs().max().item() for ours, reference in pairs)


def _check_shapes(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> None:
    if value.ndim != 4:
        raise ValueError(f"value must be (B, T, M, C), got {tuple(value.shape)}")
    if attention_weights.ndim != 5:
        raise ValueError(
            f"attention_weights must be (B, Q, M, L, P), got {tuple(attention_weights.shape)}"
        )
    batch, _, heads, _ = value.shape
    _, queries, _, levels, points = attention_weights.shape
    expected = {
        "attention_weights": (attention_weights, (batch, queries, heads, levels, points)),
        "sampling_locations": (sampling_locations, (batch, queries, heads, levels, points, 2)),
        "spatial_shapes": (spatial_shapes, (levels, 2)),
        "level_start": (level_start, (levels,)),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"{name} must be {shape} to fit the other arguments, got {tuple(tensor.shape)}"
            )


def _load_kernels() -> dict[str, str]:
    """Loads what was compiled next to this file; says, per device, why a library did not load."""
    failures = {}
    for device in ("cpu", "cuda"):
        path = Path(__file__).with_name(f"_{device}.so")
        if not path.exists():
            continue
        try:
            torch.ops.load_library(path)
        except OSError as error:  # built for another torch, or for a CUDA that is not here
            failures[device] = str(error)
    return failures


_failures = _load_kernels()


@functools.cache
def _say_that_reference_is_used(device_type: str) -> None:
    reason = _failures.get(device_type, "there is no compiled kernel")
    logger.warning(
        "Deformable attention on %s uses the PyTorch reference (same results, slower): %s. "
        "Reinstall from source with a compiler to build the kernel.",
        device_type.upper(),
        reason,
    )


def _serve_forward(value: Tensor, *others: Tensor) -> Tensor:
    _say_that_reference_is_used(value.device.type)
    return reference_forward(value, *others)


def _serve_backward(grad_output: Tensor, *others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return reference_backward(grad_output, *others)


# Composite: for every device that has no kernel of its own.
_library.impl("ms_deform_attn", _serve_forward, "CompositeExplicitAutograd")
_library.impl("ms_deform_attn_backward", _serve_backward, "CompositeExplicitAutograd")


@torch.library.register_fake("frozenseg::ms_deform_attn")
def _fake_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    batch, _, heads, channels = value.shape
    return value.new_empty(batch, sampling_locations.shape[1], heads * channels)


@torch.library.register_fake("frozenseg::ms_deform_attn_backward")
def _fake_backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        value.new_empty(value.shape),
        sampling_locations.new_empty(sampling_locations.shape),
        attention_weights.new_empty(attention_weights.shape),
    )


def _setup_context(ctx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    by_value, by_locations, by_weights = torch.ops.frozenseg.ms_deform_attn_backward(
        grad_output, *ctx.saved_tensors
    )
    return by_value, None, None, by_locations, by_weights


torch.library.register_autograd(
    "frozenseg::ms_deform_attn", _backward, setup_context=_setup_context
)
