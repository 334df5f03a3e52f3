import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from frozenseg.evaluation.predictions import CityscapesInstances
from frozenseg.metrics import (
    CityscapesInstanceEvaluator,
    CityscapesSemanticEvaluator,
    Classes,
    cityscapes,
)
from frozenseg.metrics.overlap import equal_runs
from frozenseg.structures import Instances, PanopticMap, Result, Sample, Segment, boxes_of

PERSON, CAR = 11, 13  # train ids
SIZE = (96, 128)
LABEL_OF_CLASS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def instances(class_ids: list[int], scores: list[float], masks: torch.Tensor) -> Instances:
    return Instances(torch.tensor(class_ids).long(), torch.tensor(scores), masks, boxes_of(masks))


def box(x0: int, y0: int, x1: int, y1: int) -> torch.Tensor:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


def instance_ids(**regions: tuple[int, torch.Tensor]) -> torch.Tensor:
    ids = torch.full(SIZE, 7)  # road
    for value, mask in regions.values():
        ids[mask] = value
    return ids


def evaluate(prediction: Instances, ids: torch.Tensor) -> dict[str, float]:
    evaluator = CityscapesInstanceEvaluator()
    evaluator.process_instance_ids(prediction, ids)
    return evaluator.evaluate()


MAN, OTHER = box(0, 0, 20, 30), box(60, 10, 90, 50)


def test_an_overlap_must_exceed_the_threshold():
    ids = instance_ids(man=(24000, box(0, 0, 20, 40)))
    half = instances([PERSON], [0.9], box(0, 0, 20, 20)[None])
    assert evaluate(half, ids)["cityscapes/AP50"] == 0
    more = instances([PERSON], [0.9], box(0, 0, 20, 23)[None])  # 23/40 = 0.575: above 0.50 and 0.55
    assert evaluate(more, ids)["cityscapes/AP50"] == pytest.approx(100)
    assert evaluate(more, ids)["cityscapes/AP"] == pytest.approx(20)


def test_void_and_groups_absorb_false_alarms():
    masks = torch.stack([OTHER, MAN])
    prediction = instances([PERSON, PERSON], [0.9, 0.8], masks)
    # The curve goes (recall 0, precision 0), (1, 1/2); each end has half of the step from 0 to 1.
    alarmed = evaluate(prediction, instance_ids(man=(24000, MAN)))
    assert alarmed["cityscapes/AP"] == pytest.approx(25)
    for ignored in (4, 24):  # static, a group of persons
        ids = instance_ids(man=(24000, MAN), other=(ignored, OTHER))
        assert evaluate(prediction, ids)["cityscapes/AP"] == pytest.approx(100)
    cars = instance_ids(man=(24000, MAN), other=(26, OTHER))
    # no car is found either, so the mean over both classes is half
    assert evaluate(prediction, cars)["cityscapes/AP"] == pytest.approx(25)


def test_small_objects_need_not_be_found():
    small = box(0, 0, 9, 11)
    nothing = instances([], [], torch.zeros(0, *SIZE, dtype=torch.bool))
    metrics = evaluate(nothing, instance_ids(man=(24000, small)))
    assert math.isnan(metrics["cityscapes/AP"])


def test_an_empty_mask_is_no_false_alarm():
    masks = torch.stack([torch.zeros(SIZE, dtype=torch.bool), MAN])
    prediction = instances([PERSON, PERSON], [0.9, 0.8], masks)
    assert evaluate(prediction, instance_ids(man=(24000, MAN)))["cityscapes/AP"] == pytest.approx(
        100
    )


def test_the_panoptic_annotation_says_the_same_as_the_instance_ids():
    ids = instance_ids(man=(24000, MAN), group=(24, OTHER), void=(4, box(0, 60, 60, 96)))
    panoptic = PanopticMap(
        torch.where(ids == 4, 0, ids).int(),
        (
            Segment(7, 0, False),
            Segment(24000, PERSON, True),
            Segment(24, PERSON, True, is_crowd=True),
        ),
    )
    masks = torch.stack([OTHER, box(0, 65, 40, 90), box(0, 0, 20, 25), box(90, 60, 120, 90)])
    prediction = instances([PERSON] * 4, [0.9, 0.8, 0.7, 0.6], masks)
    evaluator = CityscapesInstanceEvaluator(Classes(19, names=["prompted, name"] * 19))
    evaluator.process(prediction, panoptic)
    assert evaluator.evaluate() == evaluate(prediction, ids)
    assert evaluator.evaluate()["cityscapes/AP"] > 50


