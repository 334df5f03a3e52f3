"""``frozenseg segment``: images and words in; pictures, id maps and named segments out."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from frozenseg.cli.console import console, errors, say_error
from frozenseg.cli.settings import Settings, key_values
from frozenseg.cli.words import vocabulary_of
from frozenseg.errors import UserError
from frozenseg.io.text import shown

if TYPE_CHECKING:
    from frozenseg.inference.segmentation import Segmentation

SHOWN_NAMES = 5  # of files that are left out of a folder


class Task(StrEnum):
    panoptic = "panoptic"
    semantic = "semantic"
    instance = "instance"


def segment(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE", help="Images, or folders of images.", show_default=False),
    ],
    words: Annotated[
        str | None,
        typer.Option(
            "--words",
            "-w",
            help="Classes, parted by ';', their synonyms by ','.",
            show_default=False,
        ),
    ] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            "--vocabulary",
            "-v",
            metavar="FILE|NAME",
            help="A text file with a class per line, or a built-in list such as ade20k_150.",
            show_default=False,
        ),
    ] = None,
    stuff: Annotated[
        str | None,
        typer.Option(help="Which of the classes are stuff (others are added).", show_default=False),
    ] = None,
    task: Annotated[Task, typer.Option(help="What to make.")] = Task.panoptic,
    model: Annotated[
        str, typer.Option(help="'shapes', the miniature model, or a YAML file.")
    ] = "shapes",
    weights: Annotated[
        Path | None, typer.Option(help="Trained weights, if not the model's.", show_default=False)
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, ... (default: cuda if there is one).")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path(
        "output/segment"
    ),
    settings: Settings = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON line per image instead of a table.")
    ] = False,
) -> None:
    """Segment images with words.

    Writes, for each image, a picture, a JSON file of segments and a 16-bit PNG of segment ids.

    Example: frozenseg segment cat.jpg -w "cat, kitten; sofa" --stuff "wall; floor"
    """
    from frozenseg import load

    chosen = vocabulary_of(words, vocabulary, stuff)
    paths = find_images(images)
    stems = output_stems(paths)
    refuse_to_overwrite(paths, output, stems)
    overrides = key_values(settings or [])
    with errors.status("loading the model"):
        segmenter = load(model, weights=weights, device=device, overrides=overrides)
    failures = 0
    for path in track(
        paths, "segmenting", console=errors, disable=len(paths) == 1 or not errors.is_terminal
    ):
        try:
            found = segmenter(path, chosen, task=task.value)
        except UserError as error:  # the other images have nothing to do with it
            say_error(str(error))
            failures += 1
            continue
        written = found.save(output, stems[path])
        if as_json:
            typer.echo(json.dumps(_record(path, found, written), allow_nan=False))
        else:
            console.print(segments_table(found, title=escape(str(path))))
            console.print(f"written: {written['drawing']}", highlight=False, markup=False)
    if failures:
        raise typer.Exit(2)


def find_images(paths: list[Path]) -> list[Path]:
    """The images that the paths name: folders stand for the images in them, sorted by name.

    Files of a folder that are left out, because their endings are not those of images that can be
    read, are reported on standard error.

    Raises:
        UserError: a folder cannot be read, or has no image.
    """
    from frozenseg.data.images import image_files

    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        try:
            images, others = image_files(path)
        except OSError as error:
            raise UserError(
                f"the folder {path} cannot be read ({error.strerror}): name another"
            ) from error
        if not images:
            raise UserError(
                f"the folder {path} holds no image that can be read: name a folder or files that do"
            )
        if others:
            names = ", ".join(each.name for each in others[:SHOWN_NAMES])
            more = f" and {len(others) - SHOWN_NAMES} more" if len(others) > SHOWN_NAMES else ""
            note = f"left out of {path}, because they are no images that can be read: {names}{more}"
            errors.print(shown(note), highlight=False, markup=False, soft_wrap=True)
        found += images
    return list(dict.fromkeys(found))


def output_stems(paths: list[Path]) -> dict[Path, str]:
    """What each image's results are called: its stem, numbered where that is taken."""
    taken: set[str] = set()
    stems: dict[Path, str] = {}
    for path in paths:
        stem, number = path.stem, 1
        while not taken.isdisjoint(files := (stem, f"{stem}_ids")):
            number += 1
            stem = f"{path.stem}_{number}"
        taken.update(files)
        stems[path] = stem
    return stems


def refuse_to_overwrite(paths: list[Path], folder: Path, stems: dict[Path, str]) -> None:
    """Raises a ``UserError`` if a result would take the place of an input."""
    inputs = {path.resolve() for path in paths}
    for stem in stems.values():
        for name in (f"{stem}.png", f"{stem}_ids.png"):
            if (folder / name).resolve() in inputs:
                raise UserError(f"{folder / name} is an input: choose another --output")


def segments_table(found: "Segmentation", *, title: str) -> Table:
    """What was found in one image; of instances, those that the picture shows."""
    from frozenseg.visualization.draw import SHOWN_SCORE

    shown = [
        each for each in found.segments if found.task != "instance" or each.score >= SHOWN_SCORE
    ]
    table = Table(title=title, title_justify="left", caption=_remark(found, len(shown)))
    table.add_column("name")
    table.add_column("kind")
    table.add_column("score", justify="right")
    table.add_column("pixels", justify="right")
    table.add_column("share", justify="right")
    num_pixels = found.image.shape[0] * found.image.shape[1]
    for each in shown:
        table.add_row(
            escape(each.name),
            "thing" if each.is_thing else "stuff",
            shown_score(each.score),
            f"{each.area:,}",
            f"{each.area / num_pixels:.1%}",
        )
    return table


def shown_score(score: float) -> str:
    """Two digits; a dash where a task has no score."""
    return "-" if score != score else f"{score:.2f}"


def _remark(found: "Segmentation", num_shown: int) -> str | None:
    if found.panoptic is not None:
        share = (found.panoptic.ids == 0).float().mean().item()
        return f"{share:.1%} of the image belongs to no segment"
    hidden = len(found.segments) - num_shown
    return f"{hidden} weaker ones are in the JSON file only" if hidden else None


def _record(path: Path, found: "Segmentation", written: dict[str, Path]) -> dict[str, object]:
    files = {kind: str(file) for kind, file in written.items()}
    return {"file_name": str(path), **found.to_coco(), "files": files}
