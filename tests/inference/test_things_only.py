"""Instance output names no stuff, whether or not panoptic output is made beside it."""

import pytest
import torch

from frozenseg.inference.outputs import OutputSettings
from frozenseg.inference.tiled_masks import whole_masks


def instances(**options: bool):
    """Two queries: a sure stuff class and a less sure thing."""
    class_probs = torch.tensor([[0.1, 0.9, 0.0], [0.6, 0.2, 0.2]])
    mask_logits = torch.full((2, 8, 8), -9.0)
    mask_logits[0, :4] = mask_logits[1, 4:] = 9.0
    settings = OutputSettings(semantic=False, instance=True, **options)
    return settings.instances_of(class_probs, whole_masks(mask_logits), torch.tensor([True, False]))


@pytest.mark.parametrize(
    "options", [{"panoptic": True}, {"panoptic": False, "things_only": True}], ids=str
)
def test_stuff_is_left_out(options):
    found = instances(**options)
    assert found.class_ids.tolist() == [0, 0]
    assert found.scores[0] == pytest.approx(0.6, abs=0.01)


def test_without_panoptic_output_stuff_stays_by_default():
    assert instances(panoptic=False).class_ids[0] == 1
