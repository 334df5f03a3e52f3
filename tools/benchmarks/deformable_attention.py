#!/usr/bin/env python
"""Times the deformable-attention kernel against its PyTorch definition.

    python tools/benchmarks/deformable_attention.py --threads 1 2

The sizes are those of one image of 800 x 1066 pixels, padded to 800 x 1088: three maps at strides
8, 16 and 32, and the single map of the SAM branch, in 256 channels, 8 heads and 4 points. Both
implementations run in turn, and the ratios compare medians, so that other work on the machine
matters little. Seconds on a CPU are the processor's, summed over threads. Prints a table, or JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from frozenseg.ops.ms_deform_attn import implementation, ms_deform_attn
from frozenseg.ops.ms_deform_attn.reference import reference_forward

HEADS, CHANNELS, POINTS = 8, 32, 4
MAPS = {
    "pixel decoder": [(25, 34), (50, 68), (100, 136)],
    "SAM branch": [(32, 32)],
}
SPREAD = 3.0  # cells between a query and its points, standard deviation

Operator = Callable[..., Tensor]


class Timing(NamedTuple):
    """Medians of one case, in seconds."""

    maps: str
    passes: str
    threads: int
    kernel: float
    reference: float
    kernel_wall: float

    @property
    def speedup(self) -> float:
        return self.reference / self.kernel


def benchmark_deformable_attention(
    *, threads: list[int], repeats: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> list[Timing]:
    """Measures forward passes, and forward with backward passes, at the sizes in ``MAPS``.

    Args:
        threads: numbers of threads to measure with; a GPU ignores them.
        repeats: runs of each part.
        device: of all tensors.
        dtype: of the values.
    """
    before = torch.get_num_threads()
    timings = []
    for number in threads:
        torch.set_num_threads(number)
        for name, maps in MAPS.items():
            inputs = _inputs(maps, device, dtype)
            for passes, run in (("forward", _forward), ("forward and backward", _both)):
                parts = [partial(run, each, inputs) for each in (ms_deform_attn, reference_forward)]
                (kernel, wall), (reference, _) = _time_in_turn(parts, repeats, device)
                timings.append(Timing(name, passes, number, kernel, reference, wall))
    torch.set_num_threads(before)
    return timings


def _inputs(
    maps: list[tuple[int, int]], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Returns the arguments of the operator: each cell of the maps asks, and looks around."""
    draw = torch.Generator().manual_seed(0)
    shapes = torch.tensor(maps)
    cells = shapes.prod(dim=1)
    centres = [(torch.cartesian_prod(torch.arange(h), torch.arange(w)) + 0.5) for h, w in maps]
    places = torch.cat([each / shape for each, shape in zip(centres, shapes, strict=True)]).flip(1)
    size = (1, len(places), HEADS, len(maps), POINTS)
    offsets = SPREAD * torch.randn(*size, 2, generator=draw) / shapes.flip(1)[:, None]
    weights = torch.rand(size, generator=draw).flatten(3).softmax(dim=-1).view(size)
    value = torch.randn(1, len(places), HEADS, CHANNELS, generator=draw)
    return (
        value.to(device, dtype).requires_grad_(),
        shapes.to(device),
        (cells.cumsum(0) - cells).to(device),
        (places[None, :, None, None, None] + offsets).to(device).requires_grad_(),
        weights.to(device).requires_grad_(),
    )


@torch.no_grad()
def _forward(operator: Operator, inputs: tuple[Tensor, ...]) -> None:
    operator(*inputs)


def _both(operator: Operator, inputs: tuple[Tensor, ...]) -> None:
    output = operator(*inputs)
    learned = [tensor for tensor in inputs if tensor.requires_grad]
    torch.autograd.grad(output, learned, torch.ones_like(output))


def _time_in_turn(
    parts: list[Callable[[], None]], repeats: int, device: torch.device
) -> list[tuple[float, float]]:
    """Returns the median seconds of each part, of the processor and by the clock.

    The first run, which fills caches and loads kernels, is not counted.
    """
    on_gpu = device.type == "cuda"
    seconds: list[list[tuple[float, float]]] = [[] for _ in parts]
    for turn in range(repeats + 1):
        for part, found in zip(parts, seconds, strict=True):
            wall, used = time.perf_counter(), time.process_time()
            part()
            if on_gpu:
                torch.cuda.synchronize(device)
            wall, used = time.perf_counter() - wall, time.process_time() - used
            if turn:
                found.append((wall if on_gpu else used, wall))
    return [
        (statistics.median(used for used, _ in found), statistics.median(wall for _, wall in found))
        for found in seconds
    ]


def print_timings(timings: list[Timing], device: torch.device) -> None:
    """Prints one row per case, in milliseconds."""
    title = f"deformable attention, {implementation(device)}, milliseconds"
    table = Table("maps", "pass", "threads", "kernel", "reference", "speedup", "kernel, wall")
    table.title, table.title_justify = title, "left"
    for each in timings:
        shown = [f"{1000 * value:.1f}" for value in (each.kernel, each.reference)]
        wall = f"{1000 * each.kernel_wall:.1f}"
        row = (each.maps, each.passes, str(each.threads), *shown, f"{each.speedup:.1f}", wall)
        table.add_row(*row)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    device = torch.device(options.device)
    timings = benchmark_deformable_attention(
        threads=options.threads,
        repeats=options.repeats,
        device=device,
        dtype=getattr(torch, options.dtype),
    )
    if options.json:
        print(json.dumps([each._asdict() | {"speedup": each.speedup} for each in timings]))
    else:
        print_timings(timings, device)


if __name__ == "__main__":
    main()
