"""Every model of the project is built on the meta device: sizes without weights."""

import gzip
import json
from pathlib import Path

import pytest
import torch

from frozenseg.analysis.parameter_summary import summarize
from frozenseg.builders.frozenseg import frozenseg_outline
from frozenseg.checkpoint.official import from_official
from frozenseg.checkpoint.weights import official_state
from frozenseg.config import CONFIG_ROOT, ConfigError, load_config
from frozenseg.modeling.deformable_encoder import DeformableAttention
from frozenseg.modeling.frozenseg import FrozenSeg

GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = sorted(path.name for path in CONFIG_ROOT.glob("*.yaml") if path.name != "base.yaml")


def build(name: str, *overrides: str) -> FrozenSeg:
    return frozenseg_outline(load_config(name, overrides))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_file_builds(name: str) -> None:
    model = build(name)
    sizes = {size.part: size for size in summarize(model)}
    assert sizes["all"].trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert ("SAM image encoder" in sizes) == name.startswith("frozenseg")


@pytest.mark.golden
@pytest.mark.parametrize(
    "name", ["frozenseg_convnext_large", "frozenseg_rn50x64", "fcclip_convnext_large"]
)
def test_names_shapes_and_counts_are_those_of_the_official_model(name: str) -> None:
    recorded = json.loads(gzip.decompress((GOLDEN / f"keys_{name}.json.gz").read_bytes()))
    model = build(f"{name}.yaml")
    state = official_state(model, num_classes=133, no_object_weight=0.1)
    assert {key: list(value.shape) for key, value in state.items()} == {
        key: facts["shape"] for key, facts in recorded["state_dict"].items()
    }
    sizes = {size.part: size for size in summarize(model)}
    assert sizes["all"].trained == recorded["trainable_parameters"]
    assert sizes["all"].frozen == recorded["frozen_parameters"]
    assert sizes["CLIP image encoder"].frozen == recorded["frozen_clip_visual"]
    text = sizes["CLIP text encoder"].frozen - 1  # the scale is CLIP's, not the text encoder's
    assert sizes["all"].frozen - text == recorded["frozen_parameters_excluding_text_encoder"]
    if model.sam is not None:
        assert sizes["SAM image encoder"].frozen == recorded["frozen_sam_image_encoder"]


def test_trained_parameters_are_the_official_ones() -> None:
    name = "keys_frozenseg_convnext_large.json.gz"
    recorded = json.loads(gzip.decompress((GOLDEN / name).read_bytes()))
    names, unknown = from_official(dict.fromkeys(recorded["trainable"], torch.zeros(0)))
    assert not unknown
    assert names.keys() == build("frozenseg_convnext_large.yaml").trainable_state().keys()


def test_a_single_level_sam_branch_is_a_third_as_wide_where_it_looks_for_points() -> None:
    def attention(layout: str) -> DeformableAttention:
        model = build(
            "frozenseg_convnext_large.yaml", "MODEL.FROZEN_SEG.SAM_ATTENTION_LAYOUT", layout
        )
        return model.pixel_decoder.sam_branch.encoder.layers[0].attention

    three, single = attention("three_level"), attention("single_level")
    assert three.sampling_offsets.weight.shape == (192, 256)
    assert single.sampling_offsets.weight.shape == (64, 256)
    assert three.attention_weights.weight.shape == (96, 256)
    assert single.attention_weights.weight.shape == (32, 256)


def test_a_model_without_injectors_has_no_sam() -> None:
    layers = ["MODEL.FROZEN_SEG.QUERY_INJECTOR_LAYERS", "()"]
    layers += ["MODEL.FROZEN_SEG.FEATURE_INJECTOR_LAYERS", "()"]
    bare = build("frozenseg_convnext_large.yaml", *layers)
    baseline = build("fcclip_convnext_large.yaml")
    assert bare.sam is None
    assert bare.trainable_state().keys() == baseline.trainable_state().keys()


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("MODEL.FROZEN_SEG.EMBED_DIM", "640", "EMBED_DIM is 640 but .*: set it to 768"),
        ("MODEL.FROZEN_SEG.QUERY_INJECTOR_LAYERS", "(10,)", "names layer 10: layers are 1 to 9"),
        ("MODEL.SEM_SEG_HEAD.CONVS_DIM", "128", "CONVS_DIM is 128 but .*HIDDEN_DIM is 256"),
        ("MODEL.META_ARCHITECTURE", "MaskFormer", "'FrozenSeg' or 'FCCLIP'"),
        ("MODEL.FROZEN_SEG.SAM_ATTENTION_LAYOUT", "two", "'single_level' or 'three_level'"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_built_says_why(key: str, value: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build("frozenseg_convnext_large.yaml", key, value)
