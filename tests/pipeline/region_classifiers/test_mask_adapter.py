import pytest
import torch
from torch import Tensor

from frozenseg.config import ConfigError
from frozenseg.pipeline.region_classifiers.mask_adapter import AdaptedMaps
from frozenseg.structures import ClipMap, Frame, InputImage, Proposals

SMALL = {
    "MODEL__PIPELINE__REGION_CLASSIFIER": "mask_adapter",
    "MODEL__MASK_ADAPTER__MASK_IN_CHANNELS": 16,
    "MODEL__MASK_ADAPTER__NUM_CHANNELS": 8,
    "MODEL__MASK_ADAPTER__NUM_OUTPUT_MAPS": 3,
}


@pytest.fixture
def regions(small_system) -> AdaptedMaps:
    found = small_system(sam=False, **SMALL).region_classifier
    assert isinstance(found, AdaptedMaps)
    with torch.no_grad():
        for block in found.adapter.blocks:
            block.gamma.fill_(0.5)
        found.adapter.mask_encoder[-1].weight.mul_(10)
        found.adapter.predict.weight.mul_(10)
    return found


def features_of(regions: AdaptedMaps, *sides: int) -> Tensor:
    return torch.randn(1, regions.clip.channels[-1], *sides)


def test_masks_are_judged_alone_whatever_the_chunk(regions: AdaptedMaps) -> None:
    features, masks = features_of(regions, 2, 3), torch.rand(7, 16, 24) > 0.5
    regions.chunk_size = 3
    chunked = regions.embed(features, masks)
    regions.chunk_size = 100
    torch.testing.assert_close(chunked, regions.embed(features, masks))
    torch.testing.assert_close(chunked[4:5], regions.embed(features, masks[4:5]))
    assert not torch.allclose(chunked[0], chunked[1]), "the mask counts"


def test_embeddings_are_means_over_the_maps_after_clips_head(regions: AdaptedMaps) -> None:
    features, mask = features_of(regions, 2, 3), torch.ones(1, 8, 12)
    maps = regions.adapter(regions.embedding_map(features), mask)[0]
    weights = maps.sigmoid().flatten(1)
    weights = weights / weights.sum(dim=1, keepdim=True)
    visual = regions.clip.model.visual
    each = [
        visual.head(visual.trunk.head((features[0].flatten(1) @ w)[None, :, None, None]))[0]
        for w in weights
    ]
    torch.testing.assert_close(regions.embed(features, mask)[0], torch.stack(each).mean(dim=0))


def test_gradient_reaches_the_adapter_and_never_clip(regions: AdaptedMaps) -> None:
    regions.embed(features_of(regions, 2, 2), torch.ones(1, 8, 8)).sum().backward()
    assert all(value.grad is not None for value in regions.adapter.parameters())
    assert all(value.grad is None for value in regions.clip.parameters())


def test_a_cell_at_the_threshold_is_outside_and_no_mask_is_no_error(regions: AdaptedMaps) -> None:
    frame, tower = Frame((64, 64), (64, 64)), regions.clip
    clip_map = ClipMap(features_of(regions, 2, 2), frame, tower)
    pixels = torch.zeros(3, 64, 64)
    image = InputImage(pixels, pixels, (64, 64))
    masks = torch.zeros(2, 16, 16)  # probability one half
    masks[1, 0, 0] = 1
    found = regions(image, Proposals(masks, frame, clip_map=clip_map))
    assert found.judged.tolist() == [False, True]
    assert found.embeddings.isfinite().all()
    empty = regions(image, Proposals(masks[:0], frame, clip_map=clip_map))
    assert empty.embeddings.shape == (0, 24)


@pytest.mark.parametrize("sam", [True, False])
def test_it_works_beneath_both_decoders(small_system, sam: bool) -> None:
    model = small_system(sam=sam, **SMALL)
    names = [n for n in model.trainable_state() if n.startswith("region_classifier.adapter.")]
    assert len(names) == 43, "44 tensors learn, with the void embedding"


def test_a_resnet_cannot_take_it(small_system) -> None:
    with pytest.raises(ConfigError, match="mask_adapter needs a ConvNeXt CLIP"):
        small_system("resnet", sam=False, **SMALL)
