"""What ``frozenseg segment`` writes and prints for each result."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from frozenseg.cli.console import console, print_line, say_warning
from frozenseg.cli.image_files import STANDARD_INPUT
from frozenseg.cli.options import OutputFolder
from frozenseg.errors import UserError

if TYPE_CHECKING:
    from frozenseg.inference.call_options import Task
    from frozenseg.inference.segmentation import Segmentation

Written = dict[str, Path]


@dataclass(frozen=True)
class ResultOptions:
    """The files and the lines that are wanted."""

    min_score: Annotated[
        float | None,
        typer.Option(
            help="Drop segments with a lower score (not for --task semantic).",
            min=0,
            max=1,
            show_default=False,
        ),
    ] = None
    output: OutputFolder = Path("output/segment")
    overlay: Annotated[
        bool,
        typer.Option(
            "--overlay/--no-overlay", help="Write images and videos overlaid with segments."
        ),
    ] = True
    scores: Annotated[
        bool, typer.Option("--scores", help="Add scores to the names in the drawing.")
    ] = False
    masks: Annotated[
        bool, typer.Option("--masks", help="Also write one PNG per segment, to IMAGE_masks/.")
    ] = False
    frames: Annotated[
        bool,
        typer.Option("--frames", help="Write files for each frame of a video, to VIDEO_frames/."),
    ] = False
    coco: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write all masks of all images to one COCO JSON file (RLE).",
            show_default=False,
        ),
    ] = None
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON line per image or frame instead of a table."),
    ] = False
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print errors and warnings only.")
    ] = False

    def check(self, videos: Sequence[Path]) -> None:
        """Raises a ``UserError`` for options that videos do not have."""
        if not videos or self.frames:
            return
        for option, given in (("--masks", self.masks), ("--coco", self.coco is not None)):
            if given:
                raise UserError(f"{option} with the video {videos[0]} needs --frames: add it")
        if not (self.overlay or self.as_json):
            raise UserError(
                f"--no-overlay leaves nothing to write of the video {videos[0]}: add --frames or "
                "--json"
            )


class ResultWriter:
    """Writes files, prints lines, and collects the COCO file.

    Args:
        options: what is wanted.
        task: of all results.
    """

    def __init__(self, options: ResultOptions, task: str) -> None:
        from frozenseg.inference.result_files import CocoDataset

        self.options = options
        self.task: Task = cast("Task", task)
        self._dataset = CocoDataset()

    def kept(self, found: "Segmentation") -> "Segmentation":
        """The result without the segments that score lower than ``--min-score``."""
        min_score = self.options.min_score
        return found if min_score is None else found.above(min_score)

    def write(self, path: Path, stem: str, found: "Segmentation") -> None:
        """Writes and prints the result of an image."""
        found = self.kept(found)
        written = self.save(self.options.output, stem, str(path), found)
        if self.options.as_json:
            self.print_record(path, found, written)
        elif not self.options.quiet:
            _print_table(path, found, written)
        if not has_segments(found):
            self.warn_of_empty(path)

    def save(self, folder: Path, stem: str, name: str, found: "Segmentation") -> Written:
        """Writes the files of an image or frame, which the COCO file calls ``name``."""
        wanted = self.options
        written = found.save(
            folder, stem, masks=wanted.masks, scores=wanted.scores, drawing=wanted.overlay
        )
        if wanted.coco is not None:
            self._dataset.add(name, found)
        return written

    def print_record(
        self, path: Path, found: "Segmentation", written: Written, **more: object
    ) -> None:
        """Prints a result as one line of JSON; ``more`` are further keys."""
        files = {kind: str(file) for kind, file in written.items()}
        record = {"file_name": str(path), **more, **found.to_coco(), "files": files}
        typer.echo(json.dumps(record, allow_nan=False))

    def warn_of_empty(self, path: Path) -> None:
        """Warns that nothing was found, and says what to try."""
        name = "standard input" if path == STANDARD_INPUT else path
        option = "--task semantic" if self.options.min_score is None else "a lower --min-score"
        say_warning(
            f"no segment found in {name}: try other class names, synonyms, {option}, or a lower "
            "threshold, as in --set MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD=0.3"
        )

    def finish(self) -> None:
        """Writes the COCO file."""
        if self.options.coco is not None:
            self._dataset.write(self.options.coco)


def has_segments(found: "Segmentation") -> bool:
    """Returns True if the drawing shows a segment."""
    from frozenseg.inference.segments_table import shown_segments

    return bool(shown_segments(found))


def _print_table(path: Path, found: "Segmentation", written: Written) -> None:
    from frozenseg.inference.segments_table import segments_table, summary

    print_line(f"{path}: {summary(found)}")
    if has_segments(found):
        console.print(segments_table(found))
    for kind in ("drawing", "masks"):
        if kind in written:
            print_line(f"{kind}: {written[kind]}")
