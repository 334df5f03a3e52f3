"""This project's evaluators behind Detectron2's evaluator interface."""

from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from frozenseg.builders.scoring import build_evaluators
from frozenseg.data.catalog import dataset_name
from frozenseg.detectron2.records import Entry, result_of
from frozenseg.evaluation.evaluators import EvaluatorSpec
from frozenseg.io.writing import optional_file
from frozenseg.metrics import write_report


class EvaluatorsAdapter(DatasetEvaluator):
    """This project's evaluators of one data set, fed with the output of a Detectron2 model.

    Args:
        specs: the evaluators.
        folder: for ``metrics.json`` and a table of classes per task; None: write no file.
    """

    def __init__(self, specs: Sequence[EvaluatorSpec], *, folder: Path | None = None) -> None:
        self.specs, self.folder = specs, folder
        self.reset()

    def reset(self) -> None:
        self.evaluators = {spec.name: spec.make() for spec in self.specs}

    def process(self, inputs: list[Entry], outputs: list[Entry]) -> None:
        """Adds a batch; each input holds its annotation as ``sample`` (see ``TestMapper``)."""
        for entry, output in zip(inputs, outputs, strict=True):
            result = result_of(output)
            for spec in self.specs:
                spec.feed(self.evaluators[spec.name], result, entry["sample"])

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Returns ``{"panoptic": {"PQ": ...}}`` in the main process, else None. Collective."""
        states = comm.gather({task: each.state_dict() for task, each in self.evaluators.items()})
        if not comm.is_main_process():
            return None
        metrics: dict[str, float] = {}
        for task, evaluator in self.evaluators.items():
            for state in states[1:]:
                evaluator.merge(state[task])
            metrics |= evaluator.evaluate()
        if self.folder is not None:
            rows = {task: evaluator.per_class() for task, evaluator in self.evaluators.items()}
            with optional_file("the report of the evaluation"):
                write_report(self.folder, metrics, rows)
        return _by_task(metrics)


def build_evaluator(cfg: CfgNode, name: str) -> EvaluatorsAdapter:
    """Returns the evaluators of a data set, which report below ``OUTPUT_DIR``."""
    folder = Path(cfg.OUTPUT_DIR) / "inference" / dataset_name(name)
    return EvaluatorsAdapter(build_evaluators(cfg, name), folder=folder)


def _by_task(metrics: dict[str, float]) -> dict[str, dict[str, float]]:
    results: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        task, measure = name.split("/", 1)
        results.setdefault(task, {})[measure] = value
    return results
