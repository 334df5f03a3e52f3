"""Table 6: parameters and images per second, which ``frozenseg benchmark`` measures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from frozenseg.cli.benchmark import MEGA, Report, Workload, benchmark_config, measure
from frozenseg.cli.reproduction.measuring import markdown

CAPTION = "Table 6: images per second and parameters; paper (one A100) / measured"


class SpeedRow(NamedTuple):
    """A model, and the paper's values: images per second on COCO and Cityscapes, millions."""

    title: str
    weights: str  # name of the model and of its weights
    paper: tuple[float, float, float, float]


ROWS = (
    SpeedRow("FC-CLIP", "fcclip_convnext_large", (2.71, 0.87, 200.0, 21.0)),
    SpeedRow("FrozenSeg", "frozenseg_convnext_large", (2.15, 0.78, 293.5, 26.5)),
)
# (height, width) at the test sizes, and of the results
SIZES = {"COCO": ((800, 1216), (427, 640)), "Cityscapes": ((1024, 2048), (1024, 2048))}
HEADINGS = ("COCO", "Cityscapes", "frozen [M]", "trained [M]")


def measure_rows(
    weights: Mapping[str, Path], overrides: Sequence[str] = (), *, limit: int | None = None
) -> dict[str, dict[str, float]]:
    """Measures every row on noise of the data sets' sizes; without weights, with random ones.

    Args:
        weights: files by name of the weights.
        overrides: configuration keys and values for every row.
        limit: number of images; None: 5.
    """
    found = {}
    for row in ROWS:
        file = weights.get(row.weights)
        reports = [_report(row, file, sizes, overrides, limit) for sizes in SIZES.values()]
        whole = reports[0].sizes[-1]
        rates = [report.speed.images_per_second for report in reports]
        values = (*rates, whole.frozen / MEGA, whole.trained / MEGA)
        found[row.title] = dict(zip(HEADINGS, values, strict=True))
    return found


def _report(
    row: SpeedRow,
    weights: Path | None,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    overrides: Sequence[str],
    limit: int | None,
) -> Report:
    workload = Workload(
        random=weights is None,
        dataset=None,
        size=sizes[0],
        output_size=sizes[1],
        limit=limit or 5,
        repeats=2,
    )
    cfg = benchmark_config(row.weights, weights, None, workload, overrides)
    return measure(row.title, cfg, workload)


def beside_paper(found: Mapping[str, Mapping[str, float]]) -> str:
    """A Markdown table with one line per model."""
    rows = [
        [
            row.title,
            *(
                f"{paper:g} / {found[row.title][heading]:.2f}"
                for heading, paper in zip(HEADINGS, row.paper, strict=True)
            ),
        ]
        for row in ROWS
    ]
    return markdown(["", *HEADINGS], rows)
