"""The scripts under ``datasets/``, run on small downloads in their makers' layouts."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frozenseg.data.datasets import open_dataset

REPOSITORY = Path(__file__).resolve().parents[2]
Download = Callable[..., Path]
Prepare = Callable[..., int]


def values(path: Path) -> list:
    return np.asarray(Image.open(path)).tolist()


def files_below(root: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of every file."""
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_coco_segments_become_classes_and_void_255(download: Download, prepare: Prepare) -> None:
    root = download("coco")
    assert prepare("prepare_coco", root) == 0
    folder = root / "coco/panoptic_semseg_val2017"
    assert values(folder / "000000000139.png") == [
        [0, 0, 131, 131, 255, 255],
        [0, 0, 131, 131, 255, 255],
        [0, 0, 131, 79, 79, 79],
        [0, 0, 131, 79, 79, 79],
    ]
    assert values(folder / "000000000285.png") == [[255] * 5] * 3
    assert Image.open(folder / "000000000285.png").mode == "L"


class TestAde20k:
    @pytest.fixture
    def base(self, download: Download, prepare: Prepare) -> Path:
        root = download("ade20k")
        assert prepare("prepare_ade20k", root) == 0
        return root / "ADEChallengeData2016"

    def test_semantic_labels_move_down_by_one_and_other_becomes_255(self, base: Path) -> None:
        folder = base / "annotations_detectron2/validation"
        expected = [[0, 0, 7, 7], [0, 0, 7, 7], [149, 149, 255, 255]]
        assert values(folder / "ADE_val_00000001.png") == expected
        assert values(folder / "ADE_val_00000002.png") == [[255, 255]] * 2

    def test_objects_are_listed_with_mask_area_and_box(self, base: Path) -> None:
        content = json.loads((base / "ade20k_instance_val.json").read_text())
        listed = [
            (each["id"], each["image_id"], each["category_id"], each["area"], each["bbox"])
            for each in content["annotations"]
        ]
        assert listed == [
            (1, "ADE_val_00000001", 7, 2, [2, 0, 2, 1]),
            (2, "ADE_val_00000001", 7, 3, [1, 1, 3, 1]),
            (3, "ADE_val_00000001", 149, 1, [1, 2, 1, 1]),
        ]
        assert len(content["categories"]) == 100
        assert content["categories"][0] == {"id": 7, "name": "bed"}
        assert content["images"][1] == {
            "id": "ADE_val_00000002",
            "file_name": "ADE_val_00000002.jpg",
            "height": 2,
            "width": 2,
        }

    def test_objects_are_painted_over_stuff_whose_area_stays(self, base: Path) -> None:
        """The wall's area is 4 although the second bed covers one of its pixels."""
        content = json.loads((base / "ade20k_panoptic_val.json").read_text())
        wall, *objects = content["annotations"][0]["segments_info"]
        assert (wall["category_id"], wall["area"], wall["bbox"]) == (0, 4, [0, 0, 2, 2])
        assert [(each["category_id"], each["area"]) for each in objects] == [
            (7, 2),
            (7, 3),
            (149, 1),
        ]
        painted = np.asarray(Image.open(base / "ade20k_panoptic_val/ADE_val_00000001.png"))
        ids = painted.astype(int) @ [1, 256, 65536]
        first, second, flag = (each["id"] for each in objects)
        void = 0  # the flag's other half is no object
        assert ids.tolist() == [
            [wall["id"], wall["id"], first, first],
            [wall["id"], second, second, second],
            [void, flag, 0, 0],
        ]
        assert content["annotations"][1]["segments_info"] == []
        assert sum(each["isthing"] for each in content["categories"]) == 100
        assert content["categories"][0]["color"] == [120, 120, 120]


def test_ade20k_full_is_shrunk_to_512_and_mapped(download: Download, prepare: Prepare) -> None:
    root = download("ade20k_full")
    assert prepare("prepare_ade20k_full", root) == 0
    base = root / "ADE20K_2021_17_01"
    small = base / "annotations_detectron2/validation/ADE_val_00000001.tif"
    assert values(small) == [[0] * 3 + [2] * 3] * 2 + [[65535] * 6] * 2
    assert Image.open(small).mode == "I;16"
    large = base / "annotations_detectron2/validation/ADE_val_00000002.tif"
    assert Image.open(large).size == (768, 512)
    picture = Image.open(base / "images_detectron2/validation/ADE_val_00000002.jpg")
    assert (picture.size, picture.format) == ((768, 512), "JPEG")
    kept = Image.open(base / "images_detectron2/validation/ADE_val_00000001.jpg")
    assert kept.size == (6, 4)


def test_voc_comes_with_and_without_background(download: Download, prepare: Prepare) -> None:
    root = download("pascal_voc")
    assert prepare("prepare_pascal_voc", root) == 0
    base = root / "pascal_voc_d2"
    for name in ("2007_000033", "2007_000042"):
        with_background = values(base / f"annotations_pascal21/validation/{name}.png")
        assert with_background == [[0, 0, 15], [255, 20, 1]]
        without = values(base / f"annotations_pascal20/validation/{name}.png")
        assert without == [[255, 255, 14], [255, 19, 0]]
        original = root / f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg"
        assert (base / f"images/validation/{name}.jpg").read_bytes() == original.read_bytes()
    assert not (base / "images/training").exists()


