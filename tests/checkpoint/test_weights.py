from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import frozenseg
from frozenseg.builders.frozenseg import build_frozenseg
from frozenseg.checkpoint.weights import (
    load_weights,
    official_state,
    open_weights,
    save_weights,
    tower_notes,
)
from frozenseg.config import ConfigError
from frozenseg.errors import UserError
from frozenseg.io.weight_files import read_weights
from frozenseg.modeling.frozenseg import FrozenSeg

THREE_LEVEL = {"MODEL__FROZEN_SEG__SAM_ATTENTION_LAYOUT": "three_level"}
SmallModel = Callable[..., FrozenSeg]


def official(model: FrozenSeg, **options: bool) -> dict[str, Tensor]:
    return official_state(model, num_classes=4, no_object_weight=0.1, **options)


def assert_same(first: FrozenSeg, second: FrozenSeg) -> None:
    ours, theirs = first.trainable_state(), second.trainable_state()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_saved_weights_come_back_and_leave_the_towers_out(
    small_model: SmallModel, tmp_path
) -> None:
    model, other = small_model(seed=1), small_model(seed=2)
    save_weights(model, tmp_path / "trained.safetensors", about={"iteration": "7"})
    load_weights(other, tmp_path / "trained.safetensors")
    assert_same(model, other)
    with safe_open(tmp_path / "trained.safetensors", framework="pt") as file:
        assert not [name for name in file.keys() if name.startswith(("clip.", "sam."))]  # noqa: SIM118
        notes = file.metadata()
    assert notes["iteration"] == "7"
    assert notes["clip"] == model.backbone.fingerprint
    assert notes["clip_name"] == "a small convnext"


