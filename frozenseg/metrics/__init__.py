"""Quality measures: pure functions for the arithmetic, thin classes that accumulate over images."""

from frozenseg.metrics.cityscapes import (
    CityscapesInstanceEvaluator,
    CityscapesSemanticEvaluator,
)
from frozenseg.metrics.evaluator import Classes, Evaluator, Row, State
from frozenseg.metrics.instance import InstanceAnnotation, InstanceEvaluator
from frozenseg.metrics.lvis import LvisEvaluator
from frozenseg.metrics.panoptic import PanopticEvaluator
from frozenseg.metrics.recall import RecallEvaluator
from frozenseg.metrics.report import metrics_table, write_report
from frozenseg.metrics.semantic import SemanticEvaluator

__all__ = [
    "CityscapesInstanceEvaluator",
    "CityscapesSemanticEvaluator",
    "Classes",
    "Evaluator",
    "InstanceAnnotation",
    "InstanceEvaluator",
    "LvisEvaluator",
    "PanopticEvaluator",
    "RecallEvaluator",
    "Row",
    "SemanticEvaluator",
    "State",
    "metrics_table",
    "write_report",
]
