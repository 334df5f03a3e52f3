"""Results as pandas tables and as detections of the library supervision."""

import sys

import numpy as np
import pytest

from frozenseg.errors import UserError
from tests.inference.test_segmentation import instances, panoptic, semantic


def test_a_table_has_one_row_per_segment() -> None:
    pytest.importorskip("pandas")
    table = panoptic().to_pandas()
    assert table.name.tolist() == ["grass", "cat"] and table.area.tolist() == [350, 50]
    assert table.is_thing.tolist() == [False, True] and table.id.tolist() == [7, 3]
    assert table.loc[1, ["x0", "y0", "x1", "y1"]].tolist() == [10, 5, 20, 10]
    assert semantic().to_pandas().score.isna().all()
    assert list(panoptic().above(0.99).to_pandas().columns) == list(table.columns)


def test_detections_hold_masks_boxes_and_names() -> None:
    supervision = pytest.importorskip("supervision")
    found = instances()
    detections = found.to_supervision()
    assert isinstance(detections, supervision.Detections) and len(detections) == 3
    assert detections.area.tolist() == [20, 540, 0], "the library counts the masks itself"
    assert detections["class_name"].tolist() == ["tree", "cat", "cat"]
    assert detections[detections.confidence >= 0.5].class_id.tolist() == [2, 0]
    assert np.array_equal(detections.xyxy[0], [0, 0, 5, 4])
    assert semantic().to_supervision().confidence is None
    assert len(panoptic().above(0.99).to_supervision()) == 0


@pytest.mark.parametrize("name", ["pandas", "supervision"])
def test_a_missing_library_is_one_sentence_with_the_command(monkeypatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"needs the package {name}.*'frozenseg\[{name}\]'"):
        getattr(panoptic(), f"to_{name}")()
