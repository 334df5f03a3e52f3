"""The CLIP tower of OVSeg: it embeds crops, and learned mask prompts stand in for blank patches."""

from collections.abc import Mapping
from typing import Literal

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from frozenseg.errors import UserError
from frozenseg.io.weight_files import describe_differences
from frozenseg.ops.maps import Size
from frozenseg.towers.clip import PIXEL_MEAN, PIXEL_STD, ClipModel, Tokenize
from frozenseg.towers.frozen import fingerprint_of

DEPTH_KEY = "MODEL.OVSEG.PROMPT_DEPTH"
PROMPTS = "visual.mask_embedding"  # their published name
PROMPT_STD = 0.02  # of new prompts (OVSeg, sec. 3.3)

Part = Literal["image", "prompts"]


class CropClip(ClipModel):
    """A CLIP that embeds whole crops; a ViT can have mask prompts (OVSeg, sec. 3.3).

    Frozen when built. Training chooses the parts that learn with ``unfreeze``; the text encoder
    never does.

    Args:
        model: an open_clip model; ``mask_prompt_depth`` above 0 needs a plain ViT.
        tokenize: prompts to token ids.
        mask_prompt_depth: at the input of how many blocks blank patches are replaced; 0: never.
        name: of the model, for messages.

    Raises:
        UserError: the image encoder cannot have prompts of this depth.
    """

    mask_prompts: nn.Parameter | None  # (depth, P, C), one vector per depth and patch

    def __init__(
        self,
        model: nn.Module,
        *,
        tokenize: Tokenize,
        mask_prompt_depth: int = 0,
        name: str = "",
        pixel_mean: tuple[float, ...] = PIXEL_MEAN,
        pixel_std: tuple[float, ...] = PIXEL_STD,
    ) -> None:
        super().__init__(model, tokenize=tokenize, pixel_mean=pixel_mean, pixel_std=pixel_std)
        self.name = name
        side = self.model.visual.image_size
        self.image_size: Size = (side, side) if isinstance(side, int) else tuple(side)
        self.mask_prompts = None
        if mask_prompt_depth:
            check_prompt_depth(self.model.visual, mask_prompt_depth, name)
            tokens, width = self.model.visual.positional_embedding.shape
            prompts = PROMPT_STD * torch.randn(mask_prompt_depth, tokens - 1, width)
            self.mask_prompts = nn.Parameter(prompts, requires_grad=False)
        self._fingerprint = ""

    @property
    def mask_prompt_depth(self) -> int:
        return 0 if self.mask_prompts is None else len(self.mask_prompts)

    def embed_crops(self, crops: Tensor, region_masks: Tensor | None = None) -> Tensor:
        """Returns (N, D) image embeddings, not normalised.

        Args:
            crops: (N, 3, S, S) normalised, S being ``image_size``.
            region_masks: (N, S, S) bool; prompts replace the patches without a pixel of the mask.
                None leaves all patches as they are.
        """
        if region_masks is None:
            return self.model.encode_image(crops)
        if self.mask_prompts is None:
            raise ValueError("this tower has no mask prompts: call it without region masks")
        visual, blank = self.model.visual, self.blank_patches(region_masks)
        patches = visual.conv1(crops).flatten(2).transpose(1, 2)
        patches = torch.where(blank, self.mask_prompts[0], patches)
        class_token = visual.class_embedding.to(patches.dtype).expand(len(crops), 1, -1)
        tokens = torch.cat([class_token, patches], dim=1) + visual.positional_embedding
        tokens = visual.ln_pre(tokens)
        for index, block in enumerate(visual.transformer.resblocks):
            if 0 < index < self.mask_prompt_depth:
                patches = torch.where(blank, self.mask_prompts[index], tokens[:, 1:])
                tokens = torch.cat([tokens[:, :1], patches], dim=1)
            tokens = block(tokens)
        return visual.ln_post(tokens[:, 0]) @ visual.proj

    def blank_patches(self, region_masks: Tensor) -> Tensor:
        """Returns (N, P, 1) bool, row by row: True where no pixel of a patch is in the mask."""
        visual = self.model.visual
        (rows, columns), (height, width) = visual.grid_size, visual.patch_size
        covered = region_masks[:, : rows * height, : columns * width]
        cells = covered.unflatten(2, (columns, width)).unflatten(1, (rows, height))
        return ~cells.any(dim=4).any(dim=2).flatten(1)[..., None]

    def unfreeze(self, *parts: Part) -> None:
        """Lets these parts and CLIP's temperature learn, and nothing else.

        Args:
            parts: ``image`` is the image encoder, ``prompts`` are the mask prompts.

        Raises:
            UserError: the tower has no mask prompts.
        """
        self.requires_grad_(False)
        if "prompts" in parts:
            if self.mask_prompts is None:
                raise UserError(
                    f"mask prompt tuning needs mask prompts, but {DEPTH_KEY} is 0: set it to 3, "
                    "as published, or to another depth"
                )
            self.mask_prompts.requires_grad_(True)
        if "image" in parts:
            self.model.visual.requires_grad_(True)
        self.model.logit_scale.requires_grad_(bool(parts))

    @property
    def fingerprint(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """A hash of the weights, prompts included; computed again as long as a part learns."""
        if not self._fingerprint or any(p.requires_grad for p in self.parameters()):
            self._fingerprint = fingerprint_of(self.published_state())
        return self._fingerprint

    def published_state(self) -> dict[str, Tensor]:
        """Returns the weights under the names of OpenAI's CLIP, with the prompts of OVSeg."""
        state = dict(self.model.state_dict())
        if self.mask_prompts is not None:
            state[PROMPTS] = self.mask_prompts.detach()
        return state

    def load_published(
        self, state: Mapping[str, Tensor], *, source: str, new_prompts: bool = False
    ) -> None:
        """Takes over weights under the names of ``published_state``; all of them or none.

        Args:
            state: the weights.
            source: the name used in error messages.
            new_prompts: keep this tower's own prompts if the weights have none, to start mask
                prompt tuning.

        Raises:
            UserError: weights of another architecture, or prompts that are missing or of another
                depth.
        """
        state, expected = dict(state), self.published_state()
        if new_prompts and PROMPTS not in state and PROMPTS in expected:
            state[PROMPTS] = expected[PROMPTS]
        self._check(state, expected, source)
        prompts = state.pop(PROMPTS, None)
        self.model.load_state_dict(state)
        if self.mask_prompts is not None and prompts is not None:
            with torch.no_grad():
                self.mask_prompts.copy_(prompts)
        self._fingerprint = ""

    def trainable_state(self) -> dict[str, Tensor]:
        """Returns the weights of the parts that learn; see ``unfreeze``."""
        named = self.named_parameters()
        return {name: value.detach() for name, value in named if value.requires_grad}

    def load_trainable_state(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Loads what ``trainable_state`` returned, of the image encoder, the prompts or both.

        Raises:
            UserError: a part is incomplete, unknown or of another size.
        """
        own = dict(self.named_parameters())
        parts = {_part_of(name) for name in state}
        expected = {name: value for name, value in own.items() if _part_of(name) in parts}
        differences = describe_differences(expected, state, limit=3)
        if differences or not state:
            raise UserError(
                f"{source} holds no trained weights of {self.name or 'this CLIP'} "
                f"({differences or 'it is empty'}): choose a checkpoint of its fine-tuning or "
                "mask prompt tuning"
            )
        with torch.no_grad():
            for name, value in state.items():
                own[name].copy_(value)
        self._fingerprint = ""

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes other weights for the same architecture."""
        self.load_published(state, source="the given state")

    def _check(
        self, state: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str
    ) -> None:
        name = self.name or "the configured CLIP"
        found, own = (_patch_layer(weights) for weights in (state, expected))
        if found is not None and own is not None and found != own:
            raise UserError(
                f"{source} holds a CLIP with {found} but {name} has {own}: set CLIP_MODEL_NAME to "
                "the CLIP of that file"
            )
        depth = len(state[PROMPTS]) if PROMPTS in state else 0
        if depth != self.mask_prompt_depth:
            raise UserError(
                f"{source} holds no mask prompts ({PROMPTS}), but {DEPTH_KEY} is "
                f"{self.mask_prompt_depth}: set it to 0, or choose weights after mask prompt tuning"
                if not depth
                else f"{source} holds mask prompts of depth {depth}, but {DEPTH_KEY} is "
                f"{self.mask_prompt_depth}: set it to {depth}"
            )
        differences = describe_differences(expected, state, limit=3)
        if differences:
            raise UserError(
                f"{source} does not fit {name} ({differences}): choose the file that belongs to it"
            )


def check_prompt_depth(visual: nn.Module, depth: int, name: str) -> None:
    """Checks that an image encoder can have mask prompts.

    Raises:
        UserError: it has no patch tokens, or fewer blocks than prompts.
    """
    if not isinstance(visual, VisionTransformer):
        raise UserError(
            f"CLIP_MODEL_NAME {name} has a {type(visual).__name__} image encoder without patch "
            f"tokens, but {DEPTH_KEY} is {depth}: set it to 0, or choose ViT-B-16 or ViT-L-14"
        )
    if visual.pool_type != "tok" or visual.attn_pool is not None or visual.final_ln_after_pool:
        raise UserError(
            f"CLIP_MODEL_NAME {name} does not read its class token, but {DEPTH_KEY} is {depth}: "
            "set it to 0, or choose ViT-B-16 or ViT-L-14"
        )
    blocks = len(visual.transformer.resblocks)
    if not 0 < depth <= blocks:
        raise UserError(
            f"{DEPTH_KEY} is {depth}, but CLIP_MODEL_NAME {name} has {blocks} blocks: set it to "
            f"0 to {blocks}"
        )


def _part_of(name: str) -> str:
    return "image" if name.startswith("model.visual.") else name


def _patch_layer(state: Mapping[str, Tensor]) -> str | None:
    """Describes the patches that a ViT's weights are of; None if they are of no ViT."""
    layer = state.get("visual.conv1.weight")
    if layer is None or layer.dim() != 4 or "visual.class_embedding" not in state:
        return None
    return f"patches of {layer.shape[2]} x {layer.shape[3]} pixels and width {layer.shape[0]}"
