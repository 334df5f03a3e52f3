"""A whole image: from pixels to the results for a vocabulary, with every baseline at once."""

from collections.abc import Sequence
from typing import Any, cast
from unittest.mock import patch

import torch

from benchmarks.frame import Stage, share_of_others
from benchmarks.post_processing import label_maps
from benchmarks.unfused import unfused_outputs
from frozenseg import model_config
from frozenseg.analysis.speed import build_predictor
from frozenseg.builders.clips import with_random_towers
from frozenseg.inference.predictor import Predictor
from frozenseg.modeling import deformable_encoder
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.ops.maps import Size
from frozenseg.ops.ms_deform_attn.reference import reference_forward
from frozenseg.pipeline.model import ClassProbs
from frozenseg.structures import InputImage, Proposals, Result
from frozenseg.towers.loading import SAM_BUILDERS

MODEL, CLASSES = "frozenseg-convnext-large", "openvocab_ade20k_panoptic_val"


def whole_image(image_size: Size) -> Stage:
    """The published model with random weights, all three tasks, 150 classes."""
    cfg = with_random_towers(model_config(MODEL, overrides=["MODEL.DEVICE", "cpu"]))
    cfg.DATASETS.TEST = (CLASSES,)
    shipped, _ = build_predictor(cfg, random=True)
    unfused = Unfused(
        model=shipped.model,
        text=shipped.text,
        is_thing=shipped.is_thing,
        seen=shipped.seen,
        settings=shipped.settings,
    )
    pixels = torch.randint(256, (3, *image_size), dtype=torch.uint8)
    image = InputImage(pixels, pixels, image_size)
    return Stage(
        "whole image",
        "all baselines",
        lambda: label_maps(unfused([image])[0]),
        lambda: label_maps(shipped([image])[0]),
        share_of_others,
    )


class Unfused(Predictor):
    """SAM's eager attention, the reference operator, every layer's predictions, whole maps."""

    def propose(self, images: Sequence[InputImage]) -> list[Proposals]:
        proposer = cast(FrozenSeg, self.model.proposer)
        assert proposer.sam is not None, "the published model has one"
        blocked, forward = proposer.sam.model.image_encoder, proposer.forward
        eager = SAM_BUILDERS["vit_b"]().image_encoder.eval()
        eager.load_state_dict(blocked.state_dict(), assign=True)

        def predicts_in_every_layer(*given: Any, **_: object) -> object:
            return forward(*given, every_layer=True)

        with (
            patch.object(proposer.sam.model, "image_encoder", eager),
            patch.object(proposer, "forward", predicts_in_every_layer),
            patch.object(deformable_encoder, "ms_deform_attn", reference_forward),
        ):
            return super().propose(images)

    def outputs(self, image: InputImage, proposals: Proposals, class_probs: ClassProbs) -> Result:
        probs = class_probs.general
        return unfused_outputs(self.settings, proposals, probs, self.is_thing, image.output_size)
