"""The SAM masks of a configuration, built in each process that creates masks."""

from dataclasses import dataclass

from fvcore.common.config import CfgNode

from frozenseg.builders.segmenter import build_mask_cache, build_mask_generator
from frozenseg.sam_masks.cache import CachedMasks


@dataclass(frozen=True)
class MaskBuilder:
    """Builds the cache of SAM masks, with SAM as its source, for a device; can be pickled.

    Args:
        cfg: ``MODEL.MASK_ENSEMBLE`` decides the masks and their folder.
    """

    cfg: CfgNode

    def __call__(self, device: str) -> CachedMasks:
        """Returns cached masks whose missing files are created on ``device``.

        Args:
            device: "auto", "cpu", "cuda" or one device such as "cuda:1".

        Raises:
            UserError: the cache folder of the configuration cannot be used.
        """
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.MODEL.DEVICE = device
        cfg.freeze()
        return CachedMasks(build_mask_cache(cfg), lambda: build_mask_generator(cfg))
