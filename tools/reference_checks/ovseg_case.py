"""OVSeg's second stage rebuilt from a description, and run with any of its settings."""

import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from reference_checks.reference_model import Case
from torch import Tensor

from frozenseg.pipeline.fusion.product import Product
from frozenseg.pipeline.region_classifiers.masked_crops import Crops, MaskedCrops
from frozenseg.structures import Frame, InputImage, Proposals
from frozenseg.towers.clip_vit import PROMPTS, CropClip
from frozenseg.towers.vit_loading import IN_OVSEG
from frozenseg.vocabulary.literal_names import literal_names
from frozenseg.vocabulary.text_classifier import build_text_classifier

NORMS = tuple(f"{name}.weight" for name in ("ln_1", "ln_2", "ln_pre", "ln_post", "ln_final"))
NO_OBJECT = "clip_adapter.non_object_embedding"
MASK_LOGIT_SCALE = 16  # recorded mask logits are integers over this
LOGIT_SCALE = 100.0


class SecondStage:
    """The small model of a case on its image, queries and classes.

    Args:
        case: the description.
        arrays: ``image``, ``mask_logits_q`` and ``pred_embedding``.
    """

    def __init__(self, case: Case, arrays: Mapping[str, np.ndarray]) -> None:
        image = torch.from_numpy(arrays["image"])
        size = (image.shape[1], image.shape[2])
        masks = torch.from_numpy(arrays["mask_logits_q"]).float() / MASK_LOGIT_SCALE
        weights = ovseg_weights(case)
        self.clip = build_crop_clip(case, weights)
        self.image = InputImage(image.float(), image, size)
        self.proposals = Proposals(masks, Frame(size, size))
        self.embeddings = torch.from_numpy(arrays["pred_embedding"])  # (Q, D) of the proposer
        self.no_object = weights[NO_OBJECT]  # (1, D)
        self.names: list[str] = list(case["class_names"])
        self.templates: list[str] = list(case["templates"])
        self.threshold: float = case["config"]["mask_thr"]

    @property
    def mask_probs(self) -> Tensor:
        return self.proposals.mask_logits.sigmoid()

    @cached_property
    def rows(self) -> Tensor:
        """The text rows of the classes, then the no-object row, normalised."""
        return self.rows_of(self.names)

    def rows_of(self, names: Sequence[str]) -> Tensor:
        text = build_text_classifier(
            self.clip.encode_text, literal_names(names), templates=self.templates
        )
        return torch.cat([text.embeddings, F.normalize(self.no_object, dim=-1)])

    def crops(self, threshold: float | None = None, expansion: float = 1.0) -> Crops:
        classifier = MaskedCrops(
            clip=self.clip, threshold=threshold or self.threshold, expansion=expansion
        )
        return classifier.crop(self.image, self.proposals)

    def features(
        self, threshold: float | None = None, *, depth: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns normalised embeddings of all masks, and which masks are valid.

        Args:
            threshold: of the masks; None: the case's.
            depth: only the first mask prompts; None: all, 0: none.
        """
        clip = self.clip if depth is None else _with_depth(self.clip, depth)
        classifier = MaskedCrops(clip=clip, threshold=threshold or self.threshold, batch_size=2)
        regions = classifier(self.image, self.proposals)
        return F.normalize(regions.embeddings, dim=-1), regions.judged

    def proposer_logits(self, rows: Tensor | None = None) -> Tensor:
        rows = self.rows if rows is None else rows
        return LOGIT_SCALE * F.normalize(self.embeddings, dim=-1) @ rows.T

    def scores(
        self,
        exponent: float,
        threshold: float | None = None,
        *,
        depth: int | None = None,
        names: Sequence[str] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Returns the fused (Q, K + 1) scores, void last, and which masks are valid."""
        rows = self.rows if names is None else self.rows_of(names)
        features, judged = self.features(threshold, depth=depth)
        fusion = Product(exponent=exponent, invalid="official")
        seen = torch.zeros(len(rows) - 1, dtype=torch.bool)
        logits = LOGIT_SCALE * features @ rows[:-1].T
        return fusion(self.proposer_logits(rows), logits, seen, judged), judged


def ovseg_weights(case: Case) -> dict[str, Tensor]:
    """Draws the weights of a case under their official names.

    Raises:
        ValueError: the weights drawn here are not those of the description.
    """
    weights = {}
    for name, (shape, total) in case["keys"].items():
        if name in case["weights_rule"]["not_drawn"]:
            continue
        drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
        if name.endswith(NORMS):
            drawn = 1 + 0.02 * drawn
        else:
            drawn = (0.1 if ".resblocks." in name and name.endswith("weight") else 0.02) * drawn
        weights[name] = torch.from_numpy(np.asarray(drawn, dtype=np.float32))
        if abs(weights[name].double().sum().item() - total) > 1e-6 * max(1, abs(total)):
            raise ValueError(f"the weights drawn for {name} differ from those described")
    return weights


def build_crop_clip(case: Case, weights: Mapping[str, Tensor]) -> CropClip:
    """Builds the CLIP of a case with its weights."""
    sizes = case["config"]["clip"]
    visual, text = sizes["visual"], sizes["text"]
    model = open_clip.CLIP(
        embed_dim=sizes["embed_dim"],
        vision_cfg={
            "layers": visual["layers"],
            "width": visual["width"],
            "head_width": visual["width"] // visual["heads"],
            "patch_size": visual["patch_size"],
            "image_size": sizes["image_resolution"],
        },  # pyright: ignore[reportArgumentType]  (open_clip takes a dictionary, too)
        text_cfg=text,
        quick_gelu=True,
    )
    tokenize = open_clip.SimpleTokenizer(context_length=text["context_length"])
    depth = visual["mask_prompt_depth"]
    clip = CropClip(model, tokenize=tokenize, mask_prompt_depth=depth, name="reference")
    clip.load_published(
        {
            name.removeprefix(IN_OVSEG): value
            for name, value in weights.items()
            if name.startswith(IN_OVSEG)
        },
        source="the description",
    )
    return clip


def _with_depth(clip: CropClip, depth: int) -> CropClip:
    """Returns a tower of the same weights with only the first mask prompts."""
    shallow = CropClip(clip.model, tokenize=clip.tokenize, mask_prompt_depth=depth)
    state = clip.published_state()
    prompts = state.pop(PROMPTS)
    shallow.load_published(state | ({PROMPTS: prompts[:depth]} if depth else {}), source="depth")
    return shallow
