"""Mask prompts: which tokens they replace, and where; parts that learn; weights that do not fit."""

from itertools import pairwise

import open_clip
import pytest
import torch
from torch import Tensor

from frozenseg.errors import UserError
from frozenseg.towers.clip_vit import PROMPTS, CropClip

SIDE = 12  # 3 x 3 patches of 4 pixels


@pytest.fixture
def crops() -> Tensor:
    return torch.randn(2, 3, SIDE, SIDE)


@pytest.fixture
def region_masks() -> Tensor:
    """The first region covers the left column of patches, the second everything."""
    masks = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    masks[0, :, :4] = True
    masks[1] = True
    return masks


def block_inputs(clip: CropClip, crops: Tensor, masks: Tensor | None) -> list[Tensor]:
    """The tokens that enter ln_pre, then each block."""
    seen: list[Tensor] = []
    visual = clip.model.visual
    hooks = [
        module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
        for module in (visual.ln_pre, *visual.transformer.resblocks)
    ]
    clip.embed_crops(crops, masks)
    for hook in hooks:
        hook.remove()
    return seen


def test_without_masks_it_is_clips_own_image_embedding(tiny_vit, crops) -> None:
    clip = tiny_vit()
    torch.testing.assert_close(clip.embed_crops(crops), clip.model.encode_image(crops))


def test_a_mask_over_everything_leaves_the_embedding_as_it_is(tiny_vit, crops) -> None:
    clip, full = tiny_vit(), torch.ones(2, SIDE, SIDE, dtype=torch.bool)
    torch.testing.assert_close(clip.embed_crops(crops, full), clip.model.encode_image(crops))


def test_one_pixel_of_the_mask_keeps_a_patch(tiny_vit) -> None:
    masks = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    masks[0, 3, 4] = True  # last row of the first patch row, first column of the second patch
    masks[0, 8, 11] = True  # the patch at the bottom right
    expected = torch.ones(9, dtype=torch.bool)
    expected[[1, 8]] = False
    assert torch.equal(tiny_vit().blank_patches(masks)[0, :, 0], expected)


def test_first_prompts_replace_blank_patches_before_the_position_is_added(
    tiny_vit, crops, region_masks
) -> None:
    clip = tiny_vit(1)
    positions = clip.model.visual.positional_embedding
    tokens = block_inputs(clip, crops, region_masks)[0] - positions
    plain = block_inputs(clip, crops, None)[0] - positions
    blank = [1, 2, 4, 5, 7, 8]  # all but the left column
    torch.testing.assert_close(tokens[0, 1:][blank], clip.mask_prompts[0, blank])
    torch.testing.assert_close(tokens[0, 1:][[0, 3, 6]], plain[0, 1:][[0, 3, 6]])
    torch.testing.assert_close(tokens[1], plain[1])


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_prompts_enter_as_many_blocks_as_they_are_deep(
    tiny_vit, crops, region_masks, depth
) -> None:
    clip = tiny_vit(depth)
    inputs = block_inputs(clip, crops, region_masks)[1:]
    for index, tokens in enumerate(inputs):
        same = torch.isclose(tokens[0, 2:4], clip.mask_prompts[min(index, depth - 1), 1:3])
        assert same.all().item() == (0 < index < depth), f"block {index}"


def test_the_class_token_is_never_replaced(tiny_vit, crops) -> None:
    """Nothing is kept but the class token, which then carries no trace of the crop."""
    clip, empty = tiny_vit(), torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    class_token = clip.model.visual.class_embedding + clip.model.visual.positional_embedding[0]
    inputs = block_inputs(clip, crops, empty)
    torch.testing.assert_close(inputs[0][:, 0], class_token.expand(2, -1))
    for before, after in pairwise(inputs[1:]):
        assert (before[:, 0] - after[:, 0]).abs().max() > 1e-3  # blocks write to it


def test_masks_without_prompts_are_refused(tiny_vit, crops, region_masks) -> None:
    with pytest.raises(ValueError, match="no mask prompts"):
        tiny_vit(0).embed_crops(crops, region_masks)


def test_a_resnet_has_no_patches_to_replace() -> None:
    vision = {"layers": [1, 1, 1, 1], "width": 16, "head_width": 64, "image_size": 64}
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    model = open_clip.CLIP(embed_dim=8, vision_cfg=vision, text_cfg=text)
    tokenize = open_clip.SimpleTokenizer(context_length=16)
    with pytest.raises(UserError, match=r"RN has a ModifiedResNet .*DEPTH is 3: set it to 0"):
        CropClip(model, tokenize=tokenize, mask_prompt_depth=3, name="RN")
    plain = CropClip(model, tokenize=tokenize, name="RN")
    assert plain.embed_crops(torch.zeros(2, 3, 64, 64)).shape == (2, 8)


