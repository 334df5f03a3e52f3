"""``frozenseg sam-masks``: precomputes SAM masks for the OpenSeg ensemble (eq. 4)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from frozenseg.cli.console import errors, print_line, say_error
from frozenseg.cli.evaluate import test_set
from frozenseg.cli.image_files import find_images, output_stems
from frozenseg.cli.options import Device, Images, Root, Settings, key_values
from frozenseg.errors import UserError

if TYPE_CHECKING:
    from fvcore.common.config import CfgNode
    from torch import Tensor

    from frozenseg.sam_masks.bulk import Images as ImageSource
    from frozenseg.sam_masks.bulk import Outcome


def sam_masks(
    images: Images = None,
    dataset: Annotated[
        str | None, typer.Option(help="All images of a data set.", show_default=False)
    ] = None,
    sam: Annotated[
        str | None, typer.Option(help="SAM variant: vit_h (the paper's), vit_l, vit_b or vit_t.")
    ] = None,
    sam_weights: Annotated[
        str | None,
        typer.Option(
            help="A local file of SAM weights (default: published weights).", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A model's name or YAML file; its MODEL.MASK_ENSEMBLE keys are used."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the masks; later runs need it as MODEL.MASK_ENSEMBLE.CACHE (default: "
            "the cache folder, which they search automatically).",
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Parallel processes (default: one per GPU).", min=1)
    ] = None,
    part: Annotated[
        str, typer.Option(metavar="K/N", help="Process part K of N of the images, such as 2/8.")
    ] = "1/1",
    device: Device = None,
    draw: Annotated[
        Path | None,
        typer.Option(help="Folder for drawings of each image's masks.", show_default=False),
    ] = None,
    root: Root = None,
    settings: Settings = None,
) -> None:
    """Compute and store SAM masks of images, from a grid of point prompts.

    Writes one file per image, identified by the image's pixels. Stored images are skipped, so
    the same command resumes an interrupted run. Masks stored with other settings are refused.

    Example: frozenseg sam-masks --dataset ade20k_847 --sam vit_h
    """
    if (dataset is None) == (not images):
        raise UserError("give either images or --dataset")
    overrides = {
        "MODEL.MASK_ENSEMBLE.SAM_NAME": sam,
        "MODEL.MASK_ENSEMBLE.SAM_WEIGHTS": sam_weights,
        "MODEL.MASK_ENSEMBLE.CACHE": output,
        "MODEL.DEVICE": device,
    }
    cfg = _config(model, overrides, settings)
    source, stems = _open_images(images or [], dataset, root)
    indices = _indices_of_part(part, len(source))
    counts = Counter[str]()
    for outcome in _compute(cfg, source, indices, processes):
        counts.update(made=outcome.made, failed=outcome.problem is not None)
        if outcome.problem is not None:
            say_error(outcome.problem)
        elif draw is not None:
            _draw(cfg, source[outcome.index], draw / f"{stems[outcome.index]}.png")
    _report(cfg, counts, len(indices))


def _config(
    model: str | None, overrides: dict[str, object], settings: Sequence[str] | None
) -> "CfgNode":
    from frozenseg import model_config
    from frozenseg.config import load_config

    pairs = [part for key, value in overrides.items() if value for part in (key, str(value))]
    pairs += key_values(settings)
    return load_config(None, pairs) if model is None else model_config(model, overrides=pairs)


def _open_images(
    images: Sequence[Path], dataset: str | None, root: Path | None
) -> "tuple[ImageSource, list[str]]":
    """The images, and the stem of each drawing."""
    from frozenseg.sam_masks.bulk import DatasetImages, ImageFiles

    if dataset is not None:
        source = DatasetImages(test_set(dataset)[0], root=root)
        return source, [f"{index:06d}" for index in range(len(source))]
    paths = find_images(images)
    return ImageFiles(paths), list(output_stems(paths).values())


def _indices_of_part(part: str, count: int) -> range:
    """Every N-th index, starting at the K-th."""
    which, _, parts = part.partition("/")
    if not (which.isdecimal() and parts.isdecimal() and 1 <= int(which) <= int(parts)):
        raise UserError(f"--part {part} is not K/N with K from 1 to N: write 2/8, for example")
    return range(int(which) - 1, count, int(parts))


def _compute(
    cfg: "CfgNode", source: "ImageSource", indices: Sequence[int], processes: int | None
) -> "Iterator[Outcome]":
    """Computes the missing masks and shows the progress."""
    from frozenseg.builders.sam_masks import MaskBuilder
    from frozenseg.sam_masks.bulk import make_masks

    processes = processes or _default_processes(cfg)
    columns = (TextColumn("masks"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as progress:
        task = progress.add_task("masks", total=len(indices))
        for outcome in make_masks(
            MaskBuilder(cfg), source, indices, device=cfg.MODEL.DEVICE, processes=processes
        ):
            yield outcome
            progress.advance(task)


def _default_processes(cfg: "CfgNode") -> int:
    import torch

    from frozenseg.runtime.devices import choose_device

    kind = choose_device(cfg.MODEL.DEVICE)
    return torch.cuda.device_count() if kind.type == "cuda" and kind.index is None else 1


def _draw(cfg: "CfgNode", image: "Tensor", path: Path) -> None:
    from frozenseg.builders.sam_masks import build_mask_cache
    from frozenseg.io.files import atomic_write
    from frozenseg.visualization.masks import draw_masks

    masks = build_mask_cache(cfg).read(image)
    assert masks is not None, "the masks were stored just before"
    with atomic_write(path) as part:
        draw_masks(image, masks).save(part, format="PNG")


def _report(cfg: "CfgNode", counts: Counter[str], total: int) -> None:
    """Prints the counts and the folder; exits with status 2 if an image failed."""
    from frozenseg.builders.sam_masks import build_mask_cache

    stored = total - counts["made"] - counts["failed"]
    print_line(f"{counts['made']} images processed, {stored} already stored")
    print_line(f"masks: {build_mask_cache(cfg).folder}")
    if counts["failed"]:
        raise typer.Exit(2)
