from collections import Counter

import numpy as np
import pytest
import torch

from frozenseg.metrics.overlap import count_pixels, pack_masks, pair_areas, shared_pixels


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (13, 29)])
@pytest.mark.parametrize("numbers", [(3, 5), (5, 2), (0, 2), (2, 0)])
def test_shared_pixels_are_counted_for_all_pairs(size, numbers):
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(n, *size, generator=generator) > 0.4 for n in numbers)
    expected = (first[:, None] & second[None]).sum((-2, -1)).numpy()
    np.testing.assert_array_equal(shared_pixels(pack_masks(first), pack_masks(second)), expected)
    np.testing.assert_array_equal(count_pixels(pack_masks(first)), first.sum((-2, -1)).numpy())


@pytest.mark.parametrize("size", [(1, 1), (4, 7), (20, 30)])
def test_every_pair_of_ids_is_counted_once_with_all_its_pixels(size):
    rng = np.random.default_rng(0)
    first, second = (rng.choice([0, 3, 16_777_215], size).astype(np.int32) for _ in range(2))
    pairs = zip(first.ravel().tolist(), second.ravel().tolist(), strict=True)
    found = pair_areas(torch.from_numpy(first), torch.from_numpy(second))
    assert {(a, b): n for a, b, n in zip(*map(np.ndarray.tolist, found), strict=True)} == Counter(
        pairs
    )
