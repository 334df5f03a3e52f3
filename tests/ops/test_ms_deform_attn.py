import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import frozenseg.ops.ms_deform_attn as op_package
from frozenseg.ops.ms_deform_attn import (
    agrees_with_reference,
    implementation,
    ms_deform_attn,
    reread_single_level,
)
from frozenseg.ops.ms_deform_attn.reference import reference_backward, reference_forward

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
needs_cpu_kernel = pytest.mark.skipif(
    implementation("cpu") != "compiled CPU", reason="the CPU kernel is not built"
)


class Case(NamedTuple):
    value: Tensor
    spatial_shapes: Tensor
    level_start: Tensor
    locations: Tensor
    weights: Tensor

    @property
    def differentiable(self) -> list[Tensor]:
        return [self.value, self.locations, self.weights]


def random_case(
    *,
    batch: int = 2,
    queries: int = 7,
    heads: int = 3,
    channels: int = 5,
    points: int = 2,
    levels: tuple[tuple[int, int], ...] = ((4, 6), (3, 2), (1, 1)),
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
) -> Case:
    """Points fall inside of the maps, across their borders and far outside."""
    work_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    shapes = torch.tensor(levels)
    cells = shapes.prod(1)
    locations = (
        torch.rand(batch, queries, heads, len(levels), points, 2, dtype=work_dtype) * 1.8 - 0.4
    )
    weights = torch.randn(batch, queries, heads, len(levels), points, dtype=work_dtype)
    value = torch.randn(batch, int(cells.sum()), heads, channels, dtype=work_dtype).to(dtype)
    return Case(
        value.to(device).requires_grad_(),
        shapes.to(device),
        (cells.cumsum(0) - cells).to(device),
        locations.to(device).requires_grad_(),
        weights.to(device).requires_grad_(),
    )


def output_and_gradients(operator, case: Case) -> list[Tensor]:
    output = operator(*case)
    cotangent = (torch.arange(output.numel()) % 7 - 3).view(output.shape).to(output)
    return [output, *torch.autograd.grad(output, case.differentiable, cotangent)]


def assert_close(ours: list[Tensor], expected: list[Tensor], **tolerance: float) -> None:
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


def sample_one_map(cells: Tensor, x: float, y: float) -> float:
    """The operator with one head, one channel, one query and one point of weight one."""
    shapes, starts = torch.tensor([cells.shape]), torch.tensor([0])
    location = torch.tensor([x, y], dtype=cells.dtype).view(1, 1, 1, 1, 1, 2)
    weight = torch.ones(1, 1, 1, 1, 1, dtype=cells.dtype)
    return ms_deform_attn(cells.reshape(1, -1, 1, 1), shapes, starts, location, weight).item()


def by_loops(case: Case) -> Tensor:
    """The definition once more, cell by cell."""
    batch, _, heads, channels = case.value.shape
    output = torch.zeros(batch, case.locations.shape[1], heads, channels, dtype=torch.float64)
    for b, q, m, level, p in torch.cartesian_prod(
        *(torch.arange(size) for size in case.weights.shape)
    ).tolist():
        height, width = case.spatial_shapes[level].tolist()
        x, y = case.locations[b, q, m, level, p].tolist()
        for row in range(height):
            for column in range(width):
                near = max(0, 1 - abs(x * width - 0.5 - column))
                near *= max(0, 1 - abs(y * height - 0.5 - row))
                cell = int(case.level_start[level]) + row * width + column
                output[b, q, m] += case.weights[b, q, m, level, p] * near * case.value[b, cell, m]
    return output.flatten(2)


GRID = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.float64)


def test_a_point_on_a_cell_centre_reads_that_cell() -> None:
    assert sample_one_map(GRID, 2.5 / 3, 1.5 / 2) == pytest.approx(6)


def test_a_point_between_four_centres_reads_their_mean() -> None:
    assert sample_one_map(GRID, 1 / 3, 1 / 2) == pytest.approx((1 + 2 + 4 + 5) / 4)


def test_the_outer_corner_reads_a_quarter_of_its_cell() -> None:
    assert sample_one_map(GRID, 0, 0) == pytest.approx(1 / 4)
    assert sample_one_map(GRID, 1, 1) == pytest.approx(6 / 4)


