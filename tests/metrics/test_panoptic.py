import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frozenseg.metrics import Classes, PanopticEvaluator
from frozenseg.metrics.panoptic import count_matches
from frozenseg.structures import PanopticMap, Segment

GOLDEN = Path(__file__).parents[1] / "golden"
CAT, DOG, GRASS = 0, 1, 2
IS_THING = (True, True, False)
CLASSES = Classes(3, is_thing=IS_THING)


def panoptic_map(
    rows: list[str], classes: dict[int, int], crowd: tuple[int, ...] = ()
) -> PanopticMap:
    """Each character of ``rows`` is a segment id, '.' is void; ``classes`` are by segment id."""
    ids = torch.tensor([[0 if pixel == "." else int(pixel) for pixel in row] for row in rows])
    segments = tuple(
        Segment(k, class_id, IS_THING[class_id], is_crowd=k in crowd, area=int((ids == k).sum()))
        for k, class_id in classes.items()
    )
    return PanopticMap(ids.int(), segments)


def evaluate(prediction: PanopticMap, target: PanopticMap, **options) -> dict[str, float]:
    evaluator = PanopticEvaluator(Classes(len(IS_THING), is_thing=IS_THING, **options))
    evaluator.process(prediction, target)
    return evaluator.evaluate()


def per_class(prediction: PanopticMap, target: PanopticMap) -> list[dict]:
    evaluator = PanopticEvaluator(Classes(3, is_thing=IS_THING, names=("cat", "dog", "grass")))
    evaluator.process(prediction, target)
    return evaluator.per_class()


def counts(prediction: PanopticMap, target: PanopticMap, class_id: int) -> tuple[int, int, int]:
    row = count_matches(prediction, target, len(IS_THING))
    return tuple(
        row[f"{name}"][class_id]
        for name in ("true_positives", "false_positives", "false_negatives")
    )


def test_a_four_by_four_image_worked_by_hand():
    target = panoptic_map(["1122", "1122", "3333", "3333"], {1: CAT, 2: CAT, 3: GRASS})
    prediction = panoptic_map(["1123", "1123", "3333", "3333"], {1: CAT, 2: CAT, 3: GRASS})
    metrics = evaluate(prediction, target, seen=(True, True, False))
    # cat 1 is exact; cat 2 keeps 2 of 4 pixels, and IoU 1/2 is not enough: a miss and a false alarm
    assert metrics["panoptic/things/PQ"] == pytest.approx(100 * 1.0 / (1 + 0.5 + 0.5))
    assert metrics["panoptic/things/SQ"] == pytest.approx(100)
    assert metrics["panoptic/things/RQ"] == pytest.approx(50)
    assert metrics["panoptic/stuff/PQ"] == pytest.approx(
        100 * 8 / 10
    )  # 8 shared of 10 in the union
    assert metrics["panoptic/PQ"] == pytest.approx((50 + 80) / 2)  # no dog anywhere: not averaged
    assert metrics["panoptic/seen/PQ"] == pytest.approx(50)
    assert metrics["panoptic/unseen/PQ"] == pytest.approx(80)


def test_rows_name_the_class_and_its_counts():
    target = panoptic_map(["11", "22"], {1: CAT, 2: GRASS})
    prediction = panoptic_map(["11", "22"], {1: DOG, 2: GRASS})
    cat, dog, grass = per_class(prediction, target)
    assert (cat["name"], cat["PQ"], cat["false_negatives"]) == ("cat", 0.0, 1)
    assert (dog["name"], dog["PQ"], dog["false_positives"]) == ("dog", 0.0, 1)
    assert (grass["PQ"], grass["true_positives"], grass["things"]) == (100.0, 1, 0)


def test_pixels_on_void_leave_the_union():
    target = panoptic_map(["11..", "11.."], {1: CAT})
    prediction = panoptic_map(["111.", "111."], {1: CAT})
    assert evaluate(prediction, target)["panoptic/SQ"] == pytest.approx(100)


