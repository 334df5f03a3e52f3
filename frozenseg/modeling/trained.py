"""The proposers that are trained."""

from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.modeling.maskformer.maskformer import MaskFormer

TrainedProposer = FrozenSeg | MaskFormer
