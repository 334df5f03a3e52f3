"""``frozenseg datasets``: what it says, and its exit status."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frozenseg.data.registry import dataset_spec
from frozenseg.data.specs import SPECS

SEMANTIC = "bdd10k_val_sem_seg"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One BDD100K picture with its label map, where the environment says."""
    base = tmp_path / "bdd100k"
    for path, values in (
        ("images/10k/val/a.jpg", np.zeros((8, 12, 3), np.uint8)),
        ("labels/sem_seg/masks/val/a.png", np.full((8, 12), 10, np.uint8)),
    ):
        (base / path).parent.mkdir(parents=True)
        Image.fromarray(values).save(base / path)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    monkeypatch.setattr("frozenseg.cli.console.console.width", 200)
    return tmp_path


def line_of(text: str, word: str) -> str:
    (line,) = [line for line in text.splitlines() if word in line]
    return line


def test_list_says_what_is_on_disk(run, root) -> None:
    done = run("datasets", "list")
    assert done.exit_code == 0
    assert "on disk" in line_of(done.stdout, SEMANTIC)
    assert "absent" in line_of(done.stdout, "openvocab_lvis_v1_val")
    assert "built in" in line_of(done.stdout, "shapes_val")


@pytest.mark.parametrize("columns", [80, 200])
def test_names_places_and_commands_are_never_cut(run, root, monkeypatch, columns: int) -> None:
    monkeypatch.setattr("frozenseg.cli.console.console.width", columns)
    listed = run("datasets", "list").stdout
    assert "…" not in listed
    assert all(f" {spec.name} " in listed for spec in SPECS)
    city = "openvocab_cityscapes_fine_panoptic_val"
    checked = run("datasets", "check", city).stdout
    assert "…" not in checked
    assert f"`{dataset_spec(city).prepare}`" in checked


def test_a_drawn_data_set_needs_no_check(run) -> None:
    done = run("datasets", "check", "shapes_val")
    assert done.exit_code == 0 and "nothing to check" in done.stdout


def test_a_folder_that_is_not_there_is_said_so(run, tmp_path) -> None:
    done = run("datasets", "list", "--root", tmp_path / "nowhere")
    assert "which does not exist" in done.stdout.replace("\n", " ")


def test_check_counts_and_fails_where_something_is_missing(run, root) -> None:
    done = run("datasets", "check", SEMANTIC)
    assert done.exit_code == 1
    assert "too few" in line_of(done.stdout, "bdd100k/images/10k/val")
    assert "1,000" in line_of(done.stdout, "bdd100k/labels/sem_seg/masks/val")
    assert "images, label maps: get them from https://dl.cv.ethz.ch" in done.stdout


def test_a_missing_annotation_file_is_counted_and_is_no_fault_of_its_own(run, root) -> None:
    done = run("datasets", "check", "openvocab_lvis_v1_val")
    assert done.exit_code == 1
    assert "missing" in done.stdout and "wrong:" not in done.stdout
    assert "incomplete; samples read: 0" in done.stdout


def test_a_part_of_a_name_is_answered_with_the_whole_name(run, root) -> None:
    done = run("datasets", "check", "lvis")
    assert done.exit_code == 2
    assert "did you mean openvocab_lvis_v1_train?" in done.stderr or "lvis_v1_val?" in done.stderr


def test_show_draws_a_sample(run, root, tmp_path) -> None:
    done = run("datasets", "show", SEMANTIC, "--output", tmp_path / "out.png")
    assert done.exit_code == 0, done.output
    assert "a.jpg" in done.stdout
    picture = Image.open(tmp_path / "out.png")
    assert picture.width > 2 * picture.height  # two panels, each wider than high


@pytest.mark.parametrize(
    ("short", "registered"),
    [("bdd100k_semantic", SEMANTIC), ("ade20k_150", "openvocab_ade20k_panoptic_val")],
)
def test_check_takes_the_names_that_evaluate_takes(run, root, short, registered) -> None:
    done, same = run("datasets", "check", short), run("datasets", "check", registered)
    assert (done.exit_code, done.stdout) == (same.exit_code, same.stdout)
    assert "incomplete" in done.stdout


