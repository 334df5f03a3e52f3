import csv
import json
from pathlib import Path

import pytest
from rich.console import Console

from frozenseg.errors import UserError
from frozenseg.metrics import metrics_table, write_report

METRICS = {
    "panoptic/PQ": 45.678,
    "panoptic/things/PQ": 50.0,
    "panoptic/unseen/PQ": float("nan"),
    "semantic/mIoU": 33.333,
}


def printed(metrics: dict[str, float]) -> list[list[str]]:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(metrics_table(metrics))
    lines = console.export_text().splitlines()
    return [
        line.strip("│┃ ").replace("┃", "│").split("│")
        for line in lines
        if "│" in line or "┃" in line
    ]


def test_the_table_has_measures_in_rows_and_groups_in_columns():
    header, quality, miou = ([cell.strip() for cell in row] for row in printed(METRICS))
    assert header == ["task", "measure", "all", "things", "unseen"]
    assert quality == ["panoptic", "PQ", "45.68", "50.00", "-"]
    assert miou[:3] == ["semantic", "mIoU", "33.33"]


def test_metrics_are_written_sorted_in_percent_with_null_for_undefined(tmp_path: Path):
    write_report(tmp_path / "new" / "folder", METRICS, {})
    text = (tmp_path / "new" / "folder" / "metrics.json").read_text()
    assert list(json.loads(text)) == sorted(METRICS)
    assert json.loads(text) == METRICS | {"panoptic/unseen/PQ": None}


def test_each_task_gets_its_classes_as_a_table(tmp_path: Path):
    rows = [
        {"class_id": 0, "name": "traffic light, lamp", "PQ": 12.5},
        {"class_id": 1, "name": "Straße", "PQ": float("nan")},
    ]
    write_report(tmp_path, METRICS, {"panoptic": rows, "semantic": []})
    with (tmp_path / "per_class_panoptic.csv").open(encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert first == {"class_id": "0", "name": "traffic light, lamp", "PQ": "12.5"}
    assert (second["name"], second["PQ"]) == ("Straße", "")


def test_a_failed_write_leaves_the_old_report_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_report(tmp_path, METRICS, {})
    before = (tmp_path / "metrics.json").read_text()

    def fail(self: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UserError, match="disk full"):
        write_report(tmp_path, {"panoptic/PQ": 1.0}, {})
    assert (tmp_path / "metrics.json").read_text() == before