def test_prompts_cannot_be_deeper_than_the_tower(tiny_vit) -> None:
    with pytest.raises(UserError, match="has 4 blocks"):
        tiny_vit(5)


def test_it_is_frozen_until_a_part_is_chosen(tiny_vit, crops, region_masks) -> None:
    clip = tiny_vit()
    assert not any(parameter.requires_grad for parameter in clip.parameters())
    assert not clip.embed_crops(crops, region_masks).requires_grad
    clip.unfreeze("prompts")
    clip.embed_crops(crops, region_masks).sum().backward()
    assert set(clip.trainable_state()) == {"mask_prompts", "model.logit_scale"}
    blank = torch.tensor([1, 2, 4, 5, 7, 8])
    assert clip.mask_prompts.grad[:, blank].abs().amin(dim=(1, 2)).gt(0).any()
    assert not clip.mask_prompts.grad[:, [0, 3, 6]].any()  # never blank in any region
    clip.unfreeze("image")
    assert {name.split(".")[1] for name in clip.trainable_state()} == {"visual", "logit_scale"}


def test_prompt_tuning_without_prompts_is_refused(tiny_vit) -> None:
    with pytest.raises(UserError, match="DEPTH is 0: set it to 3"):
        tiny_vit(0).unfreeze("prompts")


def test_the_fingerprint_follows_prompts_and_training(tiny_vit) -> None:
    clip = tiny_vit()
    before = clip.fingerprint
    clip.unfreeze("prompts")
    with torch.no_grad():
        clip.mask_prompts[0, 0, 0] += 1
    assert clip.fingerprint != before


def test_trained_parts_come_back_and_partial_ones_are_refused(tiny_vit) -> None:
    clip, other = tiny_vit(), tiny_vit(seed=1)
    clip.unfreeze("image", "prompts")
    state = {name: value.clone() for name, value in clip.trainable_state().items()}
    other.load_trainable_state(state, source="run/")
    assert other.fingerprint != clip.fingerprint  # their text encoders differ
    torch.testing.assert_close(other.mask_prompts, clip.mask_prompts)
    torch.testing.assert_close(other.model.visual.proj, clip.model.visual.proj)
    del state["model.visual.proj"]
    with pytest.raises(UserError, match=r"run/ .*missing model.visual.proj"):
        other.load_trainable_state(state, source="run/")


class TestWeights:
    def test_published_weights_come_back(self, tiny_vit, crops, region_masks) -> None:
        clip, other = tiny_vit(), tiny_vit(seed=1)
        other.load_published(clip.published_state(), source="a.pt")
        assert other.fingerprint == clip.fingerprint
        torch.testing.assert_close(
            other.embed_crops(crops, region_masks), clip.embed_crops(crops, region_masks)
        )

    def test_missing_prompts_are_an_error_and_change_nothing(self, tiny_vit) -> None:
        clip = tiny_vit()
        before = clip.fingerprint
        state = tiny_vit(0, seed=1).published_state()
        with pytest.raises(UserError, match=r"a.pt holds no mask prompts .* is 3: set it to 0"):
            clip.load_published(state, source="a.pt")
        assert clip.fingerprint == before

    def test_new_prompts_start_mask_prompt_tuning(self, tiny_vit) -> None:
        clip, other = tiny_vit(), tiny_vit(0, seed=1)
        prompts = clip.mask_prompts.clone()
        clip.load_published(other.published_state(), source="a.pt", new_prompts=True)
        torch.testing.assert_close(clip.mask_prompts, prompts, rtol=0, atol=0)
        torch.testing.assert_close(clip.model.visual.proj, other.model.visual.proj)
        assert 0.015 < prompts.std() < 0.025

    @pytest.mark.parametrize("depth", [0, 1])
    def test_prompts_of_another_depth_are_refused(self, tiny_vit, depth) -> None:
        state = tiny_vit(3).published_state()
        with pytest.raises(UserError, match=rf"of depth 3, but .* is {depth}: set it to 3"):
            tiny_vit(depth).load_published(state, source="a.pt")

    def test_patches_of_another_size_are_refused(self, tiny_vit) -> None:
        state = tiny_vit(patch_size=6).published_state()
        with pytest.raises(UserError, match=r"patches of 6 x 6 pixels and width 16 but .* 4 x 4"):
            tiny_vit().load_published(state, source="a.pt")

    def test_a_state_without_a_weight_is_refused(self, tiny_vit) -> None:
        state = tiny_vit().published_state()
        del state["visual.proj"]
        with pytest.raises(UserError, match=r"missing visual\.proj"):
            tiny_vit().load_published(state, source="a.pt")

    def test_prompts_for_another_grid_are_refused(self, tiny_vit) -> None:
        state = tiny_vit().published_state()
        state[PROMPTS] = state[PROMPTS][:, :4]
        with pytest.raises(UserError, match=r"visual.mask_embedding is \(3, 4, 16\)"):
            tiny_vit().load_published(state, source="a.pt")
