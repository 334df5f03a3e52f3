"""SAM's zero-shot masks beside segment_anything's own generator, with the shapes world's SAM."""

import torch
import torch.nn.functional as F
from segment_anything import SamAutomaticMaskGenerator
from torch import Tensor

from benchmarks.frame import Stage
from frozenseg.data.shapes import ShapesDataset
from frozenseg.ops.maps import Size
from frozenseg.sam_masks.generator import MaskSettings, SamMaskGenerator
from frozenseg.towers.loading import load_sam

# small holes and islands stay, as segment_anything needs OpenCV to remove them
SETTINGS = MaskSettings(min_region_px=0, max_masks=10**6)


def sam_masks(image_size: Size) -> Stage:
    """Prompts, filters and areas of a scene; the encoder is small, and the same."""
    tower = load_sam("shapes")
    scene = ShapesDataset("val")[1].image
    image = F.interpolate(scene[None].float(), image_size, mode="bilinear")[0].byte()
    pixels = image.permute(1, 2, 0).numpy()
    ours = SamMaskGenerator(tower, settings=SETTINGS)
    theirs = SamAutomaticMaskGenerator(
        tower.model,
        points_per_side=SETTINGS.points_per_side,
        pred_iou_thresh=SETTINGS.iou_threshold,
        stability_score_thresh=SETTINGS.stability_threshold,
        box_nms_thresh=SETTINGS.nms_threshold,
    )

    def their_areas() -> Tensor:
        found = sorted((each["area"] for each in theirs.generate(pixels)), reverse=True)
        return torch.tensor(found, dtype=torch.float64)

    return Stage(
        "SAM masks, 1,024 prompts",
        "segment_anything's generator",
        their_areas,
        lambda: ours(image).areas.double(),
    )
