"""Precomputed masks of files and data sets, with the miniature SAM."""

from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open

from frozenseg.data.shapes import ShapesDataset

QUICK = [
    *("--model", "shapes", "--device", "cpu"),
    *("--set", "MODEL.MASK_ENSEMBLE.POINTS_PER_SIDE=4"),
]


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A folder with three scenes."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    for index in range(3):
        pixels = ShapesDataset("val")[index].image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def three_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The validation split of the shapes world, cut short."""
    monkeypatch.setattr("frozenseg.data.shapes.dataset._SIZES", {"train": 3, "val": 3})


def made(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}


def test_every_image_gets_a_file_and_what_is_there_is_skipped(run, scenes: Path, tmp_path: Path):
    cache = tmp_path / "cache"
    result = run("sam-masks", scenes, *QUICK, "--output", cache)
    assert result.exit_code == 0, result.output
    assert "3 images processed, 0 already stored" in result.stdout and str(cache) in result.stdout
    before = made(cache)
    assert len(before) == 3
    next(cache.glob("*.safetensors")).unlink()
    result = run("sam-masks", scenes, *QUICK, "--output", cache)
    assert "1 images processed, 2 already stored" in result.stdout
    assert made(cache).keys() == before.keys()


def test_masks_of_a_data_set_serve_its_images_wherever_they_lie(
    run, scenes: Path, tmp_path: Path, three_scenes: None
):
    cache = tmp_path / "cache"
    result = run("sam-masks", "--dataset", "shapes_val", *QUICK, "--output", cache)
    assert result.exit_code == 0, result.output
    result = run("sam-masks", scenes, *QUICK, "--output", cache)
    assert "0 images processed, 3 already stored" in result.stdout


def test_parts_together_are_the_whole(run, scenes: Path, tmp_path: Path):
    cache, found = tmp_path / "cache", []
    for part in ("1/2", "2/2"):
        run("sam-masks", scenes, *QUICK, "--output", cache, "--part", part)
        found.append(len(made(cache)))
    assert found == [2, 3]


def content(path: Path) -> tuple[dict[str, str], dict[str, list]]:
    """Notes and tensors; the order of notes in a safetensors file is arbitrary."""
    with safe_open(path, framework="pt") as file:
        return file.metadata(), {name: file.get_tensor(name).tolist() for name in file.keys()}  # noqa: SIM118


@pytest.mark.slow
def test_several_processes_make_the_same_files(run, scenes: Path, tmp_path: Path):
    for processes in (1, 2):
        cache = tmp_path / str(processes)
        result = run("sam-masks", scenes, *QUICK, "--output", cache, "--processes", processes)
        assert result.exit_code == 0, result.output
    one, two = (sorted((tmp_path / str(n)).iterdir()) for n in (1, 2))
    assert [path.name for path in one] == [path.name for path in two]
    assert [content(path) for path in one] == [content(path) for path in two]


@pytest.mark.slow
def test_a_mistake_in_a_process_is_one_sentence(run, scenes: Path):
    result = run("sam-masks", scenes, "--sam", "vit_q", "--device", "cpu", "--processes", 2)
    assert result.exit_code == 2
    assert "no SAM named 'vit_q'" in result.stderr and "Traceback" not in result.stderr


def test_masks_made_otherwise_are_refused(run, scenes: Path, tmp_path: Path):
    cache = tmp_path / "cache"
    run("sam-masks", scenes, *QUICK, "--output", cache)
    result = run(
        "sam-masks", scenes, *QUICK, "--output", cache, "--set", "MODEL.MASK_ENSEMBLE.MAX_MASKS=7"
    )
    assert result.exit_code == 2
    assert "its max_masks is 50, not 7" in " ".join(result.stderr.split())


def test_a_bad_image_does_not_stop_the_others(run, scenes: Path, tmp_path: Path):
    (scenes / "1.png").write_bytes(b"no image")
    result = run("sam-masks", scenes, *QUICK, "--output", tmp_path / "cache")
    assert result.exit_code == 2
    assert "1.png is not an image" in result.stderr and "2 images processed" in result.stdout


def test_pictures_of_the_masks_are_drawn_on_request(run, scenes: Path, tmp_path: Path):
    drawn = tmp_path / "drawn"
    run("sam-masks", scenes, *QUICK, "--output", tmp_path / "cache", "--draw", drawn)
    assert sorted(path.name for path in drawn.iterdir()) == ["0.png", "1.png", "2.png"]
    with Image.open(drawn / "0.png") as picture:
        assert picture.width > 1.8 * picture.height


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give either images or --dataset"),
        (["x.png", "--dataset", "shapes_val"], "give either images or --dataset"),
        (["x.png", "--part", "3/2"], "--part 3/2 is not K/N"),
        (["x.png", "--set", "MODEL.DEVICE"], "has no value"),
        (["x.png", "--set", "MODEL.MASK_ENSEMBLE.POINTS=3"], "unknown key"),
    ],
)
def test_mistakes_are_named(run, arguments: list[str], words: str):
    result = run("sam-masks", *arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