def test_a_false_alarm_mostly_on_void_is_forgiven():
    target = panoptic_map(["...11", "...11"], {1: CAT})
    mostly = panoptic_map([".2211", "..211"], {1: CAT, 2: DOG})
    assert counts(mostly, target, DOG) == (0, 0, 0)
    half = panoptic_map(["..221", "..221"], {1: CAT, 2: DOG})
    assert counts(half, target, DOG) == (0, 1, 0)  # exactly half on void is not more than half


def test_a_crowd_is_not_missed_and_forgives_its_own_class_only():
    target = panoptic_map(["1122", "1122"], {1: CAT, 2: GRASS}, crowd=(1,))
    assert counts(panoptic_map(["..22", "..22"], {2: GRASS}), target, CAT) == (0, 0, 0)
    inside = {1: CAT, 2: GRASS}
    assert counts(panoptic_map(["1122", "..22"], inside), target, CAT) == (0, 0, 0)
    assert counts(panoptic_map(["1122", "1122"], inside), target, CAT) == (0, 0, 0)
    inside[1] = DOG
    assert counts(panoptic_map(["1122", "..22"], inside), target, DOG) == (0, 1, 0)


def test_the_annotation_states_its_area_even_where_it_is_hidden():
    target = panoptic_map(["1122"], {1: CAT, 2: GRASS})
    taller = PanopticMap(target.ids, (target.segments[0]._replace(area=3), target.segments[1]))
    prediction = panoptic_map(["1122"], {1: CAT, 2: GRASS})
    assert evaluate(prediction, taller)["panoptic/things/SQ"] == pytest.approx(100 * 2 / 3)


def test_pixels_of_an_unlisted_annotated_id_are_not_void():
    target = panoptic_map(["1199"], {1: CAT})
    prediction = panoptic_map(["1111"], {1: CAT})
    assert counts(prediction, target, CAT) == (0, 1, 1)


def test_nothing_predicted_misses_everything():
    target = panoptic_map(["1122"], {1: CAT, 2: GRASS})
    metrics = evaluate(panoptic_map(["...."], {}), target)
    assert metrics["panoptic/PQ"] == metrics["panoptic/SQ"] == metrics["panoptic/RQ"] == 0


def test_nothing_annotated_forgives_everything_and_leaves_no_number():
    metrics = evaluate(panoptic_map(["1122"], {1: CAT, 2: GRASS}), panoptic_map(["...."], {}))
    assert all(np.isnan(value) for value in metrics.values())


def test_one_class_alone_is_its_own_average():
    evaluator = PanopticEvaluator(Classes(1, is_thing=(False,)))
    same = panoptic_map(["11"], {1: 0})
    evaluator.process(same, same)
    metrics = evaluator.evaluate()
    assert metrics["panoptic/PQ"] == metrics["panoptic/stuff/PQ"] == 100
    assert np.isnan(metrics["panoptic/things/PQ"])


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        (
            panoptic_map(["11"], {}),
            panoptic_map(["11"], {1: CAT}),
            "predicted id 1 has pixels but no segment",
        ),
        (
            panoptic_map([".."], {4: CAT}),
            panoptic_map(["11"], {1: CAT}),
            "predicted segment 4 has no pixel",
        ),
        (panoptic_map(["111"], {1: CAT}), panoptic_map(["11"], {1: CAT}), r"\(1, 3\).*\(1, 2\)"),
        (
            panoptic_map(["11"], {1: CAT}),
            PanopticMap(torch.ones(1, 2).int(), (Segment(1, CAT, True),)),
            "annotated segment 1 states no area",
        ),
        (
            PanopticMap(torch.ones(1, 2).int(), (Segment(1, 3, True),)),
            panoptic_map(["11"], {1: CAT}),
            "predicted class id 3 is not among the 3 classes",
        ),
    ],
)
def test_impossible_maps_are_reported(prediction, target, message: str):
    with pytest.raises(ValueError, match=message):
        evaluate(prediction, target)


