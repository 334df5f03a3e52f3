"""A bad file among many: named, or left out."""

import logging
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from frozenseg.data.catalog import dataset_samples, dataset_vocabulary
from frozenseg.data.datasets import open_dataset
from frozenseg.data.loading import Attempts, BadSample, without_bad
from frozenseg.data.mapper import TrainingMapper
from frozenseg.data.shapes import ShapesDataset
from frozenseg.errors import UserError
from frozenseg.training.loader import training_batches

COCO_TRAIN = "openvocab_coco_2017_train_panoptic_with_sem_seg"


@pytest.fixture
def root(tmp_path: Path, layouts) -> Path:
    layouts.write_coco(tmp_path, "train")
    return tmp_path


def batches(root: Path, **options):
    mapper = TrainingMapper(crop_size=8)
    options = {"batch_size": 2, "seed": 3} | options
    return training_batches(open_dataset(COCO_TRAIN, root=root), augment=mapper, **options)


def test_coco_is_trained_on_in_an_order_that_the_seed_decides(root: Path) -> None:
    first = list(islice(batches(root), 4))
    again = list(islice(batches(root, num_workers=1), 4))
    resumed = list(islice(batches(root, start=4), 2))
    for ours, theirs in zip([*first, *first[2:]], [*again, *resumed], strict=True):
        assert ours.names == theirs.names
        assert all(map(torch.equal, ours.images, theirs.images))
        assert all(
            torch.equal(a.masks, b.masks) for a, b in zip(ours.targets, theirs.targets, strict=True)
        )
    assert {len(target.class_ids) for batch in first for target in batch.targets} == {0, 3}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bad_file_stops_training_with_one_sentence(root: Path, num_workers: int) -> None:
    path = root / "coco/train2017/000000000139.jpg"
    path.write_bytes(b"no picture")
    with pytest.raises(UserError) as caught:
        list(islice(batches(root, num_workers=num_workers), 2))
    assert str(caught.value) == f"{path} is not an image that can be read: give a JPEG or PNG"


def test_a_bad_file_is_left_out_and_logged_where_that_is_wanted(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "coco/train2017/000000000139.jpg").write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING):
        found = list(islice(batches(root, skip_bad=True), 3))
    assert {name for batch in found for name in batch.names} == {
        str(root / "coco/train2017/000000000285.jpg")
    }
    assert "000000000139.jpg" in caplog.text


def test_what_is_not_the_users_mistake_names_the_sample() -> None:
    def read(key: int) -> int:
        raise ZeroDivisionError("division by zero")

    with pytest.raises(RuntimeError, match="sample 7 could not be read: division by zero"):
        Attempts(read)[7]


def test_good_items_stay_in_order() -> None:
    assert without_bad([1, BadSample("x"), 2], skip_bad=True) == [1, 2]
    with pytest.raises(UserError, match="x"):
        without_bad([1, BadSample("x")], skip_bad=False)


def test_a_name_stands_for_samples_and_vocabulary(root: Path, monkeypatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    assert len(dataset_samples(COCO_TRAIN)) == 2
    assert isinstance(dataset_samples("shapes_val"), ShapesDataset)
    assert len(dataset_vocabulary(COCO_TRAIN)) == 133
    assert len(dataset_vocabulary("coco_2017_train_panoptic")) == 133
    assert len(dataset_vocabulary("bdd10k_val_sem_seg")) == 19
    for function in (dataset_samples, dataset_vocabulary):
        with pytest.raises(UserError, match="no data set is registered as coco"):
            function("coco")


def test_augmented_shapes_keep_every_segment_in_an_unscaled_crop() -> None:
    mapper = TrainingMapper(crop_size=256, min_scale=1.0, max_scale=1.0)
    sample = ShapesDataset("train")[0]
    image, target = mapper(sample, np.random.default_rng(0))
    assert image.shape == (3, 256, 256)
    assert target.masks.sum(0).eq(1).all()  # panoptic: every pixel one segment
    assert len(target.class_ids) == len(sample.panoptic.segments)