def test_context_has_59_classes_from_json_and_459_from_matrices(
    download: Download, prepare: Prepare
) -> None:
    root = download("pascal_context")
    assert prepare("prepare_pascal_context", root) == 0
    base = root / "pascal_ctx_d2"
    labels = base / "annotations_ctx59/validation/2008_000002.png"
    assert values(labels) == [[46, 0, 46], [58, 255, 255]]  # sky, aeroplane over it, wood
    full = base / "annotations_ctx459/validation/2008_000002.tif"
    assert values(full) == [[1, 1, 65535], [458, 430, 0]]
    assert not (base / "images/validation/2008_000008.jpg").exists()  # of the other phase
    assert prepare("prepare_pascal_context", root, "--splits", "training") == 0
    assert (base / "images/training/2008_000008.jpg").exists()


SCRIPTS = ["coco", "ade20k", "ade20k_full", "pascal_voc", "pascal_context"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_second_run_leaves_what_is_done_and_makes_what_is_missing(
    download: Download, prepare: Prepare, name: str
) -> None:
    root = download(name)
    before = set(files_below(root))
    prepare(f"prepare_{name}", root)
    first = files_below(root)
    made = [path for path in first if path not in before]
    assert prepare(f"prepare_{name}", root) == 0
    assert files_below(root) == first
    for path in made:
        (root / path).unlink()
    assert prepare(f"prepare_{name}", root) == 0
    assert {path: content for path, (_, content) in files_below(root).items()} == {
        path: content for path, (_, content) in first.items()
    }


def test_force_makes_everything_again(download: Download, prepare: Prepare) -> None:
    root = download("pascal_voc")
    prepare("prepare_pascal_voc", root)
    path = root / "pascal_voc_d2/annotations_pascal21/validation/2007_000033.png"
    path.write_bytes(b"old")
    prepare("prepare_pascal_voc", root)
    assert path.read_bytes() == b"old"
    prepare("prepare_pascal_voc", root, "--force")
    assert values(path) == [[0, 0, 15], [255, 20, 1]]


def test_a_script_with_several_processes_makes_the_same_as_one(
    download: Download, prepare: Prepare
) -> None:
    """Run as users do, with the data root in the environment."""
    root = download("ade20k")
    done = subprocess.run(
        [sys.executable, REPOSITORY / "datasets/prepare_ade20k.py", "--processes", "2"],
        env={"DETECTRON2_DATASETS": str(root), "PATH": "", "PYTHONPATH": str(REPOSITORY)},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parallel = {path: content for path, (_, content) in files_below(root).items()}
    assert "ADEChallengeData2016/ade20k_panoptic_val.json" in parallel
    prepare("prepare_ade20k", root, "--force", processes=1)
    assert {path: content for path, (_, content) in files_below(root).items()} == parallel


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def relabel(path: Path) -> None:
    """A class that the data set does not have."""
    Image.fromarray(np.full((2, 3), 200, dtype=np.uint8)).save(path)


ADE = "ADEChallengeData2016"
VOC = "VOCdevkit/VOC2012"
CONTEXT = "VOCdevkit/VOC2010"
MISTAKES = [
    ("coco", "coco/annotations/panoptic_val2017.json", Path.unlink, "no annotation file"),
    ("coco", "coco/annotations/panoptic_val2017.json", truncate, "is not JSON"),
    ("coco", "coco/panoptic_val2017/000000000139.png", truncate, "damaged|not an image"),
    ("coco", "coco/panoptic_val2017/000000000139.png", Path.unlink, "no image file"),
    (
        "ade20k",
        "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png",
        relabel,
        "0..150",
    ),
    (
        "ade20k",
        f"{ADE}/annotations_instance/validation/ADE_val_00000002.png",
        Path.unlink,
        "no image file",
    ),
    (
        "ade20k_full",
        "ADE20K_2021_17_01/images/ADE/validation/urban/street/ADE_val_00000001_seg.png",
        Path.unlink,
        "no image file",
    ),
    (
        "pascal_voc",
        "VOCdevkit/VOC2012/JPEGImages/2007_000042.jpg",
        Path.unlink,
        "listed but missing",
    ),
    ("pascal_voc", f"{VOC}/ImageSets/Segmentation/val.txt", Path.unlink, "no list"),
    ("pascal_voc", f"{VOC}/SegmentationClass/2007_000033.png", relabel, "0..20"),
    (
        "pascal_context",
        f"{CONTEXT}/trainval/2008_000002.mat",
        truncate,
        "not a MATLAB file",
    ),
    ("pascal_context", f"{CONTEXT}/trainval_merged.json", Path.unlink, "no annotation file"),
]


@pytest.mark.parametrize(("name", "path", "spoil", "message"), MISTAKES)
def test_bad_input_is_named_in_one_sentence_and_nothing_is_half_written(
    download: Download,
    prepare: Prepare,
    capsys: pytest.CaptureFixture[str],
    name: str,
    path: str,
    spoil: Callable[[Path], None],
    message: str,
) -> None:
    root = download(name)
    spoil(root / path)
    assert prepare(f"prepare_{name}", root) == 2
    said = capsys.readouterr().err
    assert Path(path).name in said.replace("\n", "")
    assert any(part in said for part in message.split("|"))
    assert "Traceback" not in said
    assert not [file for file in root.rglob(".*") if file.is_file()]


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_empty_folder_is_answered_with_where_to_get_it(
    tmp_path: Path, prepare: Prepare, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert prepare(f"prepare_{name}", tmp_path) == 2
    said = capsys.readouterr().err
    assert "http" in said or "frozenseg datasets check" in said


def test_records_of_a_run_that_was_killed_while_it_deleted_them_go(
    download: Download, prepare: Prepare
) -> None:
    root = download("ade20k")
    assert prepare("prepare_ade20k", root) == 0
    expected = files_below(root)
    records = root / "ADEChallengeData2016/ade20k_panoptic_val.parts"
    records.mkdir()
    (records / "ADE_val_00000002.json").write_text("{}")
    assert prepare("prepare_ade20k", root) == 0
    assert files_below(root) == expected


def test_a_damaged_record_of_an_interrupted_run_is_made_again(
    download: Download, prepare: Prepare
) -> None:
    root = download("ade20k")
    assert prepare("prepare_ade20k", root) == 0
    panoptic = root / "ADEChallengeData2016/ade20k_panoptic_val.json"
    expected = panoptic.read_bytes()
    panoptic.unlink()
    records = panoptic.with_suffix(".parts")
    records.mkdir()
    (records / "ADE_val_00000001.json").write_text('{"image": {}, "panoptic": {}, "instances": []}')
    assert prepare("prepare_ade20k", root) == 0
    assert panoptic.read_bytes() == expected and not records.exists()


def leftover(folder: Path) -> Path:
    """What a killed preparation leaves."""
    path = folder / ".partial-l52751tf.png"
    path.write_bytes(b"")
    return path


def test_leftovers_of_a_killed_run_are_no_data_and_go(download: Download, prepare: Prepare) -> None:
    root = download("pascal_voc")
    assert prepare("prepare_pascal_voc", root) == 0
    part = leftover(root / "pascal_voc_d2/annotations_pascal21/validation")
    assert len(open_dataset("openvocab_pascal21_sem_seg_val", root=root)) == 2
    assert prepare("prepare_pascal_voc", root) == 0
    assert not part.exists()
    part = leftover(root / "VOCdevkit/VOC2012/SegmentationClass")
    assert prepare("prepare_pascal_voc", root, "--force") == 0
    assert part.exists()  # downloads are not touched


@pytest.mark.parametrize("name", ["../../../victim.png", "../panoptic_val2017/000000000139.png"])
def test_a_name_in_the_json_file_cannot_leave_its_folder(
    download: Download, prepare: Prepare, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    root = download("coco")
    victim = root.parent / "victim.png"
    source = root / "coco/panoptic_val2017/000000000139.png"
    victim.write_bytes(source.read_bytes())
    before = {path: path.read_bytes() for path in (victim, source)}
    path = root / "coco/annotations/panoptic_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["file_name"] = name
    path.write_text(json.dumps(content))
    assert prepare("prepare_coco", root) == 2
    assert "climbs out of its folder" in capsys.readouterr().err.replace("\n", " ")
    assert {path: path.read_bytes() for path in before} == before


def test_a_link_among_the_outputs_is_not_written_through(
    download: Download, prepare: Prepare, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = download("coco")
    victim = tmp_path_factory.mktemp("elsewhere") / "victim.png"
    folder = root / "coco/panoptic_semseg_val2017"
    folder.mkdir()
    (folder / "000000000139.png").symlink_to(victim)
    assert prepare("prepare_coco", root) == 2 and not victim.exists()


def test_a_name_in_a_list_cannot_leave_its_folder(download: Download, prepare: Prepare) -> None:
    root = download("pascal_voc")
    (root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_text("../../2007_000033\n")
    assert prepare("prepare_pascal_voc", root) == 2


def test_a_stated_size_is_compared_before_memory_is_taken(
    download: Download, prepare: Prepare, capsys: pytest.CaptureFixture[str]
) -> None:
    root = download("pascal_context")
    path = root / "VOCdevkit/VOC2010/trainval_merged.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image.update(height=1 << 20, width=1 << 20)
    path.write_text(json.dumps(content))
    assert prepare("prepare_pascal_context", root) == 2
    assert "(1048576, 1048576) (height, width)" in capsys.readouterr().err.replace("\n", " ")


def test_an_image_and_its_labels_must_have_one_size(
    download: Download, prepare: Prepare, layouts, capsys: pytest.CaptureFixture[str]
) -> None:
    root = download("pascal_voc")
    layouts.save_picture(root / "VOCdevkit/VOC2012/JPEGImages/2007_000042.jpg", (5, 5))
    assert prepare("prepare_pascal_voc", root) == 2
    assert "2007_000042.png is 3 x 2 pixels" in capsys.readouterr().err.replace("\n", "")