@st.composite
def pairs_of_maps(draw) -> tuple[PanopticMap, PanopticMap]:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def random_map(num_ids: int) -> PanopticMap:
        blocks = random.integers(0, num_ids + 1, size=(4, 5)) * 1000003 % 65537
        ids = torch.from_numpy(blocks.repeat(2, axis=0).repeat(2, axis=1)).int()
        segments = tuple(
            Segment(
                k, int(random.integers(3)), True, bool(random.random() < 0.2), int((ids == k).sum())
            )
            for k in ids.unique().tolist()
            if k
        )
        return PanopticMap(ids, segments)

    target = random_map(draw(st.integers(0, 6)))
    if draw(st.booleans()):
        return random_map(draw(st.integers(0, 6))), target
    noise = torch.from_numpy(random.random(target.ids.shape) < 0.2)
    ids = torch.where(noise, 0, target.ids)
    kept = set(ids.unique().tolist())
    return PanopticMap(ids, tuple(s for s in target.segments if s.id in kept)), target


def counts_segment_by_segment(
    prediction: PanopticMap, target: PanopticMap
) -> dict[str, np.ndarray]:
    """The definition, as slowly as it reads."""
    names = ("iou_sum", "true_positives", "false_positives", "false_negatives")
    found = {name: np.zeros(3) for name in names}
    matched_targets, matched_predictions = set(), set()
    void = target.ids == 0
    for annotated in target.segments:
        for predicted in prediction.segments:
            own, other = target.ids == annotated.id, prediction.ids == predicted.id
            if annotated.is_crowd or annotated.class_id != predicted.class_id:
                continue
            shared = int((own & other).sum())
            iou = shared / (annotated.area + int((other & ~void).sum()) - shared)
            if iou > 0.5:
                found["iou_sum"][annotated.class_id] += iou
                found["true_positives"][annotated.class_id] += 1
                matched_targets.add(annotated.id)
                matched_predictions.add(predicted.id)
    for annotated in target.segments:
        if not annotated.is_crowd and annotated.id not in matched_targets:
            found["false_negatives"][annotated.class_id] += 1
    for predicted in prediction.segments:
        if predicted.id in matched_predictions:
            continue
        crowds = [s for s in target.segments if s.is_crowd and s.class_id == predicted.class_id]
        forgiven = void | (target.ids == crowds[-1].id) if crowds else void
        pixels = prediction.ids == predicted.id
        if int((pixels & forgiven).sum()) <= 0.5 * int(pixels.sum()):
            found["false_positives"][predicted.class_id] += 1
    return found


@given(pairs_of_maps())
@settings(max_examples=100, deadline=None)
def test_counts_are_those_of_a_loop_over_segments(maps):
    expected = counts_segment_by_segment(*maps)
    found = count_matches(*maps, num_classes=3)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12, err_msg=name)


@given(pairs_of_maps(), st.integers(1, 2**20))
@settings(max_examples=50, deadline=None)
def test_renaming_and_reordering_segments_changes_nothing(maps, offset: int):
    def renamed(panoptic: PanopticMap) -> PanopticMap:
        ids = torch.where(panoptic.ids > 0, panoptic.ids + offset, 0)
        # The order of crowds is part of the rules, so only the order of others may change.
        ordered = sorted(panoptic.segments, key=lambda s: (s.is_crowd, 0 if s.is_crowd else -s.id))
        return PanopticMap(ids, tuple(s._replace(id=s.id + offset) for s in ordered))

    plain = count_matches(*maps, num_classes=3)
    changed = count_matches(*(renamed(each) for each in maps), num_classes=3)
    for name, values in plain.items():
        np.testing.assert_allclose(changed[name], values, rtol=1e-12, err_msg=name)