def test_half_a_cell_outside_of_the_map_reads_zero() -> None:
    assert sample_one_map(GRID, -0.5 / 3, 0.5) == 0
    assert sample_one_map(GRID, 0.5, 1 + 0.5 / 2) == 0


@needs_cpu_kernel
def test_a_location_that_is_not_a_number_reads_zero() -> None:
    assert sample_one_map(GRID, math.nan, 0.5) == 0


def test_a_cell_outside_of_the_footprint_cannot_spoil_the_output() -> None:
    cells = GRID.clone()
    cells[0, 0] = math.inf
    assert sample_one_map(cells, 2.5 / 3, 1) == pytest.approx(6 / 2)


@pytest.mark.parametrize("operator", [ms_deform_attn, reference_forward])
def test_agrees_with_the_definition_written_as_loops(operator) -> None:
    case = random_case(queries=3)
    torch.testing.assert_close(operator(*case), by_loops(case))


@pytest.mark.golden
def test_agrees_with_official_reference_on_three_levels(golden_tensors) -> None:
    stored = golden_tensors("msdeformattn")
    case = Case(
        stored["value"].requires_grad_(),
        stored["spatial_shapes"],
        stored["level_start_index"],
        stored["sampling_locations"].requires_grad_(),
        stored["attention_weights"].requires_grad_(),
    )
    output = ms_deform_attn(*case)
    gradients = torch.autograd.grad(output, case.differentiable, stored["grad_output"])
    names = ["output", "grad_value", "grad_sampling_locations", "grad_attention_weights"]
    assert_close([output, *gradients], [stored[name] for name in names], rtol=0, atol=1e-10)


@pytest.mark.golden
def test_rereading_agrees_with_official_kernel_on_a_single_map(golden_tensors) -> None:
    """The official kernel reads through borders of images: as one image of all queries."""
    stored = golden_tensors("msdeformattn")
    value = stored["single_value"].requires_grad_()
    locations = stored["single_sampling_locations"].requires_grad_()
    weights = stored["single_attention_weights"].requires_grad_()
    batch, queries = locations.shape[:2]

    reread = reread_single_level(
        locations.flatten(0, 1).unsqueeze(0), weights.flatten(0, 1).unsqueeze(0)
    )
    used = [tensor.squeeze(0).unflatten(0, (batch, queries)) for tensor in reread]
    output = ms_deform_attn(
        value, stored["single_spatial_shapes"], torch.zeros(1, dtype=torch.int64), *used
    )
    gradients = torch.autograd.grad(
        output, [value, locations, weights], stored["single_grad_output"]
    )
    names = ["output", "grad_value", "grad_sampling_locations", "grad_attention_weights"]
    expected = [stored[f"single_{name}"] for name in names]
    assert_close([output, *gradients], expected, rtol=0, atol=1e-10)


