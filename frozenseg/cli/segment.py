"""``frozenseg segment``: images and class names in; drawings, id maps and named segments out."""

import json
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import track

from frozenseg.cli.console import console, errors, print_line, say_error, say_warning
from frozenseg.cli.image_files import find_images, output_stems, refuse_to_overwrite
from frozenseg.cli.options import (
    ModelOptions,
    OutputFolder,
    VocabularyOptions,
    grouped,
)
from frozenseg.errors import UserError

if TYPE_CHECKING:
    from frozenseg.inference.segmentation import Segmentation
    from frozenseg.inference.segmenter import Segmenter
    from frozenseg.vocabulary import Vocabulary

PHOTO_SUFFIXES = (".jpeg", ".jpg", ".webp")


class Task(StrEnum):
    panoptic = "panoptic"
    semantic = "semantic"
    instance = "instance"


@grouped
def segment(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE", help="Images, or folders of images.", show_default=False),
    ],
    classes: VocabularyOptions,
    model: ModelOptions,
    task: Annotated[Task, typer.Option(help="Kind of segmentation.")] = Task.panoptic,
    min_score: Annotated[
        float | None,
        typer.Option(
            help="Drop segments with a lower score (not for --task semantic).",
            min=0,
            max=1,
            show_default=False,
        ),
    ] = None,
    output: OutputFolder = Path("output/segment"),
    masks: Annotated[
        bool, typer.Option("--masks", help="Also write one PNG per segment: IMAGE_masks/.")
    ] = False,
    scores: Annotated[
        bool, typer.Option("--scores", help="Write scores beside the names in the drawing.")
    ] = False,
    coco: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write all masks of all images to one COCO JSON file (RLE).",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON line per image instead of a table.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print errors and warnings only.")
    ] = False,
) -> None:
    """Segment images with any class names.

    Writes, for each image, a drawing, a JSON file of segments and a 16-bit PNG of segment ids.
    Exits with status 2 if an image could not be segmented.

    Example: frozenseg segment cat.jpg -w "cat, kitten; sofa" --stuff "wall; floor"
    """
    if min_score is not None and task is Task.semantic:
        raise UserError("--min-score needs scores, which --task semantic has not: omit one of them")
    vocabulary = classes.read()
    stems = output_stems(find_images(images))
    refuse_to_overwrite(stems, output)
    segmenter = model.load(quiet=quiet)

    from frozenseg.inference.result_files import CocoDataset
    from frozenseg.inference.segments_table import shown_segments

    dataset, segmented = CocoDataset(), []
    for path, found in _segment_each(segmenter, list(stems), vocabulary, task, quiet=quiet):
        segmented.append(path)
        found = found if min_score is None else found.above(min_score)
        written = found.save(output, stems[path], masks=masks, scores=scores)
        if coco is not None:
            dataset.add(str(path), found)
        if as_json:
            typer.echo(json.dumps(_record(path, found, written), allow_nan=False))
        elif not quiet:
            _print_table(path, found, written)
        if not shown_segments(found):
            _warn_of_empty(path, "--task semantic" if min_score is None else "a lower --min-score")
    if coco is not None:
        dataset.write(coco)
    if segmented and model.model == "shapes":
        _warn_of_photographs(segmented, vocabulary)
    if len(segmented) < len(stems):
        raise typer.Exit(2)


def _segment_each(
    segmenter: "Segmenter",
    paths: Sequence[Path],
    vocabulary: "Vocabulary",
    task: Task,
    *,
    quiet: bool,
) -> "Iterator[tuple[Path, Segmentation]]":
    """Segments the images that can be read; prints an error for each of the others."""
    hidden = quiet or len(paths) == 1 or not errors.is_terminal
    for path in track(paths, "segmenting", console=errors, disable=hidden):
        try:
            found = segmenter(path, vocabulary, task=task.value)
        except UserError as error:  # the other images can still be segmented
            say_error(str(error))
            continue
        yield path, found


def _warn_of_empty(path: Path, option: str) -> None:
    say_warning(
        f"no segment found in {path}: try other class names, synonyms, {option}, or a lower "
        "threshold, as in --set MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD=0.3"
    )


def _warn_of_photographs(paths: Sequence[Path], vocabulary: "Vocabulary") -> None:
    """Warns if the miniature model was given photographs, or class names it cannot know."""
    from frozenseg.data.shapes import all_names

    known = all_names()
    if any(name in known for synonyms in vocabulary.synonyms for name in synonyms) and not any(
        path.suffix.lower() in PHOTO_SUFFIXES for path in paths
    ):
        return
    say_warning(
        "the model 'shapes' is a miniature trained on drawn shapes only and cannot segment "
        "photographs: for these, give --model and --weights of a full model"
    )


def _print_table(path: Path, found: "Segmentation", written: dict[str, Path]) -> None:
    from frozenseg.inference.segments_table import segments_table, shown_segments, summary

    print_line(f"{path}: {summary(found)}")
    if shown_segments(found):
        console.print(segments_table(found))
    for kind in ("drawing", "masks"):
        if kind in written:
            print_line(f"{kind}: {written[kind]}")


def _record(path: Path, found: "Segmentation", written: dict[str, Path]) -> dict[str, object]:
    files = {kind: str(file) for kind, file in written.items()}
    return {"file_name": str(path), **found.to_coco(), "files": files}
