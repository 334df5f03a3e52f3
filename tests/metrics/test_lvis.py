import json
import math

import numpy as np
import pytest
import torch
from pycocotools import mask as rle

from frozenseg.metrics import Classes, InstanceAnnotation, LvisEvaluator
from frozenseg.structures import Instances, boxes_of

FREQUENCY = ("r", "c", "c", "f", "f")
SIZE = 160


def instances(class_ids: list[int], scores: list[float], masks: torch.Tensor) -> Instances:
    return Instances(torch.tensor(class_ids).long(), torch.tensor(scores), masks, boxes_of(masks))


def box(x0: int, y0: int, x1: int, y1: int) -> torch.Tensor:
    mask = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


def evaluate(prediction, annotations, *, negative=(), not_exhaustive=()) -> dict[str, float]:
    evaluator = LvisEvaluator(Classes(len(FREQUENCY)), frequency=FREQUENCY)
    evaluator.process(
        prediction,
        annotations,
        negative_class_ids=negative,
        not_exhaustive_class_ids=not_exhaustive,
    )
    return evaluator.evaluate()


CUP, ELSEWHERE = box(0, 0, 20, 20), box(60, 60, 100, 100)
BOTH = torch.stack([ELSEWHERE, CUP])


def test_a_class_that_the_image_says_nothing_about_is_not_judged():
    prediction = instances([1, 0], [0.9, 0.8], BOTH)
    metrics = evaluate(prediction, [InstanceAnnotation(0, CUP)])
    assert metrics["lvis/AP"] == metrics["lvis/APr"] == pytest.approx(100)
    assert math.isnan(metrics["lvis/APc"])


def test_a_class_known_to_be_absent_makes_false_alarms():
    evaluator = LvisEvaluator(Classes(len(FREQUENCY)), frequency=FREQUENCY)
    for class_id, listed in ((1, {1}), (1, {}), (0, {1})):
        annotations = [InstanceAnnotation(class_id, CUP)] if not listed else []
        evaluator.process(
            instances([class_id], [0.9 if listed else 0.8], CUP[None]),
            annotations,
            negative_class_ids=listed,
            not_exhaustive_class_ids=(),
        )
    assert evaluator.evaluate()["lvis/AP"] == pytest.approx(50)


def test_where_annotation_is_incomplete_nothing_is_a_false_alarm():
    prediction = instances([0, 0], [0.9, 0.8], BOTH)
    annotations = [InstanceAnnotation(0, CUP)]
    assert evaluate(prediction, annotations)["lvis/AP"] == pytest.approx(50)
    assert evaluate(prediction, annotations, not_exhaustive={0})["lvis/AP"] == pytest.approx(100)


def test_an_object_without_area_says_nothing_about_its_class():
    prediction = instances([0, 1], [0.9, 0.8], BOTH)
    annotations = [InstanceAnnotation(1, CUP), InstanceAnnotation(0, CUP, area=0.0)]
    assert evaluate(prediction, annotations)["lvis/AP"] == pytest.approx(100)


def test_frequencies_are_averaged_apart():
    prediction = instances([0, 3], [0.9, 0.8], torch.stack([CUP, CUP]))
    metrics = evaluate(prediction, [InstanceAnnotation(0, CUP), InstanceAnnotation(3, ELSEWHERE)])
    assert metrics["lvis/APr"] == pytest.approx(100)
    assert metrics["lvis/APf"] == 0
    assert metrics["lvis/AP"] == pytest.approx(50)


def test_an_unknown_frequency_is_reported():
    with pytest.raises(ValueError, match="'x', expected one of r, c, f"):
        LvisEvaluator(Classes(2), frequency=("r", "x"))


