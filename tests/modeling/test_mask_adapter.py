import pytest
import torch

from frozenseg.modeling.mask_adapter import MaskAdapter, pool_with_maps


@pytest.mark.parametrize(("width", "count"), [(768, 14_907_568), (640, 14_807_088)])
def test_the_published_sizes_have_the_published_number_of_parameters(width, count) -> None:
    with torch.device("meta"):
        adapter = MaskAdapter(embed_dim=width)
    assert sum(parameter.numel() for parameter in adapter.parameters()) == count


def test_equal_maps_pool_the_mean_and_a_peak_its_cell() -> None:
    features = torch.randn(1, 5, 2, 3)
    maps = torch.full((1, 2, 2, 3), -50.0)
    maps[0, 1, 1, 2] = 50
    pooled = pool_with_maps(features, maps)
    torch.testing.assert_close(pooled[0, 0], features[0].mean(dim=(1, 2)))
    torch.testing.assert_close(pooled[0, 1], features[0, :, 1, 2])


def test_a_weight_is_the_share_of_the_sigmoid() -> None:
    maps = torch.tensor([0.3, -1.0, 2.0, 0.0]).view(1, 1, 2, 2)
    shares = maps.sigmoid().flatten() / maps.sigmoid().sum()
    cells = torch.eye(4).view(1, 4, 2, 2)
    torch.testing.assert_close(pool_with_maps(cells, maps)[0, 0], shares)


def test_a_mask_may_have_any_resolution() -> None:
    adapter = MaskAdapter(embed_dim=6, mask_dim=16, dim=8, num_maps=3)
    masks = torch.zeros(2, 8, 12)
    masks[:, :4] = 1
    fine = masks.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    cells = torch.randn(1, 6, 2, 3)
    assert adapter(cells, masks).shape == (2, 3, 2, 3)
    away = adapter(cells, fine) - adapter(cells, masks)
    assert away.abs().max() < 0.1