@pytest.mark.parametrize("sam", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_an_official_file_loads_unchanged(small_model: SmallModel, tmp_path, sam, wrapped) -> None:
    model = small_model(seed=1, sam=sam, **THREE_LEVEL)
    state = official(model)
    torch.save({"model": state, "iteration": 3} if wrapped else state, tmp_path / "official.pth")
    other = small_model(seed=2, sam=sam, **THREE_LEVEL)
    load_weights(other, tmp_path / "official.pth")
    assert_same(model, other)


def test_the_sam_branch_is_built_in_the_layout_of_the_file(
    small_config, small_clip, small_model: SmallModel, tmp_path
) -> None:
    three = small_model(seed=1, **THREE_LEVEL)
    torch.save({"model": official(three)}, tmp_path / "official.pth")
    stored = open_weights(tmp_path / "official.pth")
    built = build_frozenseg(
        small_config(), clip=small_clip(), sam=three.sam, weights=stored.tensors
    ).eval()
    load_weights(built, tmp_path / "official.pth")
    embedding = torch.randn(1, 32, 8, 8)
    branches = [model.pixel_decoder.sam_branch for model in (three, built)]
    assert torch.equal(branches[0](embedding), branches[1](embedding))
    single = small_config(**dict.fromkeys(THREE_LEVEL, "single_level"))
    with pytest.raises(ConfigError, match="is single_level but the weights"):
        build_frozenseg(single, clip=small_clip(), sam=three.sam, weights=stored.tensors)


def test_a_file_with_other_towers_is_refused_compared_skipped_or_used(
    small_model, tmp_path
) -> None:
    model = small_model(seed=1, **THREE_LEVEL)
    with torch.no_grad():
        model.sam.model.image_encoder.neck[0].weight.add_(1.0)
    torch.save(official(model), tmp_path / "official.pth")
    other = small_model(seed=2, **THREE_LEVEL)
    with pytest.raises(
        UserError, match=r"holds another sam tower than .*other values in .*neck\.0"
    ):
        load_weights(other, tmp_path / "official.pth")
    before = other.sam.fingerprint
    load_weights(other, tmp_path / "official.pth", towers="skip")
    assert_same(model, other)
    assert other.sam.fingerprint == before
    load_weights(other, tmp_path / "official.pth", towers="use")
    assert other.sam.fingerprint == model.sam.fingerprint != before


def test_towers_rounded_on_the_way_still_count_as_the_same(small_model, tmp_path) -> None:
    model = small_model(seed=1, **THREE_LEVEL)
    state = official(model)
    key = "sam.image_encoder.neck.0.weight"
    state[key] = state[key] * (1 + 1e-7)
    torch.save(state, tmp_path / "official.pth")
    load_weights(small_model(seed=2, **THREE_LEVEL), tmp_path / "official.pth")


def test_ours_names_the_towers_and_refuses_others(small_model: SmallModel, tmp_path) -> None:
    model = small_model(seed=1)
    save_weights(model, tmp_path / "ours.safetensors")
    with torch.no_grad():
        model.backbone.model.visual.head.proj.weight.add_(1.0)
    model.backbone.__dict__.pop("_fingerprint")
    with pytest.raises(
        UserError, match=r"trained with another clip tower .* than a small convnext"
    ):
        load_weights(model, tmp_path / "ours.safetensors")
    load_weights(model, tmp_path / "ours.safetensors", towers="skip")


def test_a_file_without_towers_has_none_to_use(small_model: SmallModel, tmp_path) -> None:
    model = small_model(seed=1)
    save_weights(model, tmp_path / "ours.safetensors")
    with pytest.raises(UserError, match="holds no complete clip tower"):
        load_weights(model, tmp_path / "ours.safetensors", towers="use")


def test_weights_for_another_tower_size_name_both_sizes(small_model: SmallModel, tmp_path) -> None:
    torch.save(official(small_model("resnet", sam=False)), tmp_path / "resnet.pth")
    sentence = (
        "CLIP tower with 64/128/256/512 channels and 24-wide embeddings, but a small convnext"
    )
    with pytest.raises(UserError, match=sentence):
        load_weights(small_model("convnext", sam=False), tmp_path / "resnet.pth")


def test_weights_with_and_without_sam_are_told_apart(small_model: SmallModel, tmp_path) -> None:
    torch.save(official(small_model(**THREE_LEVEL)), tmp_path / "frozenseg.pth")
    torch.save(official(small_model(sam=False)), tmp_path / "fcclip.pth")
    with pytest.raises(UserError, match=r"holds a model with SAM.*configuration of FrozenSeg"):
        load_weights(small_model(sam=False), tmp_path / "frozenseg.pth")
    with pytest.raises(UserError, match=r"holds a model without SAM.*configuration of FC-CLIP"):
        load_weights(small_model(), tmp_path / "fcclip.pth")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.pop("sem_seg_head.predictor.query_feat.weight"), "missing .*query_features"),
        (lambda s: s.update({"sem_seg_head.more": torch.zeros(1)}), "does not know: .*more"),
        (
            lambda s: s.update({"sem_seg_head.predictor.query_feat.weight": torch.zeros(7, 32)}),
            r"query_features.weight is \(7, 32\), expected \(6, 32\)",
        ),
        (lambda s: s.pop("backbone.clip_model.logit_scale"), "another clip .*missing logit_scale"),
    ],
)  # fmt: skip
def test_every_weight_is_accounted_for(small_model, tmp_path, change, sentence: str) -> None:
    state = official(small_model(**THREE_LEVEL))
    change(state)
    torch.save(state, tmp_path / "official.pth")
    with pytest.raises(UserError, match=sentence):
        load_weights(small_model(**THREE_LEVEL), tmp_path / "official.pth")


def test_a_choice_that_does_not_exist_is_named(small_model: SmallModel, tmp_path: Path) -> None:
    save_weights(small_model(), tmp_path / "ours.safetensors")
    with pytest.raises(
        UserError, match=r"WEIGHTS_TOWERS is 'mine': set it to compare, skip or use"
    ):
        load_weights(small_model(), tmp_path / "ours.safetensors", towers="mine")


def test_no_weights_at_all_are_asked_for() -> None:
    with pytest.raises(UserError, match="is empty: set it to trained weights"):
        load_weights(None, "")


def test_a_single_level_branch_cannot_be_exported(small_model: SmallModel) -> None:
    with pytest.raises(UserError, match="SAM_ATTENTION_LAYOUT three_level to export"):
        official(small_model())


def test_parts_that_the_official_code_lacks_cannot_be_exported(small_model: SmallModel) -> None:
    wider = small_model(sam=False, MODEL__SEM_SEG_HEAD__MASK_DIM=64)
    with pytest.raises(UserError, match=r"no place for transformer_decoder\.adapt_pooled\.weight"):
        official(wider)


def test_the_official_loss_finds_its_class_weights(small_model: SmallModel) -> None:
    weights = official(small_model(sam=False))["criterion.empty_weight"]
    torch.testing.assert_close(weights, torch.tensor([1.0, 1.0, 1.0, 1.0, 0.1]))


def test_notes_name_each_tower(small_model: SmallModel) -> None:
    assert tower_notes(small_model()).keys() == {"clip", "clip_name", "sam", "sam_name"}
    assert tower_notes(small_model(sam=False)).keys() == {"clip", "clip_name"}


