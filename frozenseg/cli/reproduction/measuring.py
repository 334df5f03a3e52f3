"""Evaluations with stored results."""

import hashlib
import statistics
from pathlib import Path

from fvcore.common.config import CfgNode

from frozenseg.builders.evaluation import evaluate_dataset, save_report
from frozenseg.builders.fingerprints import config_digest
from frozenseg.builders.options import RunOptions
from frozenseg.builders.segmenter import build_segmenter
from frozenseg.io.records import sound_record, write_record

Metrics = dict[str, float]
RECORD = "measured.json"  # all metrics with their digest, beside the report


def measured(cfg: CfgNode, name: str, folder: Path, *, limit: int | None = None) -> Metrics:
    """Evaluates the model of a configuration on a registered data set; results in percent.

    The report is stored below ``folder``, under a digest of the configuration, the content of the
    weights and the number of images. Stored results are read, damaged ones are measured again, and
    interrupted evaluations resume.

    Args:
        cfg: the configuration, with its weights.
        name: a registered data set.
        folder: all reports are stored below it.
        limit: evaluate only the first images.
    """
    place = folder / f"{name}-{_digest(cfg, limit)}"
    found = sound_record(place / RECORD)
    if found is None:
        options = RunOptions(resume=True, limit=limit)
        report = evaluate_dataset(cfg, build_segmenter(cfg), name, place, options)
        save_report(report, place)
        found = dict(report.metrics)
        write_record(place / RECORD, found)
    return found


def spread(values: list[float]) -> str:
    """Mean and sample standard deviation."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _digest(cfg: CfgNode, limit: int | None) -> str:
    cfg = cfg.clone()
    cfg.defrost()
    weights, cfg.MODEL.WEIGHTS = cfg.MODEL.WEIGHTS, ""  # identified by its content, not its path
    content = f"{config_digest(cfg)} {_content(weights)} {limit}"
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _content(path: str) -> str:
    if not path:
        return ""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
