import pytest
import torch
from torch import Tensor

from frozenseg.modeling.deformable_encoder import DeformableEncoder
from frozenseg.modeling.pixel_decoder import PixelDecoder, SamBranch

SIZES = ((16, 24), (8, 12), (4, 6), (2, 3))


def decoder(*, sam: bool = True) -> PixelDecoder:
    def encoder(num_levels: int) -> DeformableEncoder:
        return DeformableEncoder(
            dim=64, num_layers=1, num_heads=4, num_levels=num_levels, hidden_dim=16
        )

    branch = SamBranch(in_channels=48, dim=64, encoder=encoder(1)) if sam else None
    return PixelDecoder(
        in_channels=(8, 16, 24, 32), dim=64, mask_dim=32, encoder=encoder(3), sam_branch=branch
    ).eval()


def levels(images: int = 2) -> tuple[Tensor, ...]:
    return tuple(
        torch.randn(images, channels, *size)
        for channels, size in zip((8, 16, 24, 32), SIZES, strict=True)
    )


def test_levels_run_from_coarse_to_fine_and_masks_are_at_stride_4() -> None:
    pixels = decoder()(levels(), torch.randn(2, 48, 10, 10))
    assert pixels.mask_features.shape == (2, 32, 16, 24)
    assert [tuple(level.shape) for level in pixels.levels] == [
        (2, 64, 2, 3), (2, 64, 4, 6), (2, 64, 8, 12)
    ]  # fmt: skip
    assert pixels.sam.shape == (2, 64, 5, 5)


def test_sams_branch_stands_beside_the_others() -> None:
    model, clip = decoder(), levels()
    with_sam, other = (model(clip, torch.randn(2, 48, 10, 10)) for _ in range(2))
    assert torch.equal(with_sam.mask_features, other.mask_features)
    assert all(map(torch.equal, with_sam.levels, other.levels))
    assert not torch.equal(with_sam.sam, other.sam)


def test_without_a_branch_sams_embedding_is_not_read() -> None:
    """The Query Injector alone reads the embedding itself."""
    assert decoder(sam=False)(levels(), torch.randn(2, 48, 10, 10)).sam is None
    assert decoder(sam=False)(levels(), None).sam is None


def test_masks_see_the_finest_map_and_every_level_all_three() -> None:
    model, clip = decoder(sam=False), levels(1)
    before = model(clip, None)
    for changed in range(4):
        other = tuple(level + (index == changed) for index, level in enumerate(clip))
        after = model(other, None)
        assert not torch.allclose(before.mask_features, after.mask_features)
        moved = [not torch.equal(a, b) for a, b in zip(before.levels, after.levels, strict=True)]
        assert any(moved) == (changed > 0)  # res2 joins after the encoder


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_computes_in_float32_also_under_autocast(dtype: torch.dtype) -> None:
    model, clip, sam = decoder(), levels(), torch.randn(2, 48, 10, 10)
    expected = model(clip, sam)
    with torch.autocast("cpu", dtype=dtype):
        under = model(clip, sam)
    assert torch.equal(under.mask_features, expected.mask_features)
    assert torch.equal(under.sam, expected.sam)


def test_float64_stays_float64() -> None:
    clip, sam = levels(), torch.randn(2, 48, 10, 10)
    model = decoder()
    single = model(clip, sam)
    double = model.double()(tuple(level.double() for level in clip), sam.double())
    assert double.mask_features.dtype == torch.float64
    torch.testing.assert_close(double.sam.float(), single.sam, rtol=1e-4, atol=1e-5)
