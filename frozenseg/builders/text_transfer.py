"""Builds the text transfer of MAFT+."""

from fvcore.common.config import CfgNode

from frozenseg.builders.clips import Clips
from frozenseg.config import ConfigError
from frozenseg.modeling.text_transfer import ContentTransfer, TextTransfer
from frozenseg.towers.clip import ConvNeXtClip


def has_text_transfer(cfg: CfgNode) -> bool:
    """Returns True if the region classifier's text rows depend on the image."""
    return cfg.MODEL.PIPELINE.TEXT_ROWS == "content"


def map_from_weights(cfg: CfgNode) -> bool:
    """Returns True if the weights decide whether the image map is scrambled."""
    return cfg.MODEL.MAFT_PLUS.IMAGE_MAP == "from_weights"


def build_text_transfer(cfg: CfgNode, clips: Clips) -> ContentTransfer | None:
    """Builds the transfer; None if text rows depend on the words alone.

    Raises:
        ConfigError: the proposer has no map of a ConvNeXt CLIP that the region classifier shares.
    """
    if not has_text_transfer(cfg):
        return None
    clip, keys = clips.regions, cfg.MODEL.MAFT_PLUS
    if not isinstance(clip, ConvNeXtClip) or clips.proposer is not clip:
        raise ConfigError(
            "MODEL.PIPELINE.TEXT_ROWS content needs one ConvNeXt CLIP for proposer and regions: "
            "set CLIP_MODEL_NAME to one and MODEL.PIPELINE.REGION_CLIP_NAME to ''"
        )
    if cfg.MODEL.PIPELINE.PROPOSER != "mask2former":
        raise ConfigError(
            "MODEL.PIPELINE.TEXT_ROWS content needs the map of the proposer mask2former: set "
            "MODEL.PIPELINE.PROPOSER to it"
        )
    if clip.embed_dim % keys.CDT_HEADS:
        raise ConfigError(
            f"MODEL.MAFT_PLUS.CDT_HEADS is {keys.CDT_HEADS}, which does not divide CLIP's width "
            f"{clip.embed_dim}: set it to a divisor"
        )
    network = TextTransfer(dim=clip.embed_dim, num_heads=keys.CDT_HEADS, form=keys.CDT_FORM)
    scrambled = keys.IMAGE_MAP == "scrambled"
    return ContentTransfer(clip=clip, network=network, scrambled=scrambled)
