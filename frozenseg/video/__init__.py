"""Videos: frames in, segmented frames out, with the sound unchanged. Needs the extra ``video``."""

from frozenseg.video.reading import Frame, VideoReader, open_video
from frozenseg.video.segmenting import VideoFrame, segment_video
from frozenseg.video.writing import VideoWriter, output_suffix, write_video

__all__ = [
    "Frame",
    "VideoFrame",
    "VideoReader",
    "VideoWriter",
    "open_video",
    "output_suffix",
    "segment_video",
    "write_video",
]
