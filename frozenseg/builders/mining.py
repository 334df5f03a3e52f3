"""Builds the miner of region-noun pairs: a configured proposer and the original CLIP."""

from dataclasses import dataclass

import torch
from fvcore.common.config import CfgNode

from frozenseg.builders.segmenter import load_model
from frozenseg.mining.miner import Miner
from frozenseg.mining.nouns import find_nouns, find_phrases
from frozenseg.pipeline.region_classifiers.masked_crops import MaskedCrops
from frozenseg.runtime.devices import choose_device
from frozenseg.towers.vit_loading import load_crop_clip
from frozenseg.vocabulary.literal_names import literal_names
from frozenseg.vocabulary.text_classifier import embed_vocabulary


@dataclass(frozen=True, kw_only=True)
class MinerBuilder:
    """Builds the miner for a device; can be pickled.

    Args:
        cfg: decides the proposer and the size of images.
        clip: an open_clip ViT or a folder (``load_crop_clip``).
        clip_weights: a tag or a file.
        threshold: a pixel is in a mask if its probability is above this.
        phrases: take nouns with their adjectives.
    """

    cfg: CfgNode
    clip: str
    clip_weights: str
    threshold: float = 0.4
    phrases: bool = False

    def __call__(self, device: str) -> Miner:
        """Returns the miner on a device.

        Args:
            device: "auto", "cpu", "cuda" or one device such as "cuda:1".

        Raises:
            UserError: a model or its weights cannot be loaded.
        """
        place = choose_device(device)
        model = load_model(self.cfg, self.cfg.MODEL.WEIGHTS).to(place).eval()
        clip = load_crop_clip(self.clip, self.clip_weights).to(place)
        with torch.inference_mode():  # masks do not depend on the classes, so one is enough
            text = embed_vocabulary(model.text_encoder, literal_names(["object"])).to(place)
        return Miner(
            proposer=model.proposer,
            text=text,
            regions=MaskedCrops(clip=clip, threshold=self.threshold, precision="auto"),
            short_side=self.cfg.INPUT.MIN_SIZE_TEST,
            long_side=self.cfg.INPUT.MAX_SIZE_TEST,
            find=find_phrases if self.phrases else find_nouns,
        )
