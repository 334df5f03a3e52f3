"""How good a segmentation is: arithmetic in functions, accumulation in thin classes."""

from frozenseg.metrics.cityscapes import (
    CityscapesInstanceEvaluator,
    CityscapesSemanticEvaluator,
)
from frozenseg.metrics.evaluator import Evaluator, Row, State
from frozenseg.metrics.instance import InstanceAnnotation, InstanceEvaluator
from frozenseg.metrics.lvis import LvisEvaluator
from frozenseg.metrics.panoptic import PanopticEvaluator
from frozenseg.metrics.recall import RecallEvaluator
from frozenseg.metrics.report import metrics_table, write_report
from frozenseg.metrics.semantic import SemanticEvaluator

__all__ = [
    "CityscapesInstanceEvaluator",
    "CityscapesSemanticEvaluator",
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
