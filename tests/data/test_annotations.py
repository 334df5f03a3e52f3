"""Every value of an annotation file is checked; no unchecked input reaches pycocotools."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from frozenseg.data.annotations.categories import check_categories, read_categories
from frozenseg.data.annotations.faults import BadEntry, Faults
from frozenseg.data.annotations.fields import flag, identity, stated_size, whole_number
from frozenseg.data.annotations.geometry import check_mask, decode_mask
from frozenseg.data.annotations.run_lengths import decode_run_lengths
from frozenseg.data.classes import builtin_classes
from frozenseg.errors import UserError

SQUARE = [10, 30, 35, 30, 35, 71, 10, 71]  # 25 x 41 pixels
SIZE = (96, 128)


def test_polygons_are_drawn() -> None:
    mask = decode_mask([SQUARE], SIZE)
    assert mask.shape == SIZE and mask.dtype == bool and mask.sum() == 25 * 41
    assert mask[30:71, 10:35].all()
    assert decode_mask([SQUARE, [60, 0, 64, 0, 64, 4, 60, 4]], SIZE).sum() == 25 * 41 + 16


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "no polygon"),
        ([[]], "0 points"),
        ([[10, 30]], "1 points"),
        ([[10, 30, 34, 70]], "2 points"),
        ([SQUARE, [50, 50, 60, 60]], "2 points"),
        (SQUARE, "not nested"),
        ([SQUARE[:7]], "7 coordinates"),
        ([[[10, 30], [35, 30], [35, 71]]], "finite"),
        ([[0, 0, float("nan"), 1, 2, 2]], "finite"),
        ([[0, 0, float("inf"), 1, 2, 2]], "finite"),
        ([[0, 0, "1", 1, 2, 2]], "finite"),
        ([[0, 0, True, 1, 2, 2]], "finite"),
        ([[0, 0, 1e9, 1, 2, 2]], "x = 1000000000.0, far outside"),
        ([[0, 0, 3, -300, 2, 2]], "y = -300, far outside"),
        (None, "must have polygons"),
        ("x", "must have polygons"),
        ({"size": [96, 128]}, "must have polygons"),
        ({"size": [128, 96], "counts": [12288]}, r"size \[128, 96\] in an image of 96 x 128"),
        ({"size": None, "counts": [12288]}, "size None"),
        ({"size": [96, 128], "counts": None}, "integers or a string"),
        ({"size": [96, 128], "counts": [1.0]}, "integers or a string"),
        ({"size": [96, 128], "counts": [12289]}, "outside 0..12288"),
        ({"size": [96, 128], "counts": [-1, 12289]}, "outside 0..12288"),
        ({"size": [96, 128], "counts": [12287]}, "12287 pixels in an image of 12288"),
        ({"size": [96, 128], "counts": [10**30]}, "64 bits"),
        ({"size": [96, 128], "counts": []}, "0 pixels"),
        ({"size": [96, 128], "counts": ""}, "0 pixels"),
        ({"size": [96, 128], "counts": "\u00e9"}, "not ASCII"),
        ({"size": [96, 128], "counts": "\x01"}, "damaged"),
        ({"size": [96, 128], "counts": "P"}, "damaged"),  # promises another character
        ({"size": [96, 128], "counts": "o" * 60 + "0"}, "35 bits"),
    ],
)
def test_masks_with_a_fault_are_refused(segmentation, message: str) -> None:
    with pytest.raises(BadEntry, match=message):
        check_mask(segmentation, SIZE)
    with pytest.raises(UserError, match=message):
        decode_mask(segmentation, SIZE)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32), st.integers(1, 8))
def test_run_lengths_are_decoded_as_pycocotools_does(
    height: int, width: int, seed: int, grain: int
) -> None:
    values = np.random.default_rng(seed).random((height, width)) < 0.4
    values = np.kron(values, np.ones((grain, 1), dtype=bool))
    runs = coco_mask.encode(np.asfortranarray(values.astype(np.uint8)))
    text = {"size": list(values.shape), "counts": runs["counts"].decode()}
    assert np.array_equal(decode_run_lengths(text, values.shape), values)
    flat = values.T.ravel()
    ends = np.flatnonzero(np.append(flat[1:] != flat[:-1], True)) + 1
    counts = [0] * int(flat[0]) + np.diff([0, *ends]).tolist()
    plain = {"size": list(values.shape), "counts": counts}
    assert np.array_equal(decode_run_lengths(plain, values.shape), values)


SHAPELESS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=8)
        | st.dictionaries(st.sampled_from(["size", "counts", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(SHAPELESS | st.builds(lambda text: {"size": [4, 6], "counts": text}, st.text(max_size=12)))
def test_any_json_is_a_mask_or_one_sentence(segmentation) -> None:
    try:
        assert decode_mask(segmentation, (4, 6)).shape == (4, 6)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 400


def test_fields_say_what_they_expect() -> None:
    assert whole_number({"a": 3}, "a", low=0, high=3) == 3
    assert flag({}, "iscrowd") is False and flag({"iscrowd": 1}, "iscrowd") is True
    assert identity({"id": "x"}, "id") == "x"
    assert stated_size({}) is None and stated_size({"height": 2, "width": 3}) == (2, 3)
    for wrong in (True, "3", 3.0, None, 4, -1):
        with pytest.raises(BadEntry, match="'a' from 0 to 3"):
            whole_number({"a": wrong}, "a", low=0, high=3)
    for wrong in ("0", 2, None, [], 0.5):
        with pytest.raises(BadEntry, match="0 or 1 as 'iscrowd'"):
            flag({"iscrowd": wrong}, "iscrowd")
    for wrong in (True, "", None, 1.0, []):
        with pytest.raises(BadEntry, match="number or text as 'id'"):
            identity({"id": wrong}, "id")
    with pytest.raises(BadEntry, match="no 'width'"):
        stated_size({"height": 2})


def test_faults_are_raised_or_collected() -> None:
    def read(faults: Faults) -> None:
        for place in range(3):
            with faults.entry(f"annotations[{place}]"):
                if place:
                    raise BadEntry("has no 'id'")

    with pytest.raises(
        UserError, match=r"^x\.json: annotations\[1\] has no 'id'; fix .*--skip-bad"
    ):
        read(Faults(Path("x.json")))
    faults = Faults(Path("x.json"), collect=True)
    read(faults)
    assert faults.found == [f"x.json: annotations[{k}] has no 'id'" for k in (1, 2)]


class TestCategories:
    """The file's categories against the class list of a registered name."""

    COCO = builtin_classes("coco_panoptic")

    def check(self, *categories: dict, **options) -> None:
        read = read_categories({"categories": list(categories)}, path=Path("x.json"))
        check_categories(read, self.COCO, path=Path("x.json"), **options)

    def test_a_part_of_the_list_under_any_known_spelling_passes(self) -> None:
        self.check(
            {"id": 1, "name": "Person", "isthing": 1},
            {"id": 3, "name": "automobile"},  # a synonym
            {"id": 187, "name": "sky_other_merged", "isthing": 0},
        )
        check_categories((), self.COCO, path=Path("x.json"))
        self.check({"id": 5000, "name": "unlabeled"}, void=(5000,))
        self.check({"id": 0, "name": "person"}, contiguous=True)

    @pytest.mark.parametrize(
        ("category", "difference"),
        [
            ({"id": 1, "name": "crack"}, "id 1 is 'crack' in the file, 'person' in the list"),
            ({"id": 12, "name": "person"}, "id 12 is 'person' in the file and no class"),
            ({"id": 1, "name": "person", "isthing": 0}, "'person' is stuff in the file, thing in"),
        ],
    )
    def test_differences_are_listed(self, category: dict, difference: str) -> None:
        with pytest.raises(UserError, match=difference):
            self.check(category)

    @pytest.mark.parametrize(
        ("categories", "message"),
        [
            ({}, "must be a list"),
            ([None], r"categories\[0\] must be an object"),
            ([{"id": 1}], r"categories\[0\] has no 'name'"),
            ([{"id": -1, "name": "a"}], "'id' from 0"),
            ([{"id": 1, "name": " "}], "text as 'name'"),
            ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "two categories have the id 1"),
            ([{"id": 1, "name": "a"}, {"id": 2, "name": "a"}], "two categories have the name 'a'"),
        ],
    )
    def test_broken_categories_are_refused(self, categories, message: str) -> None:
        with pytest.raises(UserError, match=rf"x\.json: .*{message}"):
            read_categories({"categories": categories}, path=Path("x.json"))


def test_the_corpus_of_hostile_run_lengths_stays_refused() -> None:
    """Inputs that killed the process, or hung it, before they were checked."""
    for text in (
        '{"size": [1048576, 1048576], "counts": [0, 1]}',
        '{"size": [4, 6], "counts": "oooooooo0"}',
        '{"size": [4, 6], "counts": [4294967295, 1]}',
        '{"size": [0, 0], "counts": ""}',
        '{"size": [4, 6], "counts": "' + "1" * 100 + '"}',
    ):
        with pytest.raises(UserError):
            decode_mask(json.loads(text), (4, 6))
