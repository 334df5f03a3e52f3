"""``frozenseg segment clip.mp4``: a video of drawings with its sound, or files of its frames."""

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import track

from frozenseg.cli.console import errors, print_line
from frozenseg.cli.segment_results import ResultWriter, has_segments
from frozenseg.video import Frame, VideoReader, VideoWriter, open_video, output_suffix, write_video

if TYPE_CHECKING:
    from frozenseg.inference.segmentation import Segmentation
    from frozenseg.inference.segmenter import Segmenter
    from frozenseg.vocabulary import Vocabulary


def segment_clip(
    path: Path, stem: str, segmenter: "Segmenter", vocabulary: "Vocabulary", results: ResultWriter
) -> None:
    """Segments a video, one frame in memory at a time.

    Args:
        path: the video.
        stem: of the files to write.
        segmenter: the model.
        vocabulary: the classes.
        results: writes and prints.

    Raises:
        UserError: it is no video, is damaged, or cannot be written.
    """
    wanted = results.options
    target = wanted.output / f"{stem}{output_suffix(path)}"
    num_frames, num_found = 0, 0
    with open_video(path) as video:
        as_video = wanted.overlay and not wanted.frames
        with write_video(target, like=video) if as_video else nullcontext() as writer:
            for frame in _tracked(video, path, writer, quiet=wanted.quiet):
                found = results.kept(segmenter(frame.pixels, vocabulary, task=results.task))
                if writer is not None:
                    writer.add(frame, np.asarray(found.draw(scores=wanted.scores)))
                _write_frame(path, stem, frame, found, results)
                num_frames += 1
                num_found += has_segments(found)
    if not (wanted.quiet or wanted.as_json):
        print_line(f"{path}: {num_frames} frames, {num_found} with segments")
        print_line(f"drawing: {target}" if as_video else f"frames: {_frames_folder(stem, results)}")
    if not num_found:
        results.warn_of_empty(path)


def _tracked(
    video: VideoReader, path: Path, writer: VideoWriter | None, *, quiet: bool
) -> Iterable[Frame]:
    """The frames, with a progress bar and an estimate."""
    frames = video.frames(None if writer is None else writer.add_sound)
    hidden = quiet or not errors.is_terminal
    return track(frames, path.name, total=video.num_frames, console=errors, disable=hidden)


def _write_frame(
    path: Path, stem: str, frame: Frame, found: "Segmentation", results: ResultWriter
) -> None:
    written = {}
    if results.options.frames:
        folder, name = _frames_folder(stem, results), f"{frame.index:06d}"
        written = results.save(folder, name, f"{path}#{name}", found)
    if results.options.as_json:
        time = round(frame.time, 6)
        results.print_record(path, found, written, frame=frame.index, time=time)


def _frames_folder(stem: str, results: ResultWriter) -> Path:
    return results.options.output / f"{stem}_frames"
