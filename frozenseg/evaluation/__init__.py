"""How good a segmentation is: arithmetic in functions, accumulation in thin classes."""

from frozenseg.evaluation.cityscapes import (
    CityscapesInstanceEvaluator,
    CityscapesSemanticEvaluator,
)
from frozenseg.evaluation.evaluator import Evaluator, Row, State
from frozenseg.evaluation.instance import InstanceAnnotation, InstanceEvaluator
from frozenseg.evaluation.lvis import LvisEvaluator
from frozenseg.evaluation.panoptic import PanopticEvaluator
from frozenseg.evaluation.recall import RecallEvaluator
from frozenseg.evaluation.report import metrics_table, write_report
from frozenseg.evaluation.semantic import SemanticEvaluator

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
