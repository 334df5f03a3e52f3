"""``frozenseg sam-masks``: SAM's masks made beforehand, for the OpenSeg ensemble (eq. 4)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from frozenseg.cli.console import console, errors, say_error
from frozenseg.cli.segment import find_images, output_stems
from frozenseg.cli.settings import Settings, key_values
from frozenseg.errors import UserError

if TYPE_CHECKING:
    from fvcore.common.config import CfgNode

    from frozenseg.sam_masks.bulk import Images


def sam_masks(
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGE", help="Images, or folders of images.", show_default=False),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="All images of a registered data set.", show_default=False)
    ] = None,
    sam: Annotated[
        str | None, typer.Option(help="Whose masks: vit_h (the paper's), vit_l, vit_b, vit_t.")
    ] = None,
    sam_weights: Annotated[
        str | None, typer.Option(help="A local file, if not the published one.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="'shapes' or a YAML file: its MODEL.MASK_ENSEMBLE says what is made."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder, MODEL.MASK_ENSEMBLE.CACHE of later runs (default: where they look).",
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="At once (default: one for each GPU).", min=1)
    ] = None,
    part: Annotated[
        str, typer.Option(help="Which part of the images: 2/8 is the second of eight.")
    ] = "1/1",
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, ... (default: cuda if there is one).")
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(help="Also write a picture of each image's masks here.", show_default=False),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option("--root", help="The folder of all data sets.", envvar="DETECTRON2_DATASETS"),
    ] = None,
    settings: Settings = None,
) -> None:
    """Make and keep SAM's masks of images: a grid of point prompts, filtered.

    One file for each image, found again by its pixels. What is there is skipped, so the same
    command goes on after an interruption; masks made with other settings are refused.

    Example: frozenseg sam-masks --dataset openvocab_ade20k_full_sem_seg_val --sam vit_h
    """
    from frozenseg.builders.sam_masks import MaskBuilder
    from frozenseg.builders.segmenter import build_mask_cache
    from frozenseg.sam_masks.bulk import DatasetImages, ImageFiles, make_masks

    if (dataset is None) == (not images):
        raise UserError("give either images or --dataset")
    overrides = {
        "MODEL.MASK_ENSEMBLE.SAM_NAME": sam,
        "MODEL.MASK_ENSEMBLE.SAM_WEIGHTS": sam_weights,
        "MODEL.MASK_ENSEMBLE.CACHE": output,
        "MODEL.DEVICE": device,
    }
    cfg = _config(model, overrides, settings or [])
    paths = find_images(images or [])
    source = ImageFiles(paths) if dataset is None else DatasetImages(dataset, root=root)
    indices = _part(part, len(source))
    made = problems = 0
    columns = (TextColumn("masks"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as progress:
        task = progress.add_task("masks", total=len(indices))
        for outcome in make_masks(
            MaskBuilder(cfg),
            source,
            indices,
            device=cfg.MODEL.DEVICE,
            processes=processes or _default_processes(cfg),
        ):
            made += outcome.made
            if outcome.problem is not None:
                say_error(outcome.problem)
                problems += 1
            elif draw is not None:
                _draw(cfg, source, outcome.index, draw, output_stems(paths))
            progress.advance(task)
    folder = build_mask_cache(cfg).folder
    there = len(indices) - made - problems
    console.print(f"{made} images done, {there} were there", highlight=False)
    console.print(f"masks: {folder}", highlight=False, markup=False, soft_wrap=True)
    if problems:
        raise typer.Exit(2)


def _config(model: str | None, overrides: dict[str, object], settings: Sequence[str]) -> "CfgNode":
    from frozenseg import model_config
    from frozenseg.config import load_config

    pairs = [part for key, value in overrides.items() if value for part in (key, str(value))]
    pairs += key_values(settings)
    return load_config(None, pairs) if model is None else model_config(model, overrides=pairs)


def _part(text: str, count: int) -> range:
    """Every n-th image from the k-th on."""
    which, _, parts = text.partition("/")
    if not (which.isdecimal() and parts.isdecimal() and 1 <= int(which) <= int(parts)):
        raise UserError(f"--part {text} is no part: write 2/8 for the second of eight")
    return range(int(which) - 1, count, int(parts))


def _default_processes(cfg: "CfgNode") -> int:
    import torch

    from frozenseg.runtime.devices import choose_device

    kind = choose_device(cfg.MODEL.DEVICE)
    return torch.cuda.device_count() if kind.type == "cuda" and kind.index is None else 1


def _draw(
    cfg: "CfgNode", source: "Images", index: int, folder: Path, stems: dict[Path, str]
) -> None:
    from frozenseg.builders.segmenter import build_mask_cache
    from frozenseg.io.files import atomic_write
    from frozenseg.visualization.masks import draw_masks

    image = source[index]
    masks = build_mask_cache(cfg).read(image)
    assert masks is not None, "they were made a moment ago"
    stem = list(stems.values())[index] if stems else f"{index:06d}"
    with atomic_write(folder / f"{stem}.png") as file:
        draw_masks(image, masks).save(file, format="PNG")
