"""``frozenseg benchmark``: parameters, speed and memory of models, side by side (Table 6)."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.markup import escape
from rich.table import Table

from frozenseg.cli.console import console, errors
from frozenseg.cli.evaluate import test_set
from frozenseg.cli.options import MODEL_HELP, AsJson, Device, KeyValues
from frozenseg.errors import UserError

if TYPE_CHECKING:
    from fvcore.common.config import CfgNode

    from frozenseg.analysis.parameter_summary import Size as PartSize
    from frozenseg.analysis.speed import Speed
    from frozenseg.structures import InputImage

MEGA = 1e6
GIGA = 1e9


class Workload(NamedTuple):
    """The images that every model processes."""

    random: bool
    dataset: str | None
    size: tuple[int, int]
    output_size: tuple[int, int]
    limit: int
    repeats: int

    def images(self, cfg: "CfgNode") -> "list[InputImage]":
        """Noise of the chosen size, or the first images of the data set."""
        import torch

        from frozenseg.data.augmentation import resize_for_test
        from frozenseg.ops.maps import size_of
        from frozenseg.sam_masks.bulk import DatasetImages
        from frozenseg.structures import InputImage

        if self.dataset is None:
            noise = [
                torch.randint(256, (3, *self.size), dtype=torch.uint8) for _ in range(self.limit)
            ]
            return [InputImage(each, each, self.output_size) for each in noise]
        source = DatasetImages(test_set(self.dataset)[0])
        originals = [source[index] for index in range(min(self.limit, len(source)))]
        sides = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
        return [
            InputImage(resize_for_test(each, *sides), each, size_of(each)) for each in originals
        ]


class Report(NamedTuple):
    """The measurements of one model."""

    name: str
    sizes: "list[PartSize]"
    multiply_adds: dict[str, int]
    speed: "Speed"


def benchmark(
    model: Annotated[
        list[str] | None,
        typer.Option(help=f"{MODEL_HELP} May be repeated.", show_default=False),
    ] = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option(help="Trained weights, one for each --model.", show_default=False),
    ] = None,
    random: Annotated[
        bool,
        typer.Option(
            "--random", help="Use random weights, also for CLIP and SAM; downloads nothing."
        ),
    ] = False,
    dataset: Annotated[
        str | None,
        typer.Option(help="Use images of a data set, at its test size.", show_default=False),
    ] = None,
    size: Annotated[
        str, typer.Option(help="Without --dataset: HEIGHTxWIDTH of the noise images.")
    ] = "800x1216",
    output_size: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH of the results (default: --size).")
    ] = None,
    limit: Annotated[int, typer.Option(help="Number of different images.", min=1)] = 5,
    repeats: Annotated[int, typer.Option(help="Runs per image.", min=1)] = 2,
    device: Device = None,
    as_json: AsJson = False,
    opts: KeyValues = None,
) -> None:
    """Measure models: parameters, multiply-adds, images per second, time per stage, memory.

    Images are processed one at a time, from pixels to the outputs of the configuration.

    Example: frozenseg benchmark --random --model frozenseg-convnext-large
    """
    names = model or ["shapes"]
    if weights and len(weights) != len(names):
        raise UserError(f"{len(names)} models but {len(weights)} --weights: give one each")
    if weights and random:
        raise UserError("--weights and --random exclude each other: give one of them")
    workload = Workload(
        random=random,
        dataset=dataset,
        size=_parse_size(size),
        output_size=_parse_size(output_size or size),
        limit=limit,
        repeats=repeats,
    )
    reports = []
    for index, name in enumerate(names):
        cfg = benchmark_config(
            name, weights[index] if weights else None, device, workload, opts or []
        )
        with errors.status(f"measuring {name}"):
            reports.append(measure(name, cfg, workload))
    if as_json:
        typer.echo(json.dumps([_record(report) for report in reports], indent=1))
    else:
        console.print(report_table(reports))


def report_table(reports: Sequence[Report]) -> Table:
    """One column per model; parameters in millions, multiply-adds in billions."""
    table = Table(title="benchmark, one image at a time", title_justify="left")
    table.add_column(no_wrap=True)
    for report in reports:
        table.add_column(Path(report.name).stem, justify="right", overflow="fold")

    def row(title: str, cells: list[str], *, last: bool = False) -> None:
        table.add_row(escape(title), *cells, end_section=last)

    wholes = [report.sizes[-1] for report in reports]
    texts = [_text_parameters(report.sizes) for report in reports]
    row("trained parameters [M]", [_millions(whole.trained) for whole in wholes])
    frozen = [whole.frozen - text for whole, text in zip(wholes, texts, strict=True)]
    row("frozen, without text encoder [M]", [_millions(count) for count in frozen])
    any_stored = any(whole.stored for whole in wholes)
    row(
        "frozen, with text encoder [M]",
        [_millions(whole.frozen) for whole in wholes],
        last=not any_stored,
    )
    if any_stored:
        row("from the weights file [M]", [_millions(whole.stored) for whole in wholes], last=True)
    parts = list(dict.fromkeys(part for report in reports for part in report.multiply_adds))
    for part in parts:
        counts = [report.multiply_adds[part] / GIGA for report in reports]
        title = "multiply-adds [G]" if part == "all" else f"  {part}"
        row(title, [f"{count:,.1f}" for count in counts], last=part == parts[-1])
    row("images per second", [f"{report.speed.images_per_second:.2f}" for report in reports])
    stages = list(dict.fromkeys(stage for report in reports for stage in report.speed.stages))
    for stage in stages:
        times = [report.speed.stages.get(stage) for report in reports]
        row(
            f"  {stage} [ms]",
            ["-" if spent is None else f"{spent:.1f}" for spent in times],
            last=stage == stages[-1],
        )
    row("peak memory [GiB]", [f"{report.speed.peak_memory_gib:.2f}" for report in reports])
    return table


def measure(name: str, cfg: "CfgNode", workload: Workload) -> Report:
    """Measures the model of a configuration."""
    from frozenseg.analysis.speed import (
        build_predictor,
        count_multiply_adds,
        count_parameters,
        measure_speed,
    )
    from frozenseg.ops.maps import size_of

    predictor, num_rows = build_predictor(cfg, random=workload.random)
    images = workload.images(cfg)
    speed = measure_speed(predictor, images, repeats=workload.repeats)
    seen = size_of(images[0].pixels)
    return Report(name, count_parameters(cfg), count_multiply_adds(cfg, seen, num_rows), speed)


def benchmark_config(
    model: str, weights: Path | None, device: str | None, workload: Workload, opts: Sequence[str]
) -> "CfgNode":
    """The configuration of a model for a workload, with random weights if it asks for them."""
    from frozenseg import model_config

    _, over = (None, []) if workload.dataset is None else test_set(workload.dataset, model=model)
    keys = (
        "MODEL.FROZEN_SEG.CLIP_PRETRAINED_WEIGHTS",
        "MODEL.FC_CLIP.CLIP_PRETRAINED_WEIGHTS",
        "MODEL.SAM_WEIGHTS",
        "MODEL.MASK_ENSEMBLE.SAM_WEIGHTS",
        "MODEL.PIPELINE.REGION_CLIP_WEIGHTS",
    )
    at_random = []
    if workload.random:
        at_random = ["MODEL.BACKBONE.WEIGHTS", ""]
        at_random += [part for key in keys for part in (key, "random")]
    return model_config(
        model, weights=weights, device=device, over=over, overrides=[*at_random, *opts]
    )


def _parse_size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise UserError(f"'{text}' is not a size: write HEIGHTxWIDTH, as in 800x1216")
    return int(height), int(width)


def _text_parameters(sizes: "Sequence[PartSize]") -> int:
    return sum(size.frozen for size in sizes if size.part == "CLIP text encoder")


def _millions(count: int) -> str:
    return f"{count / MEGA:,.1f}"


def _record(report: Report) -> dict[str, Any]:
    return {
        "model": report.name,
        "parameters": [size._asdict() for size in report.sizes],
        "multiply_adds": report.multiply_adds,
        **asdict(report.speed),
    }
