"""Frames of a video file or a camera, one at a time."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frozenseg.data.pillow import check_size, max_pixels
from frozenseg.errors import UserError
from frozenseg.io.files import is_file, user_path
from frozenseg.io.text import one_line
from frozenseg.video.library import one_sentence, pyav

# FFmpeg's input device, and the name of camera N
_CAMERAS = {
    "linux": ("v4l2", "/dev/video{}"),
    "darwin": ("avfoundation", "{}:none"),
    "win32": ("vfwcap", "{}"),
}
_DEFAULT_RATE = Fraction(30)  # frames per second of videos that do not name theirs


class Frame(NamedTuple):
    """A decoded frame; ``pixels`` is (H, W, 3) uint8 RGB, upright."""

    index: int  # from 0
    time: float  # seconds from the start
    pixels: NDArray[np.uint8]


class VideoReader:
    """An open video.

    Attributes:
        name: for messages.
        rate: frames per second.
        num_frames: an estimate; None if the length is not known.
        sound: the streams of sound.
    """

    def __init__(self, container: Any, name: str) -> None:
        if not container.streams.video:
            raise UserError(f"{name} has no video: give a file with moving images")
        self.name, self._container = name, container
        self._stream = container.streams.video[0]
        codec = self._stream.codec_context
        if codec is None:
            raise UserError(f"{name} has video of an unknown codec: convert it, for example to MP4")
        check_size((codec.width, codec.height), name=name, limit=max_pixels())
        self.rate: Fraction = self._stream.average_rate or _DEFAULT_RATE
        self.num_frames: int | None = self._stream.frames or self._estimate()
        self.sound = tuple(container.streams.audio)

    def frames(self, on_sound: Callable[[Any], None] | None = None) -> Iterator[Frame]:
        """Yields the frames in the order in which they are shown.

        Args:
            on_sound: called with each packet of sound, in the order of the file.

        Raises:
            UserError: a frame is damaged, or there is none.
        """
        streams = [self._stream, *(self.sound if on_sound is not None else ())]
        index = 0
        for packet in self._packets(streams):
            if packet.stream.type == "audio":
                if on_sound is not None and packet.dts is not None:  # None: the end of the stream
                    on_sound(packet)
                continue
            for frame in self._decoded(packet, index):
                yield self._upright(frame, index)
                index += 1
        if index == 0:
            raise UserError(f"{self.name} has no frame: give another video")

    def _packets(self, streams: list[Any]) -> Iterator[Any]:
        packets = iter(self._container.demux(streams))
        while True:
            with one_sentence(f"{self.name} is damaged", advice="get it again"):
                packet = next(packets, None)
            if packet is None:
                return
            yield packet

    def _decoded(self, packet: Any, index: int) -> list[Any]:
        problem = f"{self.name} is damaged at frame {index}"
        with one_sentence(problem, advice="get it again, or cut it before this frame"):
            return packet.decode()

    def _upright(self, frame: Any, index: int) -> Frame:
        pixels = frame.to_ndarray(format="rgb24")
        turns = round((frame.rotation or 0) / 90)  # counter-clockwise, as phones store it
        time = float(index / self.rate) if frame.time is None else frame.time
        return Frame(index, time, np.ascontiguousarray(np.rot90(pixels, turns)))

    def _estimate(self) -> int | None:
        duration = self._container.duration
        return None if not duration else max(1, round(float(duration / 1_000_000 * self.rate)))


@contextmanager
def open_video(source: str | Path | int) -> Iterator[VideoReader]:
    """Opens a video file, or the camera with this number, for the length of the block.

    Files are read through Python, so that a playlist cannot make FFmpeg open others.

    Raises:
        UserError: no such file or camera; it is no video, or PyAV is not installed.
    """
    av = pyav()
    if isinstance(source, int):
        kind, address = _CAMERAS.get(sys.platform, _CAMERAS["linux"])
        problem, advice = f"camera {source} cannot be opened", "give the number of another"
        with one_sentence(problem, advice=advice):
            container = av.open(address.format(source), format=kind)
        with container:
            yield VideoReader(container, f"camera {source}")
        return
    path = user_path(source)
    if not is_file(path):
        raise UserError(f"no video file {one_line(path)}: check the path")
    problem = f"{one_line(path)} is not a video that can be read"
    with path.open("rb") as file:
        with one_sentence(problem, advice="give an MP4, MOV, MKV or WebM file"):
            container = av.open(file, options={"protocol_whitelist": "none"})
        with container:
            yield VideoReader(container, one_line(path))
