"""Videos: frames and their times, sound that is not touched, damage as one sentence."""

import gc
import sys
import weakref
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import frozenseg
from frozenseg.errors import UserError
from frozenseg.inference.segmentation import Segmentation
from frozenseg.structures import PanopticMap, Result, Segment
from frozenseg.video import VideoFrame, open_video, output_suffix, segment_video, write_video
from frozenseg.vocabulary import Vocabulary, parse_vocabulary

av = pytest.importorskip("av")

RATE, NUM_FRAMES = 10, 24
HEIGHT, WIDTH = 36, 64


def frame_of(number: int) -> np.ndarray:
    """A bright bar that moves 2 pixels per frame over grey."""
    pixels = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    pixels[:, 2 * number : 2 * number + 8] = (250, 40, 40)
    pixels[:8] = 60
    return pixels


@pytest.fixture(scope="session")
def make_clip(tmp_path_factory):
    """``make_clip("a.mp4", sound="aac")``: a short clip, with sound or without."""
    folder = tmp_path_factory.mktemp("clips")

    def make(name: str, *, codec: str = "libx264", sound: str | None = None) -> Path:
        path = folder / name
        with av.open(str(path), "w") as container:
            video = container.add_stream(codec, rate=RATE)
            video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            audio = container.add_stream(sound, rate=48000, layout="mono") if sound else None
            for number in range(NUM_FRAMES):
                frame = av.VideoFrame.from_ndarray(frame_of(number), format="rgb24")
                container.mux(video.encode(frame))
            container.mux(video.encode())
            if audio is not None:
                tone = np.sin(np.arange(48000 * NUM_FRAMES // RATE) / 15) * 9000
                chunk = av.AudioFrame.from_ndarray(
                    tone.astype(np.int16)[None], format="s16", layout="mono"
                )
                chunk.rate = 48000
                container.mux(audio.encode(chunk))
                container.mux(audio.encode())
        return path

    return make


@pytest.fixture(scope="session")
def clip(make_clip) -> Path:
    return make_clip("sound.mp4", sound="aac")


def sound_of(path: Path) -> list[bytes]:
    """The packets of sound as they are stored."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [bytes(packet) for packet in packets if packet.size]


def copy(source: Path, target: Path) -> Path:
    with open_video(source) as video, write_video(target, like=video) as writer:
        for frame in video.frames(writer.add_sound):
            writer.add(frame, frame.pixels)
    return target


class BrightSegmenter:
    """Finds red pixels as the first class."""

    def __call__(self, image, vocabulary, **options) -> Segmentation:
        names = vocabulary if isinstance(vocabulary, Vocabulary) else parse_vocabulary(vocabulary)
        red = torch.from_numpy((image[..., 0] > 150) & (image[..., 1] < 120))
        panoptic = PanopticMap(red.int(), (Segment(1, 0, True, 0.9),))
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        return Segmentation(
            image=pixels, vocabulary=names, task="panoptic", result=Result(panoptic=panoptic)
        )


class TestReading:
    def test_frames_come_in_order_with_their_times(self, clip: Path) -> None:
        with open_video(clip) as video:
            assert (video.num_frames, video.rate, len(video.sound)) == (NUM_FRAMES, RATE, 1)
            frames = list(video.frames())
        assert [frame.index for frame in frames] == list(range(NUM_FRAMES))
        assert np.allclose([frame.time for frame in frames], np.arange(NUM_FRAMES) / RATE)
        for number in (0, 11, 23):
            error = np.abs(frames[number].pixels.astype(int) - frame_of(number))
            assert frames[number].pixels.shape == (HEIGHT, WIDTH, 3) and error.mean() < 12

    def test_phone_videos_are_upright(self, clip: Path, tmp_path: Path) -> None:
        """The matrix of the track, 36 bytes at 40 of its header: a quarter turn clockwise."""
        content = bytearray(clip.read_bytes())
        place = content.index(b"tkhd") + 4 + 40
        matrix = (0, 1 << 16, 0, -(1 << 16) % 2**32, 0, 0, 0, 0, 1 << 30)
        content[place : place + 36] = b"".join(each.to_bytes(4, "big") for each in matrix)
        (tmp_path / "turned.mp4").write_bytes(content)
        with open_video(clip) as plain, open_video(tmp_path / "turned.mp4") as turned:
            as_stored, upright = next(plain.frames()).pixels, next(turned.frames()).pixels
        assert np.array_equal(upright, np.rot90(as_stored, -1))
        with av.open(str(copy(tmp_path / "turned.mp4", tmp_path / "out.mp4"))) as container:
            written = container.streams.video[0]
            assert (written.height, written.width) == (WIDTH, HEIGHT)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "no video file"),
            (b"", "is not a video that can be read"),
            (b"these are words" * 99, "is not a video that can be read"),
            (b"#EXTM3U\n#EXTINF:1,\nother.ts\n", "is not a video that can be read|is damaged|no"),
        ],
    )
    def test_what_is_no_video_is_one_sentence(self, tmp_path: Path, content, message: str) -> None:
        path = tmp_path / "clip.mp4"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError, match=message) as raised, open_video(path) as video:
            list(video.frames())
        assert "\n" not in str(raised.value)

    def test_sound_alone_is_no_video(self, tmp_path: Path) -> None:
        with av.open(str(tmp_path / "song.mkv"), "w") as container:
            audio = container.add_stream("aac", rate=48000, layout="mono")
            silence = av.AudioFrame.from_ndarray(
                np.zeros((1, 4800), np.int16), format="s16", layout="mono"
            )
            silence.rate = 48000
            container.mux(audio.encode(silence))
            container.mux(audio.encode())
        with pytest.raises(UserError, match="has no video"), open_video(tmp_path / "song.mkv"):
            pass

    def test_a_damaged_frame_is_named(self, make_clip, tmp_path: Path) -> None:
        clip = make_clip("silent.mp4")
        with av.open(str(clip)) as container:
            packets = [packet for packet in container.demux() if packet.size]
        content = bytearray(clip.read_bytes())
        start = packets[9].pos
        content[start : start + packets[9].size] = b"\xff" * packets[9].size
        bad = tmp_path / "bad.mp4"
        bad.write_bytes(content)
        wanted = r"bad\.mp4 is damaged at frame \d+ \(Invalid data.*\): get it again"
        with pytest.raises(UserError, match=wanted), open_video(bad) as video:
            list(video.frames())

    def test_a_missing_library_is_one_sentence(self, clip: Path, monkeypatch) -> None:
        monkeypatch.setitem(sys.modules, "av", None)
        with pytest.raises(UserError, match=r"pip install 'frozenseg\[video\]'"), open_video(clip):
            pass

    def test_a_number_opens_a_camera(self, clip: Path, monkeypatch) -> None:
        asked: list[tuple[str, str]] = []
        really = av.open

        def camera(name: str, format: str):
            asked.append((name, format))
            return really(str(clip))

        monkeypatch.setattr(av, "open", camera)
        monkeypatch.setattr(sys, "platform", "linux")
        with open_video(1) as video:
            assert next(video.frames()).index == 0
        assert asked == [("/dev/video1", "v4l2")]

    def test_a_camera_that_is_not_there_is_one_sentence(self) -> None:
        with pytest.raises(UserError, match="camera 97 cannot be opened"), open_video(97):
            pass


class TestWriting:
    @pytest.mark.parametrize(
        ("name", "codec", "sound"),
        [
            ("a.mp4", "libx264", "aac"),
            ("a.mov", "libx264", "pcm_s16le"),
            ("a.webm", "libvpx-vp9", "libopus"),
            ("a.avi", "mpeg4", "pcm_s16le"),
        ],
    )
    def test_sound_is_copied_byte_for_byte(self, make_clip, tmp_path, name, codec, sound) -> None:
        original = make_clip(name, codec=codec, sound=sound)
        copied = copy(original, tmp_path / f"out{output_suffix(original)}")
        assert sound_of(copied) == sound_of(original) != []
        with open_video(copied) as video:
            frames = list(video.frames())
        assert len(frames) == NUM_FRAMES
        assert np.allclose([each.time for each in frames], np.arange(NUM_FRAMES) / RATE, atol=0.01)
        assert np.abs(frames[11].pixels.astype(int) - frame_of(11)).mean() < 20

    def test_irregular_times_are_kept(self, tmp_path: Path) -> None:
        ticks = [0, 1, 5, 6, 20]
        with av.open(str(tmp_path / "odd.mkv"), "w") as container:
            video = container.add_stream("libx264", rate=RATE)
            video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for number, tick in enumerate(ticks):
                frame = av.VideoFrame.from_ndarray(frame_of(number), format="rgb24")
                frame.pts, frame.time_base = tick, Fraction(1, RATE)
                container.mux(video.encode(frame))
            container.mux(video.encode())
        copied = copy(tmp_path / "odd.mkv", tmp_path / "out.mkv")
        with open_video(copied) as video:
            times = [frame.time for frame in video.frames()]
        assert np.allclose(np.diff(times), np.diff(ticks) / RATE, atol=0.002)

    def test_a_failure_leaves_what_was_there(self, clip: Path, tmp_path: Path) -> None:
        target = tmp_path / "out.mp4"
        target.write_bytes(b"earlier")
        with (
            pytest.raises(RuntimeError, match="mine"),
            open_video(clip) as video,
            write_video(target, like=video) as writer,
        ):
            for frame in video.frames(writer.add_sound):
                writer.add(frame, frame.pixels)
                if frame.index == 3:
                    raise RuntimeError("mine")
        assert target.read_bytes() == b"earlier"
        assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


class TestSegmenting:
    def test_each_frame_is_segmented_and_a_class_keeps_its_colour(self, clip: Path) -> None:
        found = list(segment_video(clip, "red bar; wall [stuff]", segmenter=BrightSegmenter()))
        assert len(found) == NUM_FRAMES and isinstance(found[0], VideoFrame)
        left = [frame.result.boxes[0, 0] for frame in found]
        assert np.allclose(np.diff(left), 2, atol=2) and left[-1] - left[0] == pytest.approx(46, 3)
        colours = {
            tuple(np.asarray(frame.result.draw(alpha=1.0))[20, frame.result.boxes[0, 0] + 4])
            for frame in found
        }
        assert len(colours) == 1

    def test_results_do_not_pile_up(self, clip: Path) -> None:
        seen = []
        for frame in segment_video(clip, "red bar", segmenter=BrightSegmenter()):
            gc.collect()
            assert sum(each() is not None for each in seen) <= 1
            seen.append(weakref.ref(frame.result))

    def test_the_package_offers_it_with_the_options_of_a_call(self, clip: Path) -> None:
        asked = []

        class Listening(BrightSegmenter):
            def __call__(self, image, vocabulary, **options):
                asked.append(options)
                return super().__call__(image, vocabulary)

        frames = frozenseg.segment_video(clip, ["bar"], segmenter=Listening(), threshold=0.5)
        assert next(frames).time == 0 and asked == [{"threshold": 0.5}]
