"""Builds the source of SAM's masks from a configuration."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from fvcore.common.config import CfgNode

from frozenseg.io.files import cache_folder
from frozenseg.runtime.devices import choose_device
from frozenseg.sam_masks.cache import CachedMasks, MaskCache
from frozenseg.sam_masks.generator import MaskSettings, MaskSource, SamMaskGenerator
from frozenseg.towers.loading import load_sam
from frozenseg.towers.sam import SamTower


def build_mask_source(cfg: CfgNode, *, sam: SamTower | None = None) -> MaskSource:
    """Returns SAM's masks of any image, cached on disk; SAM is loaded when a file is missing.

    Args:
        cfg: keys under ``MODEL.MASK_ENSEMBLE``.
        sam: the configured tower, if already loaded.
    """

    def build() -> tuple[MaskSource, str]:
        return build_mask_generator(cfg, sam=sam)

    return CachedMasks(build_mask_cache(cfg), build)


def build_mask_generator(
    cfg: CfgNode, *, sam: SamTower | None = None
) -> tuple[SamMaskGenerator, str]:
    """Returns the generator of SAM's masks, and the fingerprint of SAM's weights."""
    keys = cfg.MODEL.MASK_ENSEMBLE
    tower = load_sam(keys.SAM_NAME, keys.SAM_WEIGHTS) if sam is None else sam
    tower = tower.to(choose_device(cfg.MODEL.DEVICE))
    generator = SamMaskGenerator(
        tower, settings=mask_settings(cfg), points_per_batch=keys.POINTS_PER_BATCH
    )
    return generator, tower.fingerprint


def build_mask_cache(cfg: CfgNode) -> MaskCache:
    """Returns the configured folder, or one named after this SAM and these settings."""
    keys, settings = cfg.MODEL.MASK_ENSEMBLE, mask_settings(cfg)
    folder = Path(keys.CACHE).expanduser()
    if not keys.CACHE:
        content = json.dumps([keys.SAM_NAME, keys.SAM_WEIGHTS, asdict(settings)])
        digest = hashlib.sha256(content.encode()).hexdigest()[:12]
        folder = cache_folder() / "sam_masks" / f"{Path(keys.SAM_NAME).name}-{digest}"
    return MaskCache(folder, sam_name=_sam_name(cfg), settings=settings)


def mask_settings(cfg: CfgNode) -> MaskSettings:
    """Returns the settings of SAM's mask generation."""
    keys = cfg.MODEL.MASK_ENSEMBLE
    return MaskSettings(
        points_per_side=keys.POINTS_PER_SIDE,
        iou_threshold=keys.IOU_THRESHOLD,
        stability_threshold=keys.STABILITY_THRESHOLD,
        nms_threshold=keys.NMS_THRESHOLD,
        min_region_px=keys.MIN_REGION_PX,
        max_masks=keys.MAX_MASKS,
    )


def _sam_name(cfg: CfgNode) -> str:
    """Returns the name stored in mask files; it includes weights other than the published ones."""
    keys = cfg.MODEL.MASK_ENSEMBLE
    return "/".join(filter(None, (keys.SAM_NAME, keys.SAM_WEIGHTS)))


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
