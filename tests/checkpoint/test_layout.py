import pytest
import torch

from frozenseg.checkpoint.layout import choose_layout, stored_layout
from frozenseg.checkpoint.weights import official_state
from frozenseg.errors import ConfigError

THREE_LEVEL = {"MODEL__FROZEN_SEG__SAM_ATTENTION_LAYOUT": "three_level"}


def test_the_layout_is_read_off_the_weights_alone(small_model) -> None:
    single, three = small_model(), small_model(**THREE_LEVEL)
    assert stored_layout(single.trainable_state()) == "single_level"
    assert stored_layout(three.trainable_state()) == "three_level"
    assert stored_layout(three.state_dict()) == "three_level"
    whole = {f"proposer.{name}": value for name, value in single.state_dict().items()}
    assert stored_layout(whole) == "single_level"
    official = official_state(three, num_classes=4, no_object_weight=0.1)
    assert stored_layout(official) == "three_level"
    assert stored_layout(small_model(sam=False).trainable_state()) is None


def weights_of(levels: int) -> dict[str, torch.Tensor]:
    return {"pixel_decoder.sam_branch.encoder.level_embedding": torch.zeros(levels, 8)}


def test_from_weights_follows_the_weights_and_is_single_level_without_any() -> None:
    assert choose_layout("from_weights", weights_of(3)) == "three_level"
    assert choose_layout("from_weights", weights_of(1)) == "single_level"
    assert choose_layout("from_weights") == choose_layout("from_weights", {}) == "single_level"


def test_an_explicit_layout_is_kept_or_contradicted_by_the_file() -> None:
    assert choose_layout("three_level") == choose_layout("three_level", {}) == "three_level"
    assert choose_layout("three_level", weights_of(3)) == "three_level"
    with pytest.raises(ConfigError, match=r"is single_level but the weights of w\.pth are three"):
        choose_layout("single_level", weights_of(3), source="w.pth")