def test_rereading_gives_query_head_s_the_points_of_query_head_a_third_of_s() -> None:
    batch, queries, heads, levels, points = 2, 4, 5, 3, 2
    weights = torch.rand(batch, queries, heads, levels, points)
    locations = torch.rand(batch, queries, heads, levels, points, 2)
    used_locations, used_weights = reread_single_level(locations, weights)
    for image in range(batch):
        for s in range(queries * heads):
            to, source = divmod(s, heads), divmod(s // levels, heads)
            assert torch.equal(used_weights[image, *to, 0], weights[image, *source, s % levels])
            assert torch.equal(used_locations[image, *to, 0], locations[image, *source, s % levels])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels", [1, 5, 8, 32, 40, 64])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_output_and_gradients_agree_with_reference(device, channels, dtype) -> None:
    case = random_case(channels=channels, dtype=dtype, device=device)
    ours = output_and_gradients(ms_deform_attn, case)
    tolerance = (
        {"rtol": 1e-10, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    )
    assert_close(ours, output_and_gradients(reference_forward, case), **tolerance)


def test_reference_backward_agrees_with_autograd_of_reference() -> None:
    case = random_case()
    output = reference_forward(*case)
    cotangent = torch.randn_like(output)
    expected = torch.autograd.grad(output, case.differentiable, cotangent)
    with torch.no_grad():
        assert_close(list(reference_backward(cotangent, *case)), list(expected))


@pytest.mark.parametrize("device", DEVICES)
def test_memory_layout_of_the_arguments_does_not_matter(device) -> None:
    case = random_case(device=device)
    strided = Case(*(_with_other_strides(tensor) for tensor in case))
    assert not any(tensor.is_contiguous() for tensor in strided.differentiable)
    expected = output_and_gradients(ms_deform_attn, case)
    assert_close(output_and_gradients(ms_deform_attn, strided), expected, rtol=1e-10, atol=1e-12)


def _with_other_strides(tensor: Tensor) -> Tensor:
    padded = torch.stack([tensor.detach(), torch.zeros_like(tensor)], -1)
    return padded[..., 0].requires_grad_(tensor.requires_grad)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("empty", [{"batch": 0}, {"queries": 0}, {"points": 0}])
def test_nothing_to_gather_gives_zeros(device, empty) -> None:
    case = random_case(**empty, device=device)
    output, *gradients = output_and_gradients(ms_deform_attn, case)
    batch, queries, heads = case.weights.shape[:3]
    assert output.shape == (batch, queries, heads * case.value.shape[3])
    assert not output.any()
    assert [g.shape for g in gradients] == [t.shape for t in case.differentiable]
    assert not gradients[0].any()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels", [5, 32])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_value_is_rounded_only_at_the_ends(device, channels, dtype) -> None:
    case = random_case(channels=channels, dtype=dtype, device=device)
    exact = case._replace(value=case.value.detach().float().requires_grad_())
    ours = output_and_gradients(ms_deform_attn, case)
    assert [tensor.dtype for tensor in ours] == [dtype, dtype, torch.float32, torch.float32]
    rounding = torch.finfo(dtype).eps
    for one, other in zip(ours, output_and_gradients(reference_forward, exact), strict=True):
        torch.testing.assert_close(one.float(), other, rtol=2 * rounding, atol=4 * rounding)


@pytest.mark.parametrize("device", DEVICES)
def test_autocast_keeps_locations_precise(device) -> None:
    case = random_case(dtype=torch.float32, device=device)
    project = nn.Linear(5, 5, device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        value = project(case.value)
        output = ms_deform_attn(value, *case[1:])
    expected = reference_forward(value.float(), *case[1:])
    assert output.dtype == value.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, rtol=1e-2, atol=1e-2)
    output.float().sum().backward()
    assert case.locations.grad.dtype == torch.float32


@needs_cpu_kernel
def test_number_of_threads_does_not_change_a_bit() -> None:
    case = random_case(batch=3, queries=40, heads=4, channels=8, levels=((9, 13), (20, 7)))
    before = torch.get_num_threads()
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(output_and_gradients(ms_deform_attn, case))
    torch.set_num_threads(before)
    assert_close(*results, rtol=0, atol=0)


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_agree_with_finite_differences(device) -> None:
    case = random_case(queries=3, channels=3, points=2, levels=((4, 5), (2, 3)), device=device)
    _move_away_from_kinks(case)

    def operator(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return ms_deform_attn(value, case.spatial_shapes, case.level_start, locations, weights)

    # The CUDA kernel adds up gradients of value in no fixed order.
    assert torch.autograd.gradcheck(operator, case.differentiable, nondet_tol=1e-12)


def _move_away_from_kinks(case: Case) -> None:
    """Bilinear interpolation has no derivative on the lines through the cell centres."""
    sizes = case.spatial_shapes.flip(1)[None, None, None, :, None]
    with torch.no_grad():
        cells = case.locations * sizes - 0.5
        from_line = cells - cells.floor()
        cells += torch.where((from_line < 0.05) | (from_line > 0.95), 0.2, 0.0)
        case.locations.copy_((cells + 0.5) / sizes)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operator_is_registered_correctly(device, dtype) -> None:
    case = random_case(dtype=dtype, device=device)
    torch.library.opcheck(torch.ops.frozenseg.ms_deform_attn.default, tuple(case))
    grad = torch.randn(2, 7, 15, device=device).to(dtype)
    arguments = (grad, *(tensor.detach() for tensor in case))
    torch.library.opcheck(torch.ops.frozenseg.ms_deform_attn_backward.default, arguments)


def test_compiles_as_one_graph_with_gradients() -> None:
    case = random_case()
    compiled = torch.compile(ms_deform_attn, fullgraph=True, backend="aot_eager", dynamic=True)
    expected = output_and_gradients(ms_deform_attn, case)
    assert_close(output_and_gradients(compiled, case), expected)


def test_exports_as_one_operator() -> None:
    class Attention(nn.Module):
        def forward(self, *case: Tensor) -> Tensor:
            return ms_deform_attn(*case)

    case = Case(*(tensor.detach() for tensor in random_case()))
    program = torch.export.export(Attention(), tuple(case))
    assert torch.ops.frozenseg.ms_deform_attn.default in {
        node.target for node in program.graph.nodes
    }
    torch.testing.assert_close(program.module()(*case), ms_deform_attn(*case))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"value": torch.zeros(2, 31, 15)}, r"value must be \(B, T, M, C\), got \(2, 31, 15\)"),
        ({"weights": torch.zeros(2, 7, 3, 6)}, r"attention_weights must be \(B, Q, M, L, P\)"),
        ({"locations": torch.zeros(2, 7, 3, 2, 2, 2)}, r"sampling_locations must be \(2, 7, 3, 3"),
        ({"spatial_shapes": torch.tensor([[4, 6]])}, r"spatial_shapes must be \(3, 2\)"),
        ({"level_start": torch.tensor([0])}, r"level_start must be \(3,\)"),
        ({"weights": torch.zeros(2, 7, 4, 3, 2)}, r"attention_weights must be \(2, 7, 3, 3, 2\)"),
    ],
)
def test_arguments_that_do_not_fit_are_named(argument, message) -> None:
    with pytest.raises(ValueError, match=message):
        ms_deform_attn(*random_case()._replace(**argument))


