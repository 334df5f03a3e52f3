import torch
from torch.nn import functional as F

from frozenseg.modeling.maskformer.pixel_decoder import FeaturePyramid


def test_coarser_maps_are_upsampled_to_nearest_cells_and_added() -> None:
    torch.manual_seed(0)
    decoder = FeaturePyramid(in_channels=(3, 4, 5, 6), dim=8, mask_dim=7, num_groups=2)
    levels = tuple(torch.randn(2, 3 + i, 16 // 2**i, 24 // 2**i) for i in range(4))

    def conv_norm(module, features):
        return F.group_norm(
            F.conv2d(features, module.weight, padding=module.weight.shape[-1] // 2),
            2,
            module.norm.weight,
            module.norm.bias,
        )

    expected = F.relu(conv_norm(decoder.outputs[3], levels[3]))
    for i in (2, 1, 0):
        nearest = expected.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        summed = conv_norm(decoder.laterals[i], levels[i]) + nearest
        expected = F.relu(conv_norm(decoder.outputs[i], summed))
    last = decoder.mask_features
    expected = F.conv2d(expected, last.weight, last.bias, padding=1)
    assert expected.shape == (2, 7, 16, 24)
    torch.testing.assert_close(decoder(levels), expected)
