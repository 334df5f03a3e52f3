"""``frozenseg segment``: images and class names in; drawings, id maps and named segments out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import track

from frozenseg.cli.console import errors, say_error, say_warning
from frozenseg.cli.image_files import (
    STANDARD_INPUT,
    find_images,
    is_video,
    listed_paths,
    output_stems,
    refuse_to_overwrite,
)
from frozenseg.cli.options import ModelOptions, VocabularyOptions, grouped
from frozenseg.cli.segment_results import ResultOptions, ResultWriter
from frozenseg.errors import UserError
from frozenseg.runtime.memory import OutOfMemory, memory_gate

if TYPE_CHECKING:
    from frozenseg.inference.segmentation import Segmentation
    from frozenseg.inference.segmenter import Segmenter
    from frozenseg.vocabulary import Vocabulary

PHOTO_SUFFIXES = (".jpeg", ".jpg", ".webp")


class Task(StrEnum):
    panoptic = "panoptic"
    semantic = "semantic"
    instance = "instance"


@dataclass(frozen=True)
class InputOptions:
    """Images beyond those named on the command line."""

    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Include subfolders.")] = (
        False
    )
    from_list: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="A text file with one path per line; '-' reads standard input.",
            show_default=False,
        ),
    ] = None

    def find(self, images: Sequence[Path]) -> list[Path]:
        """All images and videos; raises a ``UserError`` if there is none."""
        paths = [*images, *(() if self.from_list is None else listed_paths(self.from_list))]
        if not paths:
            raise UserError(
                "no images: give files, folders, patterns such as '*.jpg', - for standard "
                "input, or --from LIST"
            )
        return find_images(paths, recursive=self.recursive)


@grouped
def segment(
    inputs: InputOptions,
    classes: VocabularyOptions,
    model: ModelOptions,
    results: ResultOptions,
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IMAGE",
            help="Images, videos, folders of images, patterns such as '*.jpg', or '-' for an image "
            "on standard input.",
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        Task | None,
        typer.Option(
            help="Kind of segmentation (default: panoptic, if the model supports it).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Segment images and videos with any class names.

    For each image, writes a drawing, a JSON file of segments and a 16-bit PNG of segment ids; for
    each video, a video of drawings with its sound. Exits with status 2 if an image or video could
    not be segmented.

    Example: frozenseg segment cat.jpg -w "cat, kitten; sofa" --stuff "wall; floor"
    """
    vocabulary = classes.read()
    stems = output_stems(inputs.find(images or ()))
    refuse_to_overwrite(stems, results.output)
    results.check([path for path in stems if is_video(path)])
    segmenter = model.load(quiet=results.quiet)
    task = task or Task(segmenter.default_task)
    if results.min_score is not None and task is Task.semantic:
        raise UserError(
            "--min-score needs scores, which --task semantic does not have: omit one of them"
        )
    writer = ResultWriter(results, task.value)
    done = []
    for path in _shown(list(stems), quiet=results.quiet):
        try:
            with memory_gate(path):
                found = _segment(path, stems[path], segmenter, vocabulary, writer)
        except UserError as error:  # the other images can still be segmented
            _say_of_image(path, error)
            continue
        try:
            with memory_gate(path):
                if found is not None:
                    writer.write(path, stems[path], found)
        except OutOfMemory as error:  # unlike a full disk, it ends with this image
            _say_of_image(path, error)
            continue
        done.append(path)
    writer.finish()
    if done and model.model == "shapes":
        _warn_of_photographs(done, vocabulary)
    if len(done) < len(stems):
        raise typer.Exit(2)


def _say_of_image(path: Path, error: UserError) -> None:
    sentence = str(error)
    named = path != STANDARD_INPUT or sentence.startswith("standard input")
    say_error(sentence if named else f"standard input: {sentence}")


def _shown(paths: Sequence[Path], *, quiet: bool) -> Iterable[Path]:
    """The paths, with a progress bar and an estimate if there are several."""
    hidden = quiet or len(paths) == 1 or not errors.is_terminal or any(map(is_video, paths))
    return track(paths, "segmenting", console=errors, disable=hidden)


def _segment(
    path: Path, stem: str, segmenter: "Segmenter", vocabulary: "Vocabulary", writer: ResultWriter
) -> "Segmentation | None":
    """Segments an image; a video is also written, frame by frame."""
    if is_video(path):
        from frozenseg.cli.segment_video import segment_clip

        segment_clip(path, stem, segmenter, vocabulary, writer)
        return None
    image = _standard_input() if path == STANDARD_INPUT else path
    return segmenter(image, vocabulary, task=writer.task)


def _standard_input() -> bytes:
    """Returns the image that is piped in; more than the largest image has is not read."""
    from frozenseg.data.pillow import max_bytes
    from frozenseg.io.gates import read_standard_input

    return read_standard_input(max_bytes=max_bytes())


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