def random_image(generator: np.random.Generator) -> dict:
    annotations, masks, class_ids = [], [], []
    for _ in range(generator.integers(0, 6)):
        x, y, width, height = generator.integers(5, (80, 80, 130, 130))
        mask = box(x, y, x + width, y + height)
        class_id = int(generator.integers(5))
        area = float(mask.sum()) * float(generator.choice([1.0, 0.9]))
        annotations.append(InstanceAnnotation(class_id, mask, area=area))
        for _ in range(generator.integers(0, 4)):
            masks.append(
                torch.roll(mask, tuple(generator.integers(-6, 7, size=2).tolist()), (0, 1))
            )
            class_ids.append(class_id if generator.random() < 0.7 else int(generator.integers(5)))
    if generator.random() < 0.2:
        masks.append(torch.zeros(SIZE, SIZE, dtype=torch.bool))
        class_ids.append(0)
    absent = sorted(set(range(5)) - {each.class_id for each in annotations})
    return {
        "prediction": instances(
            class_ids,
            generator.random(len(masks)).round(2).tolist(),
            torch.stack(masks) if masks else torch.zeros(0, SIZE, SIZE, dtype=torch.bool),
        ),
        "annotations": annotations,
        "negative_class_ids": [k for k in absent if generator.random() < 0.4],
        "not_exhaustive_class_ids": [k for k in range(5) if generator.random() < 0.2],
    }


@pytest.fixture(scope="module")
def images() -> list[dict]:
    generator = np.random.default_rng(0)
    return [random_image(generator) for _ in range(60)]


def encode(mask: torch.Tensor) -> dict:
    encoded = rle.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def results_of_the_lvis_package(images: list[dict], path) -> dict[str, float]:
    lvis = pytest.importorskip("lvis")
    annotations, detections, records = [], [], []
    for index, image in enumerate(images, start=1):
        records.append(
            {
                "id": index,
                "height": SIZE,
                "width": SIZE,
                "neg_category_ids": [k + 1 for k in image["negative_class_ids"]],
                "not_exhaustive_category_ids": [k + 1 for k in image["not_exhaustive_class_ids"]],
            }
        )
        for each in image["annotations"]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": each.class_id + 1,
                    "segmentation": encode(each.mask),
                    "area": each.area,
                }
            )
        for class_id, score, mask in zip(*image["prediction"][:3], strict=True):
            detections.append(
                {
                    "image_id": index,
                    "category_id": int(class_id) + 1,
                    "score": float(score),
                    "segmentation": encode(mask),
                }
            )
    categories = [{"id": k + 1, "frequency": each} for k, each in enumerate(FREQUENCY)]
    dataset = {"images": records, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(dataset))
    truth = lvis.LVIS(str(path))
    evaluation = lvis.LVISEval(truth, lvis.LVISResults(truth, detections), "segm")
    evaluation.run()
    return evaluation.get_results()


def test_metrics_are_those_of_the_lvis_package(images, tmp_path, monkeypatch):
    monkeypatch.setattr(np, "float", float, raising=False)  # the package uses NumPy's old name
    expected = results_of_the_lvis_package(images, tmp_path / "lvis.json")
    evaluator = LvisEvaluator(Classes(len(FREQUENCY)), frequency=FREQUENCY)
    for image in images:
        evaluator.process(**image)
    metrics = evaluator.evaluate()
    assert 10 < metrics["lvis/AP"] < 80
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"):
        assert metrics[f"lvis/{name}"] == pytest.approx(100 * expected[name], abs=1e-9), name
    assert metrics["lvis/AR"] == pytest.approx(100 * expected["AR@300"], abs=1e-9)


def test_splitting_the_stream_and_merging_equals_one_stream(images):
    whole, first, second = (
        LvisEvaluator(Classes(len(FREQUENCY)), frequency=FREQUENCY) for _ in range(3)
    )
    for index, image in enumerate(images):
        whole.process(**image)
        (first if index < 20 else second).process(**image)
    first.merge(second.state_dict())
    np.testing.assert_equal(first.evaluate(), whole.evaluate())


def test_rows_tell_the_frequency():
    rows = LvisEvaluator(Classes(len(FREQUENCY)), frequency=FREQUENCY).per_class()
    assert [row["frequency"] for row in rows] == list(FREQUENCY)