def test_stuff_predictions_are_refused():
    with pytest.raises(ValueError, match="class id 0 is not a thing"):
        evaluate(instances([0], [0.9], MAN[None]), instance_ids())


def random_image(generator: np.random.Generator) -> tuple[Instances, torch.Tensor]:
    """Objects, groups, small objects, void, caravans; predictions that resemble them."""
    ids = torch.from_numpy(generator.choice([7, 8, 11, 4, 10], size=(6, 8))).repeat_interleave(
        16, 0
    )
    ids = ids.repeat_interleave(16, 1)
    masks, class_ids = [], []
    for number in range(generator.integers(2, 10)):
        label = int(generator.choice([24, 24, 26, 26, 33, 29]))
        x, y = generator.integers(0, 90, size=2)
        width, height = generator.integers(8, 50, size=2)
        region = box(x, y, x + width, y + height)
        ids[region] = label if generator.random() < 0.25 else label * 1000 + number
        for _ in range(generator.integers(0, 4)):
            masks.append(
                torch.roll(region, tuple(generator.integers(-2, 3, size=2).tolist()), (0, 1))
            )
            class_ids.append({24: 11, 26: 13, 33: 18, 29: 13}[label])
    scores = generator.random(len(masks)).round(1).tolist()
    shapes = torch.stack(masks) if masks else torch.zeros(0, *SIZE, dtype=torch.bool)
    return instances(class_ids, scores, shapes), ids


@pytest.fixture(scope="module")
def images() -> list[tuple[Instances, torch.Tensor]]:
    generator = np.random.default_rng(0)
    return [random_image(generator) for _ in range(30)]


@pytest.fixture
def numpy_as_the_package_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cityscapesscripts")
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)


@pytest.mark.usefixtures("numpy_as_the_package_knows_it")
def test_instance_metrics_are_those_of_the_package(images, tmp_path, monkeypatch):
    from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as package

    is_thing = [class_id >= 11 for class_id in range(19)]
    writer = CityscapesInstances(tmp_path, labels=LABEL_OF_CLASS, is_thing=is_thing)
    predictions, annotations = [], []
    for index, (prediction, ids) in enumerate(images):
        sample = Sample(torch.zeros(3, *SIZE), str(index), "")
        writer.write(Result(instances=prediction), sample)
        predictions.append(str(tmp_path / "instances" / f"{index}.txt"))
        annotations.append(str(tmp_path / f"{index}_gtFine_instanceIds.png"))
        Image.fromarray(ids.numpy().astype(np.uint16)).save(annotations[-1])
    arguments = SimpleNamespace(**vars(package.args))
    arguments.predictionPath = str(tmp_path / "instances")
    arguments.gtInstancesFile = str(tmp_path / "instances.json")
    arguments.JSONOutput, arguments.quiet = False, True
    # It writes a record of all matches into the working folder, and fails at NumPy's integers.
    monkeypatch.setattr(package, "writeDict2JSON", lambda *_: None)
    expected = package.evaluateImgLists(predictions, annotations, arguments)["averages"]

    evaluator = CityscapesInstanceEvaluator()
    for image in images:
        evaluator.process_instance_ids(*image)
    metrics = evaluator.evaluate()
    assert 10 < metrics["cityscapes/AP"] < 80
    assert metrics["cityscapes/AP"] == pytest.approx(100 * expected["allAp"], abs=1e-9)
    assert metrics["cityscapes/AP50"] == pytest.approx(100 * expected["allAp50%"], abs=1e-9)
    person = evaluator.per_class()[0]["AP"]
    assert person == pytest.approx(100 * expected["classes"]["person"]["ap"], abs=1e-9)


