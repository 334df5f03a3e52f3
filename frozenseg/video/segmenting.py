"""Segmentation of a video, frame by frame."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Unpack

from frozenseg.inference.call_options import CallOptions
from frozenseg.inference.segmentation import Segmentation
from frozenseg.inference.segmenter import Segmenter, VocabularyLike
from frozenseg.video.reading import open_video


class VideoFrame(NamedTuple):
    """A segmented frame."""

    index: int  # from 0
    time: float  # seconds from the start
    result: Segmentation


def segment_video(
    source: str | Path | int,
    vocabulary: VocabularyLike,
    *,
    segmenter: Segmenter,
    **options: Unpack[CallOptions],
) -> Iterator[VideoFrame]:
    """Yields the segmented frames of a video; one frame is in memory at a time.

    Frames are segmented independently: segment ids are not tracked from frame to frame, but a
    class has one colour in all drawings.

    Args:
        source: a file, or the number of a camera.
        vocabulary: as for ``segmenter(image, vocabulary)``.
        segmenter: the model.
        options: as for ``segmenter(image, vocabulary)``.

    Raises:
        UserError: no video, a damaged frame, or what the segmenter raises.
    """
    with open_video(source) as video:
        for frame in video.frames():
            yield VideoFrame(
                frame.index, frame.time, segmenter(frame.pixels, vocabulary, **options)
            )
