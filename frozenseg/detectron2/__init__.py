"""This project's model, data, evaluators and training behind Detectron2's interfaces.

Importing this registers everything, as Detectron2 expects of its projects:

>>> import frozenseg.detectron2
>>> cfg = detectron2.config.get_cfg()
>>> frozenseg.detectron2.add_frozenseg_config(cfg)
>>> model = detectron2.modeling.build_model(cfg)

It is the only package that imports Detectron2; all of it also runs without.
"""

# ruff: noqa: E402 (a missing Detectron2 is explained before anything needs it)

from importlib.util import find_spec

from frozenseg.errors import UserError


class MissingDetectron2(UserError, ImportError):
    """Detectron2 was asked for and is not there."""


if find_spec("detectron2") is None:
    raise MissingDetectron2(
        "Detectron2 is not installed: pip install --no-build-isolation "
        "'git+https://github.com/facebookresearch/detectron2.git', or choose --engine native, "
        "which trains and evaluates the same without it"
    )

from frozenseg.detectron2.backbone import CLIP
from frozenseg.detectron2.config import add_frozenseg_config, detectron2_config
from frozenseg.detectron2.evaluation import EvaluatorsAdapter, build_evaluator
from frozenseg.detectron2.mapper import TestMapper, TrainMapper
from frozenseg.detectron2.model import FCCLIP, FrozenSeg
from frozenseg.detectron2.run import run
from frozenseg.detectron2.trainer import Trainer

__all__ = [
    "CLIP",
    "FCCLIP",
    "EvaluatorsAdapter",
    "FrozenSeg",
    "MissingDetectron2",
    "TestMapper",
    "TrainMapper",
    "Trainer",
    "add_frozenseg_config",
    "build_evaluator",
    "detectron2_config",
    "run",
]