def test_show_draws_the_shapes_world_too(run, tmp_path) -> None:
    assert run("datasets", "show", "shapes_val", "-o", tmp_path / "a.png").exit_code == 0
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "bdd10k_val"], "did you mean bdd10k_val_sem_seg"),
        (["show", SEMANTIC, "--index", "1"], "has samples 0 to 0"),
        (["show", "openvocab_lvis_v1_val"], "no annotation file"),
        (["show", "openvocab_pascal21_sem_seg_val"], "datasets prepare pascal_voc"),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(run, root, arguments, message) -> None:
    done = run("datasets", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A data set file with three faults."""
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 3, "width": 4}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 3, 0, 3, 3]]},
            {"id": 2, "image_id": 1, "category_id": 1, "segmentation": [[0, 0]]},
            {"id": 3, "image_id": 1, "category_id": 8, "segmentation": [[0, 0, 3, 0, 3, 3]]},
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 3, 0, 3, 3]]},
        ],
        "categories": [{"id": 1, "name": "[bold]crack"}],
    }
    (tmp_path / "own.json").write_text(json.dumps(content))
    path = tmp_path / "own.yaml"
    path.write_text("images: .\ninstances: own.json\n")
    return path


def test_check_lists_every_fault_of_own_data(run, own) -> None:
    done = run("datasets", "check", own)
    assert done.exit_code == 1
    for fault in ("annotations[1] (id 2", "annotations[2] (id 3", "annotations[3] has the id 1"):
        assert fault in done.stdout
    assert "problems: 3; samples read: 1" in done.stdout


def test_own_data_is_checked_and_shown(run, own, tmp_path) -> None:
    content = json.loads((tmp_path / "own.json").read_text())
    del content["annotations"][1:]
    (tmp_path / "own.json").write_text(json.dumps(content))
    done = run("datasets", "check", own)
    assert done.exit_code == 0 and "complete; samples read: 1" in done.stdout
    assert run("datasets", "show", own, "-o", tmp_path / "out.png").exit_code == 0
    assert (tmp_path / "out.png").exists()


def test_convert_writes_a_data_set_file(run, tmp_path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    shapes = [{"label": "car", "points": [[1, 1], [6, 1], [6, 6]]}, {"label": "car", "points": []}]
    (tmp_path / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": shapes}))
    output = tmp_path / "sets/own.yaml"
    done = run("datasets", "convert", tmp_path, "-o", output)
    assert done.exit_code == 2 and "shapes[1] has a polygon of 0 points" in done.stderr
    assert not output.exists()
    done = run("datasets", "convert", tmp_path, "-o", output, "--skip-bad")
    assert done.exit_code == 0
    assert "1 objects of 1 classes in 1 images, 1 left out" in done.stdout
    assert run("datasets", "check", output).exit_code == 0


class TestPrepare:
    def test_makes_what_the_script_makes(self, run, download, prepare, tmp_path_factory) -> None:
        by_command = download("pascal_voc")
        by_script = tmp_path_factory.mktemp("script") / "root"
        shutil.copytree(by_command, by_script)
        done = run("datasets", "prepare", "pascal_voc", "--root", by_command, "--processes", 1)
        assert done.exit_code == 0, done.output
        assert prepare("prepare_pascal_voc", by_script) == 0
        made, expected = (
            {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.png")}
            for root in (by_command, by_script)
        )
        assert made == expected and any("annotations_pascal20" in name for name in made)

    def test_a_registered_name_stands_for_its_preparation(self, run, download) -> None:
        root = download("coco")
        name = "openvocab_coco_2017_val_panoptic_with_sem_seg"
        assert run("datasets", "prepare", name, "--root", root, "--processes", 1).exit_code == 0
        assert list((root / "coco/panoptic_semseg_val2017").glob("*.png"))

    @pytest.mark.parametrize(
        ("arguments", "part"),
        [
            (["kitti"], "kitti"),
            (["openvocab_cityscapes_fine_panoptic_val"], "names are ade20k"),
            (["coco", "--split", "test"], "give --split train or val"),
        ],
    )
    def test_mistakes(self, run, tmp_path, arguments, part) -> None:
        done = run("datasets", "prepare", *arguments, "--root", tmp_path)
        assert done.exit_code == 2 and part in done.stderr
        assert len(done.stderr.splitlines()) == 1