@needs_cpu_kernel
def test_levels_beyond_the_cells_of_value_are_refused() -> None:
    case = random_case()
    too_many = case._replace(level_start=case.level_start + 1)
    with pytest.raises(ValueError, match=r"level 2 has 1 x 1 cells from cell 31, more than the 31"):
        ms_deform_attn(*too_many)


def test_self_check_is_at_rounding_level() -> None:
    assert agrees_with_reference() < 1e-4


def test_devices_without_a_kernel_are_served_by_the_reference() -> None:
    assert implementation("mps") == "PyTorch reference"


WITHOUT_KERNELS = """
import logging, torch
logging.basicConfig(format="%(message)s")
from frozenseg.ops.ms_deform_attn import agrees_with_reference, implementation, ms_deform_attn
print(implementation("cpu"), agrees_with_reference(), agrees_with_reference())
shapes, starts = torch.tensor([[2, 3]]), torch.tensor([0])
value = torch.randn(1, 2, 6, 4).transpose(1, 2).requires_grad_()
arguments = (value, shapes, starts, torch.rand(1, 5, 2, 1, 3, 2), torch.rand(1, 5, 2, 1, 3))
torch.library.opcheck(torch.ops.frozenseg.ms_deform_attn.default, arguments)
arguments = (torch.randn(1, 5, 8), value.detach(), *arguments[1:])
torch.library.opcheck(torch.ops.frozenseg.ms_deform_attn_backward.default, arguments)
"""


@pytest.fixture
def package_copy(tmp_path: Path) -> Path:
    """The operator's folder as it is installed where nothing was compiled."""
    folder = Path(op_package.__file__).parent
    copy = tmp_path / "frozenseg" / "ops" / "ms_deform_attn"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return copy


def run_in(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


def test_without_kernels_the_same_operator_works_and_says_so_once(package_copy: Path) -> None:
    result = run_in(package_copy.parents[2], WITHOUT_KERNELS)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["PyTorch", "reference", "0.0", "0.0"]
    assert result.stderr.count("uses the PyTorch reference") == 1
    assert "there is no compiled kernel" in result.stderr


def test_a_kernel_that_cannot_be_loaded_is_explained(package_copy: Path) -> None:
    (package_copy / "_cpu.so").write_text("not a library")
    result = run_in(package_copy.parents[2], WITHOUT_KERNELS)
    assert result.returncode == 0, result.stderr
    assert "_cpu.so" in result.stderr
