"""What ``check`` counts, and what it advises."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from frozenseg.data import specs
from frozenseg.data.checking import check_dataset, is_present
from frozenseg.data.registry import dataset_spec

COCO = "openvocab_coco_2017_val_panoptic_with_sem_seg"
COCO_PAGE = "https://cocodataset.org/#download"


@pytest.fixture(autouse=True)
def small_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pictures are all there are."""
    small = tuple(replace(spec, num_images=2) for spec in specs.SPECS)
    monkeypatch.setattr(specs, "SPECS", small)


def counts(check) -> dict[str, int]:
    return {finding.what: finding.found for finding in check.findings}


def test_a_complete_data_set_passes(download: Callable[..., Path], prepare) -> None:
    root = download("coco")
    prepare("prepare_coco", root)
    check = check_dataset(COCO, root=root)
    assert check.ok and not check.problem
    assert counts(check) == {
        "images": 2,
        "panoptic entries": 2,
        "segment maps": 2,
        "label maps": 2,
        "instance entries": 2,
    }
    assert not any(finding.advice for finding in check.findings)


def test_what_is_missing_comes_with_the_way_to_get_it(download: Callable[..., Path]) -> None:
    root = download("coco")
    (root / "coco/val2017/000000000139.jpg").unlink()
    check = check_dataset(COCO, root=root)
    assert not check.ok
    assert counts(check)["images"] == 1 and counts(check)["label maps"] == 0
    advice = {finding.what: finding.advice for finding in check.findings if not finding.ok}
    assert advice == {
        "images": f"get them from {COCO_PAGE}",
        "label maps": f"run `frozenseg datasets prepare coco`, which reads what {COCO_PAGE} has",
    }
    assert "none of 2 samples is complete: the first reason is that" in check.problem


def test_pictures_are_fetched_where_they_are(tmp_path: Path) -> None:
    check = check_dataset("openvocab_lvis_v1_val", root=tmp_path)
    assert {finding.what: finding.advice for finding in check.findings} == {
        "images": f"get them from {COCO_PAGE}",
        "instance entries": "get them from https://www.lvisdataset.org/dataset",
    }


def test_cityscapes_maps_of_objects_are_counted(download: Callable[..., Path]) -> None:
    root = download("cityscapes")
    name = "openvocab_cityscapes_fine_panoptic_val"
    assert counts(check_dataset(name, root=root))["object maps"] == 1
    (found,) = root.rglob("*_instanceIds.png")
    found.unlink()
    assert counts(check_dataset(name, root=root))["object maps"] == 0


def test_an_empty_root_is_all_zeros(tmp_path: Path) -> None:
    for spec in specs.SPECS:
        check = check_dataset(spec.name, root=tmp_path)
        assert not check.ok
        assert set(counts(check).values()) == {0}
        assert all(finding.advice for finding in check.findings)


def test_a_damaged_sample_is_found(download: Callable[..., Path], prepare) -> None:
    root = download("pascal_voc")
    prepare("prepare_pascal_voc", root)
    name = "openvocab_pascal21_sem_seg_val"
    assert check_dataset(name, root=root).ok
    (root / "pascal_voc_d2/annotations_pascal21/validation/2007_000042.png").write_bytes(b"")
    check = check_dataset(name, root=root)
    assert not check.ok and "2007_000042.png is not an image" in check.problem


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("cityscapes", "openvocab_cityscapes_fine_panoptic_val"),
        ("lvis", "openvocab_lvis_v1_val"),
        ("mapillary_vistas", "openvocab_mapillary_vistas_panoptic_val"),
    ],
)
def test_pictures_in_folders_of_folders_are_counted(
    download: Callable[..., Path], layout: str, name: str
) -> None:
    check = check_dataset(name, root=download(layout))
    assert counts(check)["images"] == {"cityscapes": 1, "lvis": 2, "mapillary_vistas": 1}[layout]


def test_presence_is_seen_without_opening_anything(download: Callable[..., Path]) -> None:
    root = download("bdd100k", "coco")
    assert is_present(dataset_spec("bdd10k_val_sem_seg"), root=root)
    assert not is_present(dataset_spec(COCO), root=root)  # not prepared
    assert not is_present(dataset_spec("openvocab_lvis_v1_val"), root=root)
