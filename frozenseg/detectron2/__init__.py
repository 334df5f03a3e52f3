"""Model, data sets, evaluators and training of this project behind Detectron2's interfaces.

The import registers everything, as Detectron2 expects of its projects:

>>> import frozenseg.detectron2
>>> cfg = detectron2.config.get_cfg()
>>> frozenseg.detectron2.add_frozenseg_config(cfg)
>>> model = detectron2.modeling.build_model(cfg)

No other package imports Detectron2, and all its functions also work without it.
"""

# ruff: noqa: E402 (the check for Detectron2 comes before the imports that need it)

from importlib.util import find_spec

from frozenseg.errors import UserError


class MissingDetectron2(UserError, ImportError):
    """Detectron2 is needed but not installed."""


if find_spec("detectron2") is None:
    raise MissingDetectron2(
        "Detectron2 is not installed: pip install --no-build-isolation "
        "'git+https://github.com/facebookresearch/detectron2.git', or choose --engine native, "
        "which gives the same results without it"
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