def test_a_checkpoints_folder_stands_for_its_weights(
    small_model: SmallModel, tmp_path: Path
) -> None:
    model = small_model(seed=1)
    save_weights(model, tmp_path / "0000100" / "weights.safetensors")
    other = small_model(seed=2)
    load_weights(other, tmp_path / "0000100")
    assert_same(model, other)


def test_numbers_are_read_as_they_were_written(small_model: SmallModel, tmp_path: Path) -> None:
    model = small_model(sam=False)
    save_weights(model, tmp_path / "a.safetensors")
    read = read_weights(tmp_path / "a.safetensors").tensors
    assert all(torch.equal(read[name], value) for name, value in model.trainable_state().items())


def test_a_whole_models_state_loads_again_whatever_wraps_it(small_model, tmp_path: Path) -> None:
    model, other = small_model(seed=1), small_model(seed=2)
    for name, wrapped in {
        "bare": model.state_dict(),
        "parallel": {f"module.{key}": value for key, value in model.state_dict().items()},
        "lightning": {"state_dict": {f"model.{k}": v for k, v in model.state_dict().items()}},
        "compiled": torch.compile(model).state_dict(),
        "system": {f"proposer.{k}": v for k, v in model.state_dict().items()}
        | {f"text_encoder.{k}": v for k, v in model.backbone.state_dict().items()},
    }.items():
        torch.save(wrapped, tmp_path / f"{name}.pth")
        for value in other.trainable_state().values():
            value.zero_()
        load_weights(other, tmp_path / f"{name}.pth")
        assert_same(model, other)


def test_the_shipped_systems_own_state_loads_again(tmp_path: Path) -> None:
    model = frozenseg.load("shapes").model
    torch.save(model.state_dict(), tmp_path / "whole.pth")
    again = frozenseg.load("shapes", weights=tmp_path / "whole.pth").model
    theirs = again.trainable_state()
    assert all(torch.equal(value, theirs[name]) for name, value in model.trainable_state().items())


def test_a_shared_weight_may_be_stored_under_either_name_but_not_with_two_values(
    small_model, tmp_path: Path
) -> None:
    model = small_model(seed=1)
    trained = model.trainable_state()
    every = {n: v.detach() for n, v in model.named_parameters(remove_duplicate=False)}
    names = {value.data_ptr(): name for name, value in trained.items()}
    kept, alias = next(
        (names[value.data_ptr()], name)
        for name, value in every.items()
        if name not in trained and value.data_ptr() in names
    )
    renamed = {alias if name == kept else name: value for name, value in trained.items()}
    torch.save(renamed, tmp_path / "alias.pth")
    other = small_model(seed=2)
    load_weights(other, tmp_path / "alias.pth")
    assert_same(model, other)
    torch.save({**trained, alias: trained[kept] + 1}, tmp_path / "two.pth")
    with pytest.raises(UserError, match=r"different values for .* which are one weight"):
        load_weights(other, tmp_path / "two.pth")


def test_half_precision_weights_and_towers_load(small_model, tmp_path: Path) -> None:
    model = small_model(seed=1, **THREE_LEVEL)
    half = {name: value.half() for name, value in official(model).items()}
    torch.save(half, tmp_path / "half.pth")
    other = small_model(seed=2, **THREE_LEVEL)
    load_weights(other, tmp_path / "half.pth")
    for name, value in model.trainable_state().items():
        assert torch.equal(other.trainable_state()[name], value.half().float()), name


@pytest.mark.parametrize("kind", [torch.int64, torch.bool])
def test_integers_in_place_of_weights_are_refused(small_model, tmp_path: Path, kind) -> None:
    model = small_model(seed=1)
    save_file({n: v.to(kind) for n, v in model.trainable_state().items()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=rf"has the type {kind}, expected torch\.float32"):
        load_weights(model, tmp_path / "w.pth")


def test_our_files_need_their_digest(small_model: SmallModel, tmp_path: Path) -> None:
    model, path = small_model(seed=1), tmp_path / "ours.safetensors"
    save_weights(model, path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="does not have the SHA-256 that was stored with it"):
        load_weights(model, path)
    save_file(model.trainable_state(), path, {"format": "frozenseg-weights-2"})
    with pytest.raises(UserError, match="has no digest"):
        load_weights(model, path)
    save_file(model.trainable_state(), path, {"format": "frozenseg-weights-1"})
    load_weights(model, path)
