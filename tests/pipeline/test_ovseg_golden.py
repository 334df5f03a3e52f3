"""OVSeg's second stage against the official outputs, array by array."""

import json

import numpy as np
import pytest
from reference_checks.ovseg import INPUTS, check_ovseg


@pytest.mark.golden
def test_every_recorded_array_is_ours(golden) -> None:
    case = json.loads((golden / "ovseg_second_stage.json").read_text())
    with np.load(golden / "ovseg_second_stage.npz") as arrays:
        rows = check_ovseg(case, dict(arrays))
    assert {row.name for row in rows} == set(case["arrays"])
    verdicts = {row.name: row.verdict for row in rows if row.name not in INPUTS}
    assert set(verdicts.values()) == {"pass"}, [row for row in rows if row.verdict != "pass"]
