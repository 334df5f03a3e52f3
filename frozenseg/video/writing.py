"""Videos of drawings, with the sound of the original."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenseg.io.files import atomic_write
from frozenseg.io.text import one_line
from frozenseg.video.library import one_sentence, pyav
from frozenseg.video.reading import Frame, VideoReader

_CLOCK = Fraction(1, 90_000)  # seconds per tick of the times that are written
# Containers that are kept; all others become Matroska, which takes every kind of sound.
_CODECS = {
    ".mp4": ("libx264", {"crf": "18", "preset": "fast"}),
    ".mov": ("libx264", {"crf": "18", "preset": "fast"}),
    ".mkv": ("libx264", {"crf": "18", "preset": "fast"}),
    ".webm": ("libvpx-vp9", {"crf": "24", "b": "0", "cpu-used": "4", "row-mt": "1"}),
}


def output_suffix(path: Path) -> str:
    """Returns the ending of the file that is written for a video."""
    suffix = path.suffix.lower()
    return suffix if suffix in _CODECS else ".mkv"


class VideoWriter:
    """A video that is being written; see :func:`write_video`.

    Its streams are declared when the first frame arrives, whose size the video has.
    """

    def __init__(self, container: Any, path: Path, like: VideoReader) -> None:
        self._container, self._path, self._like = container, path, like
        self._picture: Any = None
        self._sound: dict[int, Any] = {}
        self._waiting: list[Any] = []  # packets of sound before the first frame
        self._last = -1

    def add(self, frame: Frame, pixels: NDArray[np.uint8]) -> None:
        """Adds an (H, W, 3) uint8 RGB drawing at the time of a frame."""
        stream = self._picture or self._declare(pixels.shape[0], pixels.shape[1])
        picture = pyav().VideoFrame.from_ndarray(pixels, format="rgb24")
        picture = picture.reformat(stream.width, stream.height, "yuv420p")
        self._last = max(self._last + 1, round(frame.time / _CLOCK))  # times must increase
        picture.pts, picture.time_base = self._last, _CLOCK
        with cannot_be_written(self._path):
            self._container.mux(stream.encode(picture))

    def add_sound(self, packet: Any) -> None:
        """Adds a packet of sound as it is."""
        if self._picture is None:
            self._waiting.append(packet)
            return
        packet.stream = self._sound[packet.stream.index]
        with cannot_be_written(self._path):
            self._container.mux(packet)

    def finish(self) -> None:
        """Writes the frames that the encoder still holds."""
        with cannot_be_written(self._path):
            self._container.mux(self._picture.encode())

    def _declare(self, height: int, width: int) -> Any:
        """Declares the streams and returns that of the pictures."""
        codec, options = _CODECS[self._path.suffix]
        with cannot_be_written(self._path):
            self._picture = self._container.add_stream(
                codec, rate=self._like.rate, options=dict(options)
            )
            self._sound = {
                sound.index: self._container.add_stream_from_template(sound)
                for sound in self._like.sound
            }
        self._picture.pix_fmt = "yuv420p"
        self._picture.width, self._picture.height = _even(width), _even(height)
        self._picture.codec_context.time_base = _CLOCK
        waiting, self._waiting = self._waiting, []
        for packet in waiting:
            self.add_sound(packet)
        return self._picture


@contextmanager
def write_video(path: Path, *, like: VideoReader) -> Iterator[VideoWriter]:
    """Writes a video that replaces ``path`` if the block succeeds.

    Args:
        path: with an ending that ``output_suffix`` returns.
        like: the original, whose rate and sound the video has.

    Raises:
        UserError: it cannot be written, such as on a full disk.
    """
    with atomic_write(path) as part:
        with cannot_be_written(path):
            container = pyav().open(str(part), "w")
        try:
            writer = VideoWriter(container, path, like)
            yield writer
            writer.finish()
        finally:
            with cannot_be_written(path):
                container.close()


def cannot_be_written(path: Path) -> AbstractContextManager[None]:
    """Turns errors of PyAV inside the block into one sentence about the file."""
    return one_sentence(f"{one_line(path)} cannot be written", advice="choose another --output")


def _even(length: int) -> int:
    """Rounds down to an even number of pixels, which the codecs need, but not below 2."""
    return max(2, length - length % 2)
