import math

import open_clip
import pytest
import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn

from frozenseg.io.weight_files import assign_weights
from frozenseg.towers.sam_folder import sam_from_config
from frozenseg.towers.tiny_vit import TinyVit
from frozenseg.towers.uninitialized import initialized

RESNET = {
    "embed_dim": 8,
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32},
    "text_cfg": {"context_length": 8, "vocab_size": 516, "width": 16, "heads": 2, "layers": 1},
}
SAM = {
    "image_size": 32,
    "patch_size": 8,
    "out_channels": 16,
    "encoder": {"embed_dim": 16, "depth": 1, "num_heads": 2, "use_rel_pos": True},
    "transformer": {"depth": 1, "num_heads": 2, "mlp_dim": 16},
    "decoder": {"num_multimask_outputs": 3, "iou_head_depth": 2, "iou_head_hidden_dim": 8},
}


def clip() -> open_clip.CLIP:
    return open_clip.CLIP(**RESNET)


def sam() -> Sam:
    return sam_from_config(SAM)


def tiny_vit() -> TinyVit:
    return TinyVit(depths=(1, 1, 1, 1), image_size=64)


@pytest.mark.parametrize("build", [clip, sam, tiny_vit])
def test_a_model_that_was_never_drawn_is_the_drawn_one_once_its_weights_are_loaded(build) -> None:
    drawn = build()
    with initialized(False):
        model = build()
    for value in model.parameters():
        value.data.fill_(math.nan)  # whatever is not replaced shows
    assign_weights(model, drawn.state_dict())
    assert_equal(dict(drawn.named_parameters()), dict(model.named_parameters()))
    assert_equal(dict(drawn.named_buffers()), dict(model.named_buffers()))  # also those of no file


def test_no_number_is_drawn_and_no_memory_written() -> None:
    before = torch.get_rng_state()
    with initialized(False):
        layer = nn.Linear(4, 4)
        nn.init.constant_(layer.weight, 7.0)
        nn.init.zeros_(tensor=layer.bias)
        layer.weight.data.copy_(torch.full((4, 4), 5.0))  # not a parameter but its data
        nn.init.normal_(layer.weight)
    assert torch.equal(torch.get_rng_state(), before)
    assert (layer.weight == 5).all()


def test_parameters_are_drawn_where_that_is_wanted() -> None:
    with initialized(True):
        layer = nn.Linear(4, 4)
        nn.init.constant_(layer.weight, 7.0)
    assert (layer.weight == 7).all()


def assert_equal(expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
