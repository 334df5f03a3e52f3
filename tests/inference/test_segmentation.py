"""Results as users read them: arrays, tables, drawings and exports that agree with each other."""

import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_masks
from torch.profiler import ProfilerActivity, profile

from frozenseg.errors import UserError
from frozenseg.inference.segmentation import Segmentation
from frozenseg.structures import Instances, PanopticMap, Result, Segment, boxes_of
from frozenseg.vocabulary import parse_vocabulary

CLASSES = parse_vocabulary(["cat", "grass [stuff]", "tree"])
IMAGE = torch.full((3, 20, 30), 100, dtype=torch.uint8)


def segmentation(task: str, **result: Any) -> Segmentation:
    return Segmentation(image=IMAGE, vocabulary=CLASSES, task=task, result=Result(**result))


def panoptic() -> Segmentation:
    """A cat of 5 x 10 pixels on 20 x 20 of grass; 200 pixels are void."""
    ids = torch.zeros(20, 30, dtype=torch.int32)
    ids[:, :20] = 7
    ids[5:10, 10:20] = 3
    cat, grass = Segment(3, 0, True, score=0.625), Segment(7, 1, False, score=0.875)
    return segmentation("panoptic", panoptic=PanopticMap(ids, (cat, grass)))


def semantic() -> Segmentation:
    labels = torch.ones(20, 30, dtype=torch.int64)
    labels[:, :10] = 2
    return segmentation("semantic", semantic=labels)


def instances() -> Segmentation:
    masks = torch.zeros(3, 20, 30, dtype=torch.bool)
    masks[0, :4, :5] = True
    masks[1, 2:, :] = True  # overlaps the first
    found = Instances(
        torch.tensor([2, 0, 0]), torch.tensor([0.75, 0.5, 0.25]), masks, boxes_of(masks)
    )
    return segmentation("instance", instances=found)


def test_segments_are_measured_one_mask_at_a_time() -> None:
    masks = torch.ones(20, 200, 300, dtype=torch.bool)
    things = Instances(torch.zeros(20, dtype=torch.int64), torch.ones(20), masks, boxes_of(masks))
    found = segmentation("instance", instances=things)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        assert found.areas.tolist() == [60_000] * 20
    largest = max(event.self_cpu_memory_usage for event in profiled.events())
    assert largest <= 60_000  # bytes


def test_panoptic_arrays_are_sorted_by_area_and_name_the_segments() -> None:
    found = panoptic()
    assert len(found) == 2 and found.names == ("grass", "cat")
    assert found.areas.tolist() == [350, 50]
    assert found.scores.tolist() == [0.875, 0.625]
    assert found.boxes.tolist() == [[0, 0, 20, 20], [10, 5, 20, 10]]
    assert found.masks.shape == (2, 20, 30) and found.masks.dtype == bool
    assert found.masks.sum(axis=(1, 2)).tolist() == [350, 50]
    assert found.masks[1, 5:10, 10:20].all()


def test_semantic_arrays_have_one_entry_per_class_and_no_scores() -> None:
    found = semantic()
    assert found.names == ("grass", "tree") and found.areas.tolist() == [400, 200]
    assert np.isnan(found.scores).all()
    assert found.id_map[0, 0] == 3 and found.id_map[0, 29] == 2
    assert found.masks[1, :, :10].all() and found.masks.sum() == 600


def test_instances_keep_their_order_and_may_overlap() -> None:
    found = instances()
    assert found.names == ("tree", "cat", "cat") and found.areas.tolist() == [20, 540, 0]
    assert (found.masks[0] & found.masks[1]).sum() == 10
    with pytest.raises(UserError, match="no id map"):
        _ = found.id_map


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_empty_results_have_empty_arrays(task: str) -> None:
    found = {"panoptic": panoptic, "instance": instances}[task]().above(0.99)
    assert len(found) == 0 and found.names == ()
    assert found.masks.shape == (0, 20, 30) and found.boxes.shape == (0, 4)
    assert found.scores.shape == found.areas.shape == (0,)
    assert found.to_coco(rle=True)["segments_info"] == []
    assert "0 segments" in str(found)
    assert found.draw().size == (30, 20)


def test_above_keeps_scores_that_reach_the_minimum_and_voids_the_rest() -> None:
    kept = panoptic().above(0.875)
    assert kept.names == ("grass",) and set(np.unique(kept.id_map)) == {0, 7}
    assert instances().above(0.5).names == ("tree", "cat")
    with pytest.raises(UserError, match="have no scores"):
        semantic().above(0.5)


def test_drawing_has_the_size_of_the_image_and_takes_colours_opacity_and_a_threshold() -> None:
    found = panoptic()
    assert found.draw().size == (30, 20)
    drawn = found.draw(colors=[(0, 0, 255), (255, 0, 0), (0, 255, 0)], alpha=1.0)
    assert (np.asarray(drawn) == (255, 0, 0)).all(axis=-1).any()
    assert found.draw(min_score=0.8).tobytes() == found.above(0.8).draw().tobytes()
    assert found.draw(min_score=0.8).tobytes() != found.draw().tobytes()
    weak = instances()
    assert weak.draw(min_score=0.6).tobytes() != weak.draw().tobytes()


def test_notebooks_show_the_drawing() -> None:
    found = panoptic()
    with Image.open(io.BytesIO(found._repr_png_())) as shown:
        assert shown.format == "PNG" and shown.tobytes() == found.draw().tobytes()
    assert repr(found) == "<Segmentation: panoptic, 2 segments, 20 x 30 pixels>"


def test_printing_shows_a_table_with_shares() -> None:
    lines = str(panoptic()).splitlines()
    rows = [line.replace("│", " ").split() for line in lines]
    assert ["grass", "stuff", "0.88", "350", "58.3%"] in rows
    assert lines[-1] == "2 segments; 33.3% of the image is unlabelled"
    assert str(instances()).splitlines()[-1] == "2 segments; 1 more with lower scores"


@pytest.mark.parametrize("make", [panoptic, semantic, instances])
def test_coco_record_decodes_to_the_masks_and_is_valid_json(make) -> None:
    found = make()
    record = json.loads(json.dumps(found.to_coco(rle=True), allow_nan=False))
    decoded = [coco_masks.decode(each["segmentation"]) for each in record["segments_info"]]
    assert np.array_equal(np.stack(decoded).astype(bool), found.masks)
    assert "segmentation" not in found.to_coco()["segments_info"][0]


def test_saved_instances_hold_their_masks(tmp_path) -> None:
    found = instances()
    paths = found.save(tmp_path, "scene", masks=True)
    assert set(paths) == {"drawing", "segments", "masks"}
    segments = json.loads(paths["segments"].read_text())["segments_info"]
    assert coco_masks.decode(segments[1]["segmentation"]).sum() == 540
    stored = sorted(paths["masks"].iterdir())
    assert [path.name for path in stored] == ["0001_tree.png", "0002_cat.png", "0003_cat.png"]
    with Image.open(stored[0]) as mask:
        assert np.array_equal(np.asarray(mask) > 0, found.masks[0])


def test_saved_id_map_agrees_with_the_json(tmp_path) -> None:
    paths = panoptic().save(tmp_path / "new", "scene")
    with Image.open(paths["ids"]) as stored:
        ids = np.asarray(stored)
    for segment in json.loads(paths["segments"].read_text())["segments_info"]:
        assert (ids == segment["id"]).sum() == segment["area"]
