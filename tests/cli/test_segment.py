"""``frozenseg segment``: files, printed output and errors."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from frozenseg.cli.image_files import output_stems
from frozenseg.cli.words import vocabulary_of
from frozenseg.errors import UserError


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.usefixtures("loaded")
class TestResults:
    def test_writes_a_picture_segments_and_ids_for_an_image(self, run, picture, tmp_path):
        done = run("segment", picture, "-w", "cat, kitten; grass", "-o", tmp_path / "out")
        assert done.exit_code == 0, done.output
        assert files(tmp_path / "out") == ["scene.json", "scene.png", "scene_ids.png"]
        with Image.open(tmp_path / "out" / "scene_ids.png") as ids:
            assert np.array_equal(np.unique(np.asarray(ids)), [1, 2])
        record = json.loads((tmp_path / "out" / "scene.json").read_text())
        assert [each["name"] for each in record["segments_info"]] == ["cat", "grass"]
        assert record["segments_info"][0]["area"] == 24 * 16
        assert record["segments_info"][0]["bbox"] == [0, 0, 16, 24]

    def test_prints_what_was_found(self, run, picture, tmp_path):
        done = run("segment", picture, "-w", "cat; grass", "--stuff", "grass", "-o", tmp_path / "o")
        rows = [line.split() for line in done.stdout.splitlines()]
        assert any({"cat", "thing", "0.75", "384", "50.0%"} <= set(row) for row in rows)
        assert any({"grass", "stuff"} <= set(row) for row in rows)

    def test_json_prints_one_line_per_image_and_nothing_else(self, run, picture, tmp_path):
        second = tmp_path / "other.png"
        second.write_bytes(picture.read_bytes())
        done = run("segment", picture, second, "-w", "cat; dog", "--json", "-o", tmp_path / "out")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [Path(line["file_name"]) for line in lines] == [picture, second]
        assert Path(lines[0]["files"]["drawing"]).is_file()
        assert lines[0]["segments_info"][1]["name"] == "dog"

    @pytest.mark.parametrize(
        ("task", "expected"),
        [
            ("semantic", ["scene.json", "scene.png", "scene_ids.png"]),
            ("instance", ["scene.json", "scene.png"]),  # instances overlap: they have no id map
        ],
    )
    def test_other_tasks_write_what_they_have(self, run, picture, tmp_path, task, expected):
        done = run("segment", picture, "-w", "cat; dog", "--task", task, "-o", tmp_path / "out")
        assert done.exit_code == 0, done.output
        assert files(tmp_path / "out") == expected

    def test_weak_instances_are_stored_but_not_printed(
        self, run, picture, tmp_path, halves, monkeypatch
    ):
        monkeypatch.setattr(halves, "score", 0.375)
        done = run("segment", picture, "-w", "cat", "--task", "instance", "-o", tmp_path / "out")
        assert "cat" not in done.stdout and "1 more with lower scores" in done.stdout
        record = json.loads((tmp_path / "out" / "scene.json").read_text())
        assert record["segments_info"][0]["score"] == 0.375

    def test_folder_stands_for_its_images(self, run, picture, tmp_path):
        folder = tmp_path / "photos"
        folder.mkdir()
        for name in ("b.png", "a.PNG", "notes.txt"):
            (folder / name).write_bytes(picture.read_bytes())
        done = run("segment", folder, "-w", "cat", "--json", "-o", tmp_path / "out")
        names = [Path(json.loads(line)["file_name"]).name for line in done.stdout.splitlines()]
        assert names == ["a.PNG", "b.png"]
        assert "that are not images: notes.txt" in done.stderr

    def test_brackets_in_names_are_printed_as_they_are(self, run, picture, tmp_path):
        odd = picture.rename(tmp_path / "[red]scene[0].png")
        done = run("segment", odd, "-w", "a [b] c", "-o", tmp_path / "out")
        assert done.exit_code == 0, done.output
        assert "[red]scene[0].png" in done.stdout.replace("\n", "") and "a [b] c" in done.stdout


@pytest.mark.usefixtures("loaded")
class TestInputs:
    def names(self, done) -> list[str]:
        assert done.exit_code == 0, done.output
        return [json.loads(line)["file_name"] for line in done.stdout.splitlines()]

    @pytest.fixture
    def tree(self, picture: Path, tmp_path: Path) -> Path:
        """photos/{b.png,notes.txt,.hidden/x.png,deep/a.png,deep/er/c.png}"""
        folder = tmp_path / "photos"
        for name in ("b.png", "notes.txt", ".hidden/x.png", "deep/a.png", "deep/er/c.png"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(picture.read_bytes())
        return folder

    def segment(self, run, tmp_path: Path, *arguments: object, **options: object):
        return run("segment", *arguments, "-w", "cat", "--json", "-o", tmp_path / "out", **options)

    def test_folders_of_folders_are_used_on_request(self, run, tree, tmp_path):
        found = self.names(self.segment(run, tmp_path, tree))
        assert found == [str(tree / "b.png")]
        done = self.segment(run, tmp_path, tree, "--recursive")
        below = ("b.png", "deep/a.png", "deep/er/c.png")
        assert self.names(done) == [str(tree / name) for name in below]
        assert "that are not images: notes.txt" in done.stderr

    def test_patterns_in_quotes_are_expanded(self, run, tree, tmp_path):
        assert self.names(self.segment(run, tmp_path, tree / "*.png")) == [str(tree / "b.png")]
        assert len(self.names(self.segment(run, tmp_path, tree / "**/*.png"))) == 3
        done = self.segment(run, tmp_path, tree / "*.gif")
        assert done.exit_code == 2 and "nothing matches" in done.stderr

    def test_an_image_on_standard_input(self, run, picture, tmp_path):
        done = self.segment(run, tmp_path, "-", input=picture.read_bytes())
        assert self.names(done) == ["-"]
        assert files(tmp_path / "out") == ["stdin.json", "stdin.png", "stdin_ids.png"]
        done = self.segment(run, tmp_path, "-", input=b"words")
        assert done.exit_code == 2 and "standard input: the data is not an image" in done.stderr

    def test_standard_input_that_is_closed_or_too_large_is_one_sentence(
        self, run, picture, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("FROZENSEG_MAX_PIXELS", "4")
        done = self.segment(run, tmp_path, "-", input=picture.read_bytes())
        assert done.exit_code == 2 and "standard input is larger than" in done.stderr
        monkeypatch.setattr("frozenseg.io.gates.sys", SimpleNamespace(stdin=None))
        done = self.segment(run, tmp_path, "-")
        assert done.exit_code == 2 and "standard input cannot be read" in done.stderr

    @pytest.mark.parametrize(
        ("names", "part"), [(b"caf\xe9.png", "is not UTF-8 text"), (b"a\0.png", "zero byte")]
    )
    def test_a_list_that_is_no_text_is_one_sentence(self, run, tmp_path, names, part):
        done = self.segment(run, tmp_path, "--from", "-", input=names)
        assert done.exit_code == 2 and part in done.stderr and done.stderr.count("error:") == 1

    def test_a_list_of_images(self, run, tree, tmp_path):
        names = f"{tree / 'b.png'}\n\n{tree / 'deep/a.png'}\n"
        expected = [str(tree / "b.png"), str(tree / "deep/a.png")]
        assert self.names(self.segment(run, tmp_path, "--from", "-", input=names)) == expected
        (tmp_path / "list.txt").write_text(names)
        assert self.names(self.segment(run, tmp_path, "--from", tmp_path / "list.txt")) == expected

    @pytest.mark.parametrize(
        ("arguments", "part"),
        [
            ([], "no images: give files"),
            (["--from", "gone.txt"], "no list of images gone.txt"),
            (["--from", "-"], "the list - is empty"),
        ],
    )
    def test_no_image_at_all(self, run, tmp_path, arguments, part):
        done = self.segment(run, tmp_path, *arguments, input="")
        assert done.exit_code == 2 and part in done.stderr

    def test_every_ending_that_pillow_opens(self, run, picture, tmp_path):
        folder = tmp_path / "many"
        folder.mkdir()
        for ending in ("bmp", "gif", "tif", "webp", "ppm", "JPEG"):
            with Image.open(picture) as image:
                image.convert("RGB").save(folder / f"a_{ending}.{ending}")
        assert len(self.names(self.segment(run, tmp_path, folder))) == 6


@pytest.mark.usefixtures("loaded")
class TestVideos:
    @pytest.fixture
    def clip(self, tmp_path: Path) -> Path:
        """Six frames and a tone."""
        av = pytest.importorskip("av")
        with av.open(str(tmp_path / "clip.mp4"), "w") as container:
            video = container.add_stream("libx264", rate=5)
            video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
            audio = container.add_stream("aac", rate=48000, layout="mono")
            for level in range(0, 240, 40):
                pixels = np.full((24, 32, 3), level, np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(video.encode())
            tone = (np.sin(np.arange(57600) / 9) * 9000).astype(np.int16)[None]
            sound = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            sound.rate = 48000
            container.mux(audio.encode(sound))
            container.mux(audio.encode())
        return tmp_path / "clip.mp4"

    def segment(self, run, tmp_path: Path, *arguments: object):
        return run("segment", *arguments, "-w", "cat; grass", "-o", tmp_path / "out")

    def test_a_video_of_drawings_with_its_sound(self, run, clip, tmp_path):
        import av

        done = self.segment(run, tmp_path, clip)
        assert done.exit_code == 0, done.output
        assert files(tmp_path / "out") == ["clip.mp4"]
        assert "6 frames, 6 with segments" in done.stdout.replace("\n", " ")
        with av.open(str(tmp_path / "out/clip.mp4")) as written, av.open(str(clip)) as original:
            frames = list(written.decode(video=0))
            assert len(frames) == 6 and (frames[0].width, frames[0].height) == (32, 24)
            assert written.streams.audio[0].duration == original.streams.audio[0].duration
            assert np.ptp(frames[3].to_ndarray(format="rgb24")) > 50, "the segments are drawn"

    def test_frames_instead(self, run, clip, tmp_path):
        coco = tmp_path / "all.json"
        done = self.segment(run, tmp_path, clip, "--frames", "--masks", "--coco", coco)
        assert done.exit_code == 0, done.output
        assert files(tmp_path / "out") == ["clip_frames"]
        names = files(tmp_path / "out/clip_frames")
        assert len(names) == 6 * 4 and names[:2] == ["000000.json", "000000.png"]
        assert {each["file_name"] for each in json.loads(coco.read_text())["images"]} == {
            f"{clip}#{number:06d}" for number in range(6)
        }

    def test_json_has_one_line_per_frame(self, run, clip, tmp_path):
        done = self.segment(run, tmp_path, clip, "--json", "--no-overlay")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line["frame"] for line in lines] == list(range(6))
        assert [line["time"] for line in lines] == pytest.approx(np.arange(6) / 5)
        assert lines[0]["file_name"] == str(clip) and lines[0]["files"] == {}
        assert files(tmp_path / "out") == []

    def test_a_bad_video_is_one_sentence_and_spares_the_images(self, run, picture, tmp_path):
        (tmp_path / "bad.mp4").write_bytes(b"words")
        done = self.segment(run, tmp_path, tmp_path / "bad.mp4", picture)
        assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1
        assert "bad.mp4 is not a video that can be read" in done.stderr
        assert files(tmp_path / "out") == ["scene.json", "scene.png", "scene_ids.png"]

    @pytest.mark.parametrize(
        ("options", "part"),
        [
            (["--masks"], "needs --frames"),
            (["--coco", "all.json"], "needs --frames"),
            (["--no-overlay"], "nothing to write"),
        ],
    )
    def test_options_that_need_others(self, run, clip, tmp_path, options, part):
        done = self.segment(run, tmp_path, clip, *options)
        assert done.exit_code == 2 and part in done.stderr

    def test_the_video_itself_is_never_overwritten(self, run, clip, tmp_path):
        before = clip.read_bytes()
        done = run("segment", clip, "-w", "cat", "-o", tmp_path)
        assert done.exit_code == 2 and "would be overwritten" in done.stderr
        assert clip.read_bytes() == before


@pytest.mark.usefixtures("loaded")
class TestBadInput:
    def refused(self, done, *parts: object) -> None:
        """Status 2 and one sentence on standard error that holds all of ``parts``."""
        assert done.exit_code == 2, done.output
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
        for part in parts:
            assert str(part) in done.stderr

    def test_missing_image(self, run, tmp_path):
        done = run("segment", tmp_path / "gone.png", "-w", "cat", "-o", tmp_path / "out")
        self.refused(done, "gone.png")
        assert files(tmp_path / "out") == []

    def test_file_that_is_no_image(self, run, tmp_path):
        (tmp_path / "note.png").write_text("these are words")
        done = run("segment", tmp_path / "note.png", "-w", "cat", "-o", tmp_path / "out")
        self.refused(done, "note.png")
        assert files(tmp_path / "out") == []

    def test_truncated_image_leaves_nothing_and_spares_the_others(self, run, picture, tmp_path):
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "whole.jpg")
        content = (tmp_path / "whole.jpg").read_bytes()
        (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
        last = tmp_path / "last.png"
        last.write_bytes(picture.read_bytes())
        done = run(
            *("segment", picture, tmp_path / "cut.jpg", last),
            *("-w", "red circle; sand", "-o", tmp_path / "out"),
        )
        self.refused(done, "cut.jpg")
        assert {name.split(".")[0] for name in files(tmp_path / "out")} == {
            *("scene", "scene_ids", "last", "last_ids")
        }

    @pytest.mark.parametrize("words", ["", "  ", ";;"])
    def test_no_word(self, run, picture, words):
        self.refused(run("segment", picture, "-w", words), "no class")

    def test_neither_words_nor_vocabulary(self, run, picture):
        self.refused(run("segment", picture), "--words", "--vocabulary")

    def test_words_and_vocabulary(self, run, picture):
        self.refused(run("segment", picture, "-w", "cat", "-v", "ade20k_150"), "exclude")

    def test_repeated_word(self, run, picture):
        self.refused(run("segment", picture, "-w", "cat, kitten; dog; kitten"), "'kitten'", "twice")

    def test_empty_vocabulary_file(self, run, picture, tmp_path):
        (tmp_path / "words.txt").write_text("# nothing yet\n\n")
        self.refused(run("segment", picture, "-v", tmp_path / "words.txt"), "words.txt")

    def test_unknown_vocabulary_name(self, run, picture):
        self.refused(run("segment", picture, "-v", "ade21k_150"), "ade21k_150", "ade20k_150")

    def test_folder_without_images(self, run, tmp_path):
        (tmp_path / "empty").mkdir()
        self.refused(run("segment", tmp_path / "empty", "-w", "cat"), "empty")

    def test_output_that_is_a_file(self, run, picture, tmp_path):
        (tmp_path / "taken").write_text("")
        done = run("segment", picture, "-w", "cat", "-o", tmp_path / "taken")
        self.refused(done, "taken")

    def test_output_over_an_input(self, run, picture):
        before = picture.read_bytes()
        self.refused(run("segment", picture, "-w", "cat", "-o", picture.parent), "scene.png")
        assert picture.read_bytes() == before

    def test_options_reach_the_model(self, run, picture, tmp_path, loaded):
        run(
            *("segment", picture, "-w", "cat", "--model", "my.yaml", "--device", "cpu"),
            *("--weights", tmp_path / "w.safetensors", "-o", tmp_path / "out"),
            *("--set", "INPUT.MIN_SIZE_TEST=320"),
        )
        (asked,) = loaded
        assert asked == {
            "model": "my.yaml",
            "weights": tmp_path / "w.safetensors",
            "device": "cpu",
            "overrides": ["INPUT.MIN_SIZE_TEST", "320"],
        }


@pytest.mark.usefixtures("loaded")
class TestOptions:
    def segment(self, run, picture, tmp_path, *options: object):
        done = run("segment", picture, "-w", "red circle; sand", "-o", tmp_path / "out", *options)
        assert done.exit_code == 0, done.output
        return done

    def test_masks_are_one_png_per_segment_and_replace_those_of_an_earlier_run(
        self, run, picture, tmp_path
    ):
        folder = tmp_path / "out" / "scene_masks"
        folder.mkdir(parents=True)
        for name in ("0007_old.png", "notes.png"):
            (folder / name).write_text("")
        self.segment(run, picture, tmp_path, "--masks")
        assert files(folder) == ["0001_red_circle.png", "0002_sand.png", "notes.png"]
        with Image.open(folder / "0001_red_circle.png") as mask:
            expected = np.zeros((24, 32), dtype=np.uint8)
            expected[:, :16] = 255
            assert np.array_equal(np.asarray(mask), expected)

    def test_masks_do_not_replace_an_input(self, run, picture, tmp_path):
        folder = tmp_path / "out" / "scene_masks"
        folder.mkdir(parents=True)
        moved = picture.rename(folder / "scene.png")
        done = run("segment", moved, "-w", "cat", "--masks", "-o", tmp_path / "out")
        assert done.exit_code == 2 and "contains inputs" in done.stderr
        assert files(folder) == ["scene.png"]

    def test_coco_is_one_file_that_pycocotools_reads(self, run, picture, tmp_path):
        second = tmp_path / "other.png"
        Image.fromarray(np.zeros((10, 20, 3), dtype=np.uint8)).save(second)
        self.segment(run, picture, tmp_path, second, "--coco", tmp_path / "all.json")
        dataset = COCO(tmp_path / "all.json")
        assert [each["file_name"] for each in dataset.dataset["images"]] == [
            str(picture),
            str(second),
        ]
        left = dataset.annToMask(dataset.anns[1])
        assert left[:, :16].all() and not left[:, 16:].any()
        (last,) = dataset.loadAnns(dataset.getAnnIds(imgIds=2, catIds=1))
        assert last["bbox"] == [10, 0, 10, 10] and last["score"] == 0.75
        assert dataset.annToMask(last).shape == (10, 20)

    def test_min_score_drops_segments_everywhere(self, run, picture, tmp_path):
        coco = tmp_path / "all.json"
        done = self.segment(run, picture, tmp_path, "--min-score", 0.8, "--coco", coco)
        assert "0 segments; 100.0% of the image is unlabelled" in done.stdout
        assert "no segment found" in done.stderr and "lower --min-score" in done.stderr
        assert json.loads(coco.read_text())["annotations"] == []
        with Image.open(tmp_path / "out" / "scene_ids.png") as ids:
            assert not np.asarray(ids).any()

    def test_min_score_also_shows_weak_instances(self, run, picture, tmp_path, halves, monkeypatch):
        monkeypatch.setattr(halves, "score", 0.375)
        done = self.segment(run, picture, tmp_path, "--task", "instance", "--min-score", 0.3)
        assert "0.38" in done.stdout

    def test_min_score_is_refused_where_there_are_no_scores(self, run, picture):
        done = run("segment", picture, "-w", "cat", "--task", "semantic", "--min-score", 0.5)
        assert done.exit_code == 2 and "--task semantic" in done.stderr

    def test_quiet_prints_nothing(self, run, picture, tmp_path):
        done = self.segment(run, picture, tmp_path, "--quiet")
        assert done.output == ""
        done = self.segment(run, picture, tmp_path, "--quiet", "--json")
        assert done.stderr == "" and json.loads(done.stdout)["task"] == "panoptic"

    def test_drawing_has_the_size_of_the_image_and_scores_on_request(self, run, picture, tmp_path):
        drawings = []
        for options in ((), ("--scores",)):
            self.segment(run, picture, tmp_path, *options)
            drawings.append((tmp_path / "out" / "scene.png").read_bytes())
        with Image.open(tmp_path / "out" / "scene.png") as drawing:
            assert drawing.size == (32, 24)
        assert drawings[0] != drawings[1]


@pytest.mark.usefixtures("loaded")
class TestMiniatureModel:
    WARNING = "cannot segment photographs"

    def test_class_names_from_its_world_give_no_warning(self, run, picture, tmp_path):
        done = run("segment", picture, "-w", "red circle; cat", "-o", tmp_path / "out")
        assert done.stderr == ""

    def test_other_class_names_and_photographs_give_one(self, run, picture, tmp_path):
        photo = tmp_path / "photo.jpg"
        Image.open(picture).save(photo)
        for image, names in ((picture, "cat; dog"), (photo, "red circle")):
            done = run("segment", image, "-w", names, "-o", tmp_path / "out")
            assert done.exit_code == 0 and self.WARNING in done.stderr
        other = run("segment", photo, "-w", "cat", "--model", "my.yaml", "-o", tmp_path / "out")
        assert self.WARNING not in other.stderr


def test_stuff_marks_known_classes_and_adds_new_ones():
    found = vocabulary_of("cat, kitten; grass", None, "grass, lawn; sky")
    assert found.synonyms == (("cat", "kitten"), ("grass", "lawn"), ("sky",))
    assert found.is_thing == (True, False, False)


def test_stuff_alone_is_a_vocabulary():
    assert vocabulary_of(None, None, "sky; sea").is_thing == (False, False)


def test_stuff_that_belongs_to_two_classes_is_refused():
    with pytest.raises(UserError, match="'grass' and 'lawn'"):
        vocabulary_of("grass; lawn", None, "grass, lawn")


def test_stuff_leaves_the_colours_of_a_known_list():
    found = vocabulary_of(None, "ade20k_150", "wall")
    assert found.colors is not None and not found.is_thing[0]


def test_results_of_images_with_one_name_do_not_share_a_file():
    paths = [Path(p) for p in ("a/x.png", "b/x.png", "x_2.png", "x_ids.png", "x.jpg")]
    stems = output_stems(paths)
    names = [f"{stem}{end}" for stem in stems.values() for end in (".png", "_ids.png")]
    assert len(set(names)) == len(names)
    assert stems[paths[0]] == "x" and stems[paths[1]] == "x_2"
