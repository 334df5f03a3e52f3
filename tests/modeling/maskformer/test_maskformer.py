"""The proposer: what it hands on, how it classifies, and that it learns."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from frozenseg.errors import UserError
from frozenseg.modeling.maskformer.maskformer import MaskFormer
from frozenseg.modeling.maskformer.pixel_decoder import FeaturePyramid
from frozenseg.modeling.maskformer.resnet import DeepLabResNet
from frozenseg.modeling.maskformer.swin import SwinTransformer
from frozenseg.modeling.maskformer.transformer_decoder import TransformerDecoder
from frozenseg.structures import InputImage


@dataclass
class Rows:
    """Text rows that do not depend on the image."""

    rows: Tensor  # (K, D)

    @property
    def num_classes(self) -> int:
        return len(self.rows)

    def for_image(self, clip_map: Tensor | None) -> "Rows":
        assert clip_map is None, "MaskFormer has no CLIP map"
        return self

    def for_regions(self) -> "Rows":
        return self

    def logits(self, embeddings: Tensor, logit_scale: float, *, void: Tensor | None = None):
        rows = self.rows if void is None else torch.cat([self.rows, void[None]])
        return logit_scale * F.normalize(embeddings, dim=-1) @ F.normalize(rows, dim=-1).T


def tiny(backbone: str = "swin", *, embed_dim: int = 8, **changes) -> MaskFormer:
    torch.manual_seed(0)
    body = (
        SwinTransformer(dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window=4)
        if backbone == "swin"
        else DeepLabResNet(depths=(1, 1, 1, 3), width=2, stem_channels=8, freeze_at=0)
    )
    return MaskFormer(
        backbone=body,
        pixel_decoder=FeaturePyramid(in_channels=body.channels, dim=16, mask_dim=16, num_groups=4),
        transformer_decoder=TransformerDecoder(
            in_channels=body.channels[-1],
            dim=16,
            mask_dim=16,
            embed_dim=embed_dim,
            class_hidden_dim=32,
            num_queries=6,
            num_heads=2,
            hidden_dim=32,
            num_layers=3,
        ),
        embed_dim=embed_dim,
        **changes,
    )


def text(num_classes: int = 4, width: int = 8) -> Rows:
    return Rows(torch.randn(num_classes, width, generator=torch.Generator().manual_seed(1)))


def image(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height)
    return torch.randint(256, (3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("backbone", ["swin", "resnet"])
def test_proposals_cover_the_padded_frame_at_stride_4(backbone: str) -> None:
    model = tiny(backbone).eval()
    images = [InputImage(pixels, pixels, (60, 90)) for pixels in (image(60, 90), image(33, 70))]
    first, second = model.propose(images, text())
    assert first.mask_logits.shape == second.mask_logits.shape == (6, 16, 24)
    assert first.frame == ((64, 96), (60, 90)) and second.frame == ((64, 96), (33, 70))
    assert first.class_logits.shape == (6, 5) and first.clip_map is None
    assert not first.mask_logits.requires_grad
    assert model.tasks == {"semantic"}


def test_logits_are_cosines_times_100_and_the_last_column_is_the_learned_row() -> None:
    model = tiny().eval()
    with torch.no_grad():
        head = model.transformer_decoder.class_embedding[-1]
        head.weight.zero_()
        head.bias.copy_(torch.tensor([3.0, 4, 0, 0, 0, 0, 0, 0]))
        model.void_embedding.copy_(torch.tensor([[0.0, 7, 0, 0, 0, 0, 0, 0]]))
    rows = Rows(torch.eye(8)[[0, 2]] * 5)
    logits = model([image(32, 32)], rows).predictions[-1].class_logits
    torch.testing.assert_close(logits, torch.tensor([60.0, 0, 80]).expand(1, 6, 3))


def test_images_are_normalised_before_they_are_padded_with_zeros() -> None:
    model = tiny()
    seen: list[Tensor] = []
    hook = model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    grey = torch.tensor([123.675, 116.28, 103.53 + 57.375])[:, None, None].expand(3, 20, 40)
    model([grey, image(32, 33)], text())
    hook.remove()
    (batch,) = seen
    assert batch.shape == (2, 3, 32, 64)
    assert (batch[0, :, 20:] == 0).all() and (batch[0, :, :, 40:] == 0).all()
    expected = torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand(3, 20, 40)
    torch.testing.assert_close(batch[0, :, :20, :40], expected, rtol=0, atol=1e-5)


def test_every_layer_predicts_while_training() -> None:
    model = tiny()
    assert len(model.train()([image(32, 32)], text()).predictions) == 3
    assert len(model.eval()([image(32, 32)], text()).predictions) == 1
    output = model([image(32, 32)], text(), every_layer=True)
    assert len(output.predictions) == 3 and output.padded_size == (32, 32)


def test_all_parameters_learn() -> None:
    """The position biases of a Swin and frozen norms of a ResNet included."""
    for backbone in ("swin", "resnet"):
        model = tiny(backbone).train()
        for prediction in model([image(64, 64)], text()).predictions:
            total = prediction.class_logits.square().mean() + prediction.mask_logits.square().mean()
            total.backward(retain_graph=True)
        idle = [name for name, p in model.named_parameters() if p.grad is None]
        assert idle == []


def test_the_state_holds_all_weights_and_statistics_and_loads_again() -> None:
    model, other = tiny("resnet"), tiny("resnet")
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(0.5)
    state = model.trainable_state()
    assert "backbone.stem.conv1.norm.running_var" in state and "void_embedding" in state
    assert "pixel_mean" not in state
    other.load_trainable_state(state, source="a file")
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())


def test_weights_of_another_size_are_refused_and_nothing_is_loaded() -> None:
    model = tiny()
    before = model.void_embedding.clone()
    state = tiny(embed_dim=12).trainable_state()
    with pytest.raises(UserError, match=r"a file does not fit this MaskFormer: void_embedding is"):
        model.load_trainable_state(state, source="a file")
    assert torch.equal(model.void_embedding, before)
    del state["void_embedding"]
    with pytest.raises(UserError, match="missing void_embedding"):
        tiny(embed_dim=12).load_trainable_state(state, source="a file")


@pytest.mark.parametrize("backbone", ["swin", "resnet"])
def test_it_trains_in_mixed_precision(backbone: str) -> None:
    model = tiny(backbone)
    full = model.eval()([image(64, 64)], text()).predictions[-1]
    with torch.autocast("cpu", torch.bfloat16):
        half = model([image(64, 64)], text()).predictions[-1]
        (half.mask_logits.float().square().mean() + half.class_logits.square().mean()).backward()
    scale = full.mask_logits.abs().max()
    assert (half.mask_logits - full.mask_logits).abs().max() < 0.1 * scale
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