def labels_and_things(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, PanopticMap]:
    """Label ids, train ids (255 for what is not evaluated) and the panoptic map of instance ids."""
    label_ids = torch.where(ids >= 1000, ids // 1000, ids)
    train_ids = torch.full_like(ids, 255)
    for class_id, label in enumerate(LABEL_OF_CLASS):
        train_ids[label_ids == label] = class_id
    evaluated = train_ids != 255
    segments = []
    for value in ids[evaluated].unique().tolist():
        class_id = LABEL_OF_CLASS.index(value // 1000 if value >= 1000 else value)
        segments.append(
            Segment(value, class_id, class_id >= 11, class_id >= 11 and value < 1000, 1)
        )
    return label_ids, train_ids, PanopticMap(torch.where(evaluated, ids, 0).int(), tuple(segments))


@pytest.mark.usefixtures("numpy_as_the_package_knows_it")
def test_semantic_metrics_are_those_of_the_package(images, tmp_path, monkeypatch):
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as package

    generator = np.random.default_rng(1)
    evaluator = CityscapesSemanticEvaluator()
    predictions, annotations = [], []
    for index, (_, ids) in enumerate(images):
        label_ids, train_ids, objects = labels_and_things(ids)
        noise = torch.from_numpy(generator.choice([0, 5, 11, 12, 13, 16], size=SIZE))
        right = torch.from_numpy(generator.random(SIZE) < 0.7) & (train_ids != 255)
        prediction = torch.where(right, train_ids, noise)
        evaluator.process(prediction, train_ids, objects)
        as_labels = torch.tensor(LABEL_OF_CLASS)[prediction]
        predictions.append(str(tmp_path / f"{index}_pred.png"))
        annotations.append(str(tmp_path / f"{index}_gtFine_labelIds.png"))
        Image.fromarray(as_labels.numpy().astype(np.uint8)).save(predictions[-1])
        Image.fromarray(label_ids.numpy().astype(np.uint8)).save(annotations[-1])
        instance_file = annotations[-1].replace("labelIds", "instanceIds")
        Image.fromarray(ids.numpy().astype(np.uint16)).save(instance_file)
    arguments = SimpleNamespace(**vars(package.args))
    arguments.JSONOutput, arguments.quiet = False, True
    expected = package.evaluateImgLists(predictions, annotations, arguments)
    metrics = evaluator.evaluate()
    for name, theirs in (
        ("IoU", "averageScoreClasses"),
        ("iIoU", "averageScoreInstClasses"),
        ("category_IoU", "averageScoreCategories"),
        ("category_iIoU", "averageScoreInstCategories"),
    ):
        assert 0 < metrics[f"cityscapes/{name}"] < 100
        assert metrics[f"cityscapes/{name}"] == pytest.approx(100 * expected[theirs], abs=1e-9), (
            name
        )


def test_labels_sizes_and_categories_are_those_of_the_package():
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    trained = {label.trainId: label for label in labels if not label.ignoreInEval}
    assert [trained[k].id for k in range(19)] == list(LABEL_OF_CLASS)
    things = {label.id: label.trainId for label in trained.values() if label.hasInstances}
    assert things == cityscapes._THING_OF_LABEL
    void = {label.id for label in labels if label.ignoreInEval and label.id >= 0}
    assert void == set(cityscapes._VOID_LABELS)
    categories = [cityscapes._CATEGORIES[k] for k in cityscapes._CATEGORY]
    assert categories == [trained[k].category for k in range(19)]


@pytest.mark.parametrize("split", [0, 11, 30])
def test_splitting_the_stream_and_merging_equals_one_stream(images, split: int):
    whole, first, second = (CityscapesInstanceEvaluator() for _ in range(3))
    pixels, left, right = (CityscapesSemanticEvaluator() for _ in range(3))
    for index, (prediction, ids) in enumerate(images):
        whole.process_instance_ids(prediction, ids)
        (first if index < split else second).process_instance_ids(prediction, ids)
        _, train_ids, objects = labels_and_things(ids)
        guess = torch.where(train_ids == 255, 0, train_ids).roll(3, 0)
        pixels.process(guess, train_ids, objects)
        (left if index < split else right).process(guess, train_ids, objects)
    first.merge(second.state_dict())
    left.merge(right.state_dict())
    np.testing.assert_equal(first.evaluate(), whole.evaluate())
    for name, value in pixels.evaluate().items():
        assert left.evaluate()[name] == pytest.approx(value, nan_ok=True), name


def test_runs_of_equal_ids_count_every_pixel_once() -> None:
    ids = torch.tensor([[7, 7, 26001], [26001, 7, 0]])
    values, of_pixel, pixels = equal_runs(ids)
    assert values.tolist() == [0, 7, 26001]
    assert values[of_pixel].reshape(2, 3).tolist() == ids.tolist()
    assert pixels.tolist() == [1, 3, 2]
