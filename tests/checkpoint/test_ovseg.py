"""Names of the released OVSeg checkpoints, both ways."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor

from frozenseg.checkpoint.ovseg import from_official, to_official
from frozenseg.pipeline.region_classifiers.masked_crops import MaskedCrops
from frozenseg.towers.clip_vit import CropClip
from frozenseg.towers.loading import open_clip_config

MODELS = {"r101c_vitb16": "ViT-B-16", "swinb_vitl14": "ViT-L-14"}
NUM_KEYS = {"r101c_vitb16": 983, "swinb_vitl14": 954}
NO_WEIGHTS = {"r101c_vitb16": 3, "swinb_vitl14": 3 + 24}  # Swin stores an index per block


def released(golden: Path, model: str) -> dict[str, Tensor]:
    """Every key of a released file with its shape; running indices are counted up."""
    case = json.loads((golden / "ovseg_second_stage.json").read_text())
    patterns = case["released_checkpoints"]["models"][model]["patterns"]
    state = {}
    for pattern, facts in patterns.items():
        for index in range(facts["count"]):
            shape = facts["shapes"][min(index, len(facts["shapes"]) - 1)]
            state[pattern.replace("{i}", str(index))] = torch.empty(shape, device="meta")
    values = {"mean": (122.7709383, 116.7460125, 104.09373615)}
    values["std"] = (68.5005327, 66.6321579, 70.32316305)
    for name, value in values.items():
        state[f"clip_adapter.pixel_{name}"] = torch.tensor(value).view(1, 3, 1, 1)
    return state


@pytest.mark.golden
@pytest.mark.parametrize("model", MODELS)
def test_every_released_name_has_one_of_ours_and_comes_back(golden, model) -> None:
    state = released(golden, model)
    assert len(state) == NUM_KEYS[model]
    ours, unknown = from_official(state)
    assert unknown == []
    assert len(ours) == len(state) - NO_WEIGHTS[model]
    back, unknown = to_official(ours)
    assert unknown == []
    assert {name: value.shape for name, value in back.items()} == {
        name: value.shape for name, value in state.items()
    }
    for name in ("clip_adapter.pixel_mean", "clip_adapter.pixel_std"):
        torch.testing.assert_close(back[name], state[name])


@pytest.mark.golden
@pytest.mark.parametrize("model", MODELS)
def test_the_region_classifier_has_exactly_the_released_weights(golden, model) -> None:
    config = open_clip_config(MODELS[model])
    assert config["quick_gelu"]
    with torch.device("meta"):
        clip = open_clip.CLIP(**config)
        tower = CropClip(clip, tokenize=torch.tensor, mask_prompt_depth=3)
    state = MaskedCrops(clip=tower).state_dict()
    own = {f"region_classifier.{name}": value.shape for name, value in state.items()}
    ours, _ = from_official(released(golden, model))
    assert own == {n: v.shape for n, v in ours.items() if n.startswith("region_classifier.")}


def test_unknown_names_are_listed_on_both_sides() -> None:
    one = torch.zeros(1)
    assert from_official({"clip_adapter.other": one, "ema.x": one}) == (
        {},
        ["clip_adapter.other", "ema.x"],
    )
    state = {"region_classifier.other": one, "clip.model.x": one, "proposer.other": one}
    _, unknown = to_official(state)
    assert sorted(unknown) == sorted(state)


def test_another_normalisation_is_not_dropped_silently() -> None:
    mean = torch.tensor((123.675, 116.28, 103.53)).view(1, 3, 1, 1)
    _, unknown = from_official({"clip_adapter.pixel_mean": mean})
    assert unknown == ["clip_adapter.pixel_mean"]
