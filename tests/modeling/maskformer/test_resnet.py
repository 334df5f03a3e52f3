import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from frozenseg.modeling.maskformer.resnet import DeepLabResNet

TINY = {"depths": (1, 1, 2, 3), "width": 4, "stem_channels": 8}


def tiny(**changes) -> DeepLabResNet:
    torch.manual_seed(0)
    return DeepLabResNet(**(TINY | changes))


def test_outputs_are_at_strides_4_to_32() -> None:
    model = tiny()
    levels = model(torch.rand(2, 3, 64, 96))
    assert model.channels == (16, 32, 64, 128)
    assert [tuple(level.shape) for level in levels] == [
        (2, 16, 16, 24),
        (2, 32, 8, 12),
        (2, 64, 4, 6),
        (2, 128, 2, 3),
    ]


def test_res5_has_a_multi_grid_and_strides_are_in_the_3x3_convolutions() -> None:
    model = tiny()
    grid = [block.conv2.dilation for block in model.res5]
    assert grid == [(1, 1), (2, 2), (4, 4)]
    assert [block.conv2.padding for block in model.res5] == grid
    assert {block.conv2.dilation for block in [*model.res2, *model.res3, *model.res4]} == {(1, 1)}
    first = model.res3[0]
    assert (first.conv1.stride, first.conv2.stride, first.shortcut.stride) == (
        (1, 1),
        (2, 2),
        (2, 2),
    )
    assert model.res2[0].conv2.stride == model.res5[1].conv2.stride == (1, 1)


def test_a_dilated_block_sees_four_cells_away() -> None:
    block = tiny().res5[2]
    features = torch.rand(1, 128, 9, 9, requires_grad=True)
    block(features)[0, :, 4, 4].sum().backward()
    seen = features.grad[0].abs().sum(0) > 0
    assert {tuple(cell) for cell in seen.nonzero().tolist()} == {
        (row, column) for row in (0, 4, 8) for column in (0, 4, 8)
    }


def test_one_dilation_per_block_is_needed() -> None:
    with pytest.raises(ValueError, match="res5 has 3 blocks, but 2 dilations"):
        tiny(multi_grid=(1, 2))


def test_frozen_parts_and_norms_do_not_change_in_training() -> None:
    model = tiny(freeze_at=2).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(torch.rand(2, 3, 64, 64))[-1].square().mean().backward()
    optimizer.step()
    changed = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed and all(name.startswith(("res3", "res4", "res5")) for name in changed)
    assert not any("norm" in name for name in changed)


def test_norms_train_if_they_are_not_frozen_except_in_frozen_parts() -> None:
    model = tiny(frozen_norm=False, freeze_at=1)
    assert isinstance(model.stem.conv1.norm, FrozenBatchNorm2d)
    assert isinstance(model.res2[0].conv1.norm, nn.BatchNorm2d)
    assert model.res2[0].conv1.norm.weight.requires_grad
