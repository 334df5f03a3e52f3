"""Video files: sound and damaged, of several containers."""

import io
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tools.fuzz.case import Case, Entry, WrongResult
from tools.fuzz.mutate import damaged_bytes

FORMATS = (
    ("mp4", "libx264", "yuv420p"), ("mov", "mpeg4", "yuv420p"), ("matroska", "ffv1", "yuv420p"),
    ("webm", "libvpx-vp9", "yuv420p"), ("avi", "mjpeg", "yuvj420p"), ("gif", "gif", "rgb8"),
    ("mpegts", "mpeg2video", "yuv420p"), ("ogg", "theora", "yuv420p"),
)  # fmt: skip
MOST_FRAMES = 50


def clip(rng: Random) -> bytes:
    """A few frames of noise in a random container."""
    import av

    container, codec, pixels = rng.choice(FORMATS)
    file = io.BytesIO()
    size = rng.choice(((16, 16), (48, 32), (64, 2)))
    noise = np.random.default_rng(rng.randrange(1 << 30))
    try:
        with av.open(file, "w", format=container) as out:
            stream: Any = out.add_stream(codec, rate=Fraction(25))
            stream.width, stream.height, stream.pix_fmt = *size, pixels
            for _ in range(rng.randrange(1, 6)):
                values = noise.integers(0, 256, (size[1], size[0], 3), np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(values, format="rgb24")))
            out.mux(stream.encode())
    except (OSError, ValueError):  # this FFmpeg has no such encoder, or it refuses the size
        return b"GIF89a"
    return file.getvalue()


def _make(rng: Random) -> Case:
    content = clip(rng)
    if rng.random() < 0.8:
        content = damaged_bytes(rng, content)
    return Case("videos", {}, {rng.choice(("clip.mp4", "clip.mkv", "clip.gif")): content})


def _run(_: Any, folder: Path) -> None:
    from frozenseg.data.pillow import max_pixels
    from frozenseg.video import open_video

    [path] = folder.iterdir()
    with open_video(path) as video:
        for count, frame in enumerate(video.frames(lambda _packet: None)):
            height, width, channels = frame.pixels.shape
            if channels != 3 or frame.pixels.dtype != np.uint8 or height * width > max_pixels():
                raise WrongResult(f"a frame of shape {frame.pixels.shape} was accepted")
            if count == MOST_FRAMES:
                return


ENTRIES = (Entry("videos", _make, _run, 0.5),)
