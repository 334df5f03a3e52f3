import contextlib
import io
import math

import numpy as np
import pytest
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from frozenseg.metrics import Classes, InstanceAnnotation, InstanceEvaluator
from frozenseg.structures import Instances, PanopticMap, Segment, boxes_of

IS_THING = (True, True, False, True)
CLASSES = Classes(4, is_thing=IS_THING)


def instances(class_ids: list[int], scores: list[float], masks: torch.Tensor) -> Instances:
    return Instances(torch.tensor(class_ids).long(), torch.tensor(scores), masks, boxes_of(masks))


def boxes_as_masks(*boxes: tuple[int, int, int, int], size: int = 128) -> torch.Tensor:
    masks = torch.zeros(len(boxes), size, size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


def nothing(size: int = 128) -> Instances:
    return instances([], [], boxes_as_masks(size=size))


def test_one_exact_and_one_loose_mask_worked_by_hand():
    annotated = boxes_as_masks((0, 0, 20, 20), (40, 40, 60, 60))
    found = boxes_as_masks((0, 0, 20, 20), (40, 40, 60, 53))  # IoU 1 and 13/20 = 0.65
    evaluator = InstanceEvaluator(Classes(4, is_thing=IS_THING, seen=(True, False, True, True)))
    evaluator.process_annotations(
        instances([0, 1], [0.9, 0.8], found),
        [InstanceAnnotation(k, mask) for k, mask in enumerate(annotated)],
    )
    metrics = evaluator.evaluate()
    assert metrics["instance/AP50"] == pytest.approx(100)
    assert metrics["instance/AP75"] == pytest.approx(50)
    assert metrics["instance/seen/AP"] == pytest.approx(100)
    assert metrics["instance/unseen/AP"] == pytest.approx(100 * 4 / 10)  # of 0.50, 0.55, ... 0.95
    assert metrics["instance/AP"] == pytest.approx(70)
    assert metrics["instance/APs"] == pytest.approx(70)  # 400 px: below 32 x 32
    assert math.isnan(metrics["instance/APl"])


def test_a_false_alarm_with_a_higher_score_halves_precision():
    masks = boxes_as_masks((0, 0, 20, 20), (60, 60, 90, 90))
    evaluator = InstanceEvaluator(CLASSES)
    evaluator.process_annotations(
        instances([0, 0], [0.5, 0.9], masks), [InstanceAnnotation(0, masks[0])]
    )
    assert evaluator.evaluate()["instance/AP"] == pytest.approx(50)


def test_things_of_a_panoptic_map_are_the_annotation_and_crowds_forgive():
    ids = torch.zeros(64, 64, dtype=torch.int32)
    ids[:20, :20], ids[:20, 30:60], ids[40:] = 1, 2, 3
    target = PanopticMap(
        ids, (Segment(1, 0, True), Segment(2, 0, True, is_crowd=True), Segment(3, 2, False))
    )
    on_crowd = torch.zeros(64, 64, dtype=torch.bool)
    on_crowd[:10, 35:50] = True
    evaluator = InstanceEvaluator(CLASSES)
    evaluator.process(instances([0, 0], [0.9, 0.5], torch.stack([on_crowd, ids == 1])), target)
    assert evaluator.evaluate()["instance/AP"] == pytest.approx(100)


def test_nothing_predicted_scores_zero_and_nothing_annotated_has_no_number():
    mask = boxes_as_masks((0, 0, 20, 20))
    missed = InstanceEvaluator(CLASSES)
    missed.process_annotations(nothing(), [InstanceAnnotation(0, mask[0])])
    assert missed.evaluate()["instance/AP"] == 0
    unasked = InstanceEvaluator(CLASSES)
    unasked.process_annotations(instances([0], [0.5], mask), [])
    assert math.isnan(unasked.evaluate()["instance/AP"])
    assert math.isnan(InstanceEvaluator(CLASSES).evaluate()["instance/AP"])


def test_rows_are_those_of_things():
    mask = boxes_as_masks((0, 0, 20, 20))
    evaluator = InstanceEvaluator(
        Classes(4, is_thing=IS_THING, names=("cat", "dog", "grass", "car"))
    )
    evaluator.process_annotations(instances([1], [0.5], mask), [InstanceAnnotation(1, mask[0])])
    rows = {row["name"]: row["AP"] for row in evaluator.per_class()}
    assert list(rows) == ["cat", "dog", "car"]
    assert rows["dog"] == pytest.approx(100)
    assert math.isnan(rows["cat"])


def random_image(generator: np.random.Generator) -> tuple[Instances, list[InstanceAnnotation]]:
    """Objects from 100 to 16,000 pixels, some crowd, and predictions that resemble them."""
    size, things = 160, (0, 1, 3)
    annotations, masks, class_ids = [], [], []
    for _ in range(generator.integers(0, 7)):
        x, y = generator.integers(0, 100, size=2)
        width, height = generator.integers(10, 125, size=2)
        box = boxes_as_masks((x, y, min(x + width, size), min(y + height, size)), size=size)[0]
        class_id = int(generator.choice(things))
        annotations.append(InstanceAnnotation(class_id, box, bool(generator.random() < 0.15)))
        for _ in range(generator.integers(0, 4)):
            masks.append(torch.roll(box, tuple(generator.integers(-5, 6, size=2).tolist()), (0, 1)))
            class_ids.append(
                class_id if generator.random() < 0.8 else int(generator.choice(things))
            )
    if not masks:
        return nothing(size), annotations
    scores = generator.random(len(masks)).round(2)
    order = np.argsort(-scores, kind="stable")
    chosen = torch.stack(masks)[order.tolist()]
    return instances([class_ids[i] for i in order], scores[order].tolist(), chosen), annotations


def coco_by_hand(images: list[tuple[Instances, list[InstanceAnnotation]]]) -> np.ndarray:
    """The twelve numbers of pycocotools' own summary, its input built from decoded masks."""

    def encode(mask: torch.Tensor) -> dict:
        return rle.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))

    annotations, detections = [], []
    for index, (prediction, objects) in enumerate(images):
        for each in objects:
            segmentation = encode(each.mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": each.class_id,
                    "segmentation": segmentation,
                    "area": int(each.mask.sum()),
                    "iscrowd": int(each.is_crowd),
                    "bbox": rle.toBbox(segmentation).tolist(),
                }
            )
        for class_id, score, mask in zip(*prediction[:3], strict=True):
            detections.append(
                {
                    "image_id": index,
                    "category_id": int(class_id),
                    "score": float(score),
                    "segmentation": encode(mask),
                }
            )
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": index, "height": 160, "width": 160} for index in range(len(images))],
        "annotations": annotations,
        "categories": [{"id": k} for k in (0, 1, 3)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(detections), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.fixture(scope="module")
def images() -> list[tuple[Instances, list[InstanceAnnotation]]]:
    generator = np.random.default_rng(0)
    return [random_image(generator) for _ in range(40)]


def test_metrics_are_those_of_pycocotools(images):
    evaluator = InstanceEvaluator(CLASSES)
    for image in images:
        evaluator.process_annotations(*image)
    metrics = evaluator.evaluate()
    stats = coco_by_hand(images)
    assert 20 < metrics["instance/AP"] < 80
    for place, name in enumerate(("AP", "AP50", "AP75", "APs", "APm", "APl")):
        assert metrics[f"instance/{name}"] == pytest.approx(100 * stats[place], abs=1e-9), name
    assert metrics["instance/AR"] == pytest.approx(100 * stats[8], abs=1e-9)


def test_splitting_the_stream_and_merging_equals_one_stream(images):
    whole, first, second = (InstanceEvaluator(CLASSES) for _ in range(3))
    for index, image in enumerate(images):
        whole.process_annotations(*image)
        (first if index < 15 else second).process_annotations(*image)
    first.merge(second.state_dict())
    np.testing.assert_equal(first.evaluate(), whole.evaluate())


def test_a_saved_state_restores_the_stream(images, tmp_path):
    evaluator = InstanceEvaluator(CLASSES)
    for image in images:
        evaluator.process_annotations(*image)
    np.savez(tmp_path / "state.npz", **evaluator.state_dict())
    resumed = InstanceEvaluator(CLASSES)
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        resumed.merge(state)
    np.testing.assert_equal(resumed.evaluate(), evaluator.evaluate())


def test_a_stated_area_decides_the_size_bin():
    mask = boxes_as_masks((0, 0, 20, 20))
    evaluator = InstanceEvaluator(CLASSES)
    evaluator.process_annotations(
        instances([0], [0.5], mask), [InstanceAnnotation(0, mask[0], area=5000)]
    )
    metrics = evaluator.evaluate()
    assert math.isnan(metrics["instance/APs"])
    assert metrics["instance/APm"] == pytest.approx(100)


def test_the_order_of_detections_does_not_matter(images):
    prediction, annotations = max(images, key=lambda image: len(image[0].scores))
    distinct = prediction._replace(scores=torch.linspace(0.9, 0.1, len(prediction.scores)))
    shuffled = Instances(*(field.flip(0) for field in distinct))
    plain, changed = InstanceEvaluator(CLASSES), InstanceEvaluator(CLASSES)
    plain.process_annotations(distinct, annotations)
    changed.process_annotations(shuffled, annotations)
    np.testing.assert_equal(changed.evaluate(), plain.evaluate())


@pytest.mark.parametrize(("first", "last", "expected"), [(0.9, 0.1, 0.0), (0.1, 0.9, 100.0)])
def test_only_the_best_100_of_a_class_count(first: float, last: float, expected: float):
    masks = boxes_as_masks(*[(60, 60, 90, 90)] * 100, (0, 0, 20, 20))
    scores = torch.linspace(first, last, 101).tolist()
    evaluator = InstanceEvaluator(CLASSES)
    evaluator.process_annotations(
        instances([0] * 101, scores, masks), [InstanceAnnotation(0, masks[-1])]
    )
    assert evaluator.evaluate()["instance/AP"] == pytest.approx(expected)


def test_detections_of_another_vocabulary_are_refused():
    with pytest.raises(ValueError, match="same evaluator and vocabulary"):
        InstanceEvaluator(CLASSES).merge(InstanceEvaluator(Classes(1)).state_dict())


@pytest.mark.parametrize(
    ("class_id", "message"), [(2, "class id 2 is not a thing"), (9, "class id 9")]
)
def test_stuff_and_unknown_classes_are_reported(class_id: int, message: str):
    masks = boxes_as_masks((0, 0, 4, 4))
    with pytest.raises(ValueError, match=message):
        InstanceEvaluator(CLASSES).process_annotations(instances([class_id], [0.5], masks), [])


def test_masks_of_different_sizes_are_reported():
    with pytest.raises(ValueError, match=r"\(64, 64\), \(128, 128\)"):
        InstanceEvaluator(CLASSES).process_annotations(
            nothing(64), [InstanceAnnotation(0, boxes_as_masks((0, 0, 4, 4))[0])]
        )