@given(pairs_of_maps())
@settings(max_examples=50, deadline=None)
def test_a_perfect_prediction_scores_100(maps):
    target = maps[1]
    crowds = {segment.id for segment in target.segments if segment.is_crowd}
    ids = torch.where(
        torch.isin(target.ids, torch.tensor(sorted(crowds), dtype=torch.int32)), 0, target.ids
    )
    perfect = PanopticMap(ids, tuple(s for s in target.segments if not s.is_crowd))
    metrics = evaluate(perfect, target)
    for name, value in metrics.items():
        assert np.isnan(value) or value == 100, name
    assert np.isnan(metrics["panoptic/PQ"]) == (not perfect.segments)


@given(st.lists(pairs_of_maps(), min_size=1, max_size=5), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_splitting_the_stream_and_merging_equals_one_stream(images, cut: int):
    whole, first, second = (PanopticEvaluator(CLASSES) for _ in range(3))
    for index, maps in enumerate(images):
        whole.process(*maps)
        (first if index < cut else second).process(*maps)
    first.merge(second.state_dict())
    for name, value in whole.evaluate().items():
        assert first.evaluate()[name] == pytest.approx(value, nan_ok=True), name


def test_a_state_is_a_copy():
    evaluator = PanopticEvaluator(CLASSES)
    state = evaluator.state_dict()
    same = panoptic_map(["11"], {1: CAT})
    evaluator.process(same, same)
    assert state["true_positives"].sum() == 0


def test_counts_of_another_vocabulary_are_refused():
    with pytest.raises(ValueError, match="same evaluator and vocabulary"):
        PanopticEvaluator(CLASSES).merge(
            PanopticEvaluator(Classes(1, is_thing=(True,))).state_dict()
        )


def test_flags_of_another_number_of_classes_are_refused():
    with pytest.raises(ValueError, match="3 classes but 2 'seen' flags"):
        Classes(3, is_thing=IS_THING, seen=(True, False))


@pytest.mark.golden
def test_quality_agrees_with_panopticapi():
    facts = json.loads((GOLDEN / "pq.json").read_text())
    categories = facts["categories"]
    class_ids = {category["id"]: k for k, category in enumerate(categories)}
    is_thing = [bool(category["isthing"]) for category in categories]

    def read(ids: np.ndarray, segments: list[dict]) -> PanopticMap:
        records = []
        for segment in segments:
            class_id = class_ids[segment["category_id"]]
            crowd, area = bool(segment.get("iscrowd", 0)), segment.get("area", 0)
            records.append(Segment(segment["id"], class_id, is_thing[class_id], crowd, area))
        return PanopticMap(torch.from_numpy(ids), tuple(records))

    evaluator = PanopticEvaluator(Classes(len(is_thing), is_thing=is_thing))
    with np.load(GOLDEN / "pq.npz") as arrays:
        for i, (predicted, annotated) in enumerate(
            zip(facts["pred_annotations"], facts["gt_annotations"], strict=True)
        ):
            evaluator.process(
                read(arrays[f"pred_{i}"], predicted["segments_info"]),
                read(arrays[f"gt_{i}"], annotated["segments_info"]),
            )
    metrics = evaluator.evaluate()
    for group, prefix in (
        ("All", "panoptic"),
        ("Things", "panoptic/things"),
        ("Stuff", "panoptic/stuff"),
    ):
        for measure in ("PQ", "SQ", "RQ"):
            expected = 100 * facts["results"][group][measure.lower()]
            assert metrics[f"{prefix}/{measure}"] == pytest.approx(expected, abs=1e-9)
    for row, category in zip(evaluator.per_class(), categories, strict=True):
        expected = 100 * facts["results"]["per_class"][str(category["id"])]["pq"]
        absent = row["true_positives"] + row["false_positives"] + row["false_negatives"] == 0
        assert np.isnan(row["PQ"]) if absent else row["PQ"] == pytest.approx(expected, abs=1e-9)
