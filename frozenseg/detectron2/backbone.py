"""The frozen CLIP tower as a Detectron2 backbone, usable in other architectures too."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor

from frozenseg.builders.clips import clip_keys
from frozenseg.towers.loading import load_clip

STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}


@BACKBONE_REGISTRY.register()
class CLIP(Backbone):
    """Maps ``res2`` to ``res5`` of the configured CLIP tower, which is frozen and in eval mode."""

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        super().__init__()
        keys = clip_keys(cfg)
        self.tower = load_clip(keys.CLIP_MODEL_NAME, keys.CLIP_PRETRAINED_WEIGHTS)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the maps of a (B, 3, H, W) batch, normalised as CLIP expects."""
        return dict(zip(STRIDES, self.tower(images).levels, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            name: ShapeSpec(channels=channels, stride=stride)
            for (name, stride), channels in zip(STRIDES.items(), self.tower.channels, strict=True)
        }

    @property
    def size_divisibility(self) -> int:
        return 32
