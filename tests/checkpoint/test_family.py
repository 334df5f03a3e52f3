"""Weights of the FC-CLIP family: trained towers, teachers and members beside the decoder."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F

from frozenseg.builders.adapter import build_adapter_training
from frozenseg.builders.segmenter import load_model
from frozenseg.builders.weight_conversion import fuse_adapter, to_official_layout, to_own_layout
from frozenseg.checkpoint.weights import official_state
from frozenseg.errors import UserError
from frozenseg.structures import InputImage
from frozenseg.vocabulary.content_rows import ContentRows
from frozenseg.vocabulary.text_classifier import TextClassifier
from tests.pipeline.region_classifiers.test_mask_adapter import SMALL

TRAINED_TOWER = {"sam": False, "MODEL__WEIGHTS_TOWERS": "use"}


def stem_of(model) -> torch.Tensor:
    return model.proposer.backbone.model.visual.trunk.stem[0].weight


def test_the_trained_tower_is_read_from_the_file_and_no_other_is(
    ovrcoat: Path, asked, small_config, small_clip
) -> None:
    model = load_model(small_config(**TRAINED_TOWER), ovrcoat)
    torch.testing.assert_close(
        stem_of(model), small_clip().model.visual.trunk.stem[0].weight + 1, rtol=0, atol=0
    )
    assert asked == ["random"], "the published weights are neither looked for nor downloaded"


def test_converting_keeps_the_trained_tower_and_drops_the_teacher(
    ovrcoat: Path, asked, small_config, tmp_path: Path
) -> None:
    cfg, ours = small_config(**TRAINED_TOWER), tmp_path / "ours.safetensors"
    to_own_layout(ovrcoat, ours, cfg)
    with safe_open(ours, framework="pt") as file:
        names = set(file.keys())
    assert "clip.model.visual.trunk.stem.0.weight" in names
    assert not [name for name in names if "frozen" in name]
    before, after = load_model(cfg, ovrcoat), load_model(cfg, ours)
    assert torch.equal(stem_of(before), stem_of(after))
    assert before.proposer.backbone.fingerprint == after.proposer.backbone.fingerprint


ADAPTED = {"sam": False, **SMALL}


def save_official(model, path: Path, *, without: str = "none", **extra: torch.Tensor) -> Path:
    """Writes a whole system under official names; weights that begin with ``without`` lack."""
    members = {
        prefix + name: value.detach()
        for prefix, part in model.trained_members.items()
        for name, value in part.named_parameters()
    }
    state = official_state(model.proposer, num_classes=4, no_object_weight=0.1, members=members)
    kept = {n: v for n, v in state.items() if not n.startswith(without)}
    torch.save({"model": {**kept, **extra}}, path)
    return path


@pytest.fixture
def warmup(small_system, tmp_path: Path) -> Path:
    model = small_system(seed=4, **ADAPTED)
    return save_official(model, tmp_path / "warmup.pth", without="sem_seg_head.")


@pytest.fixture
def decoder(small_system, tmp_path: Path) -> Path:
    return save_official(small_system(seed=5, sam=False), tmp_path / "fcclip.pth")


def test_an_adapters_file_loads_and_comes_back_under_official_names(
    small_system, small_config, asked, tmp_path: Path
) -> None:
    official = save_official(small_system(seed=4, **ADAPTED), tmp_path / "official.pth")
    cfg, model = small_config(**ADAPTED), small_system(seed=4, **ADAPTED)
    loaded = load_model(cfg, official)
    for name, value in model.trainable_state().items():
        assert torch.equal(loaded.trainable_state()[name], value), name
    to_own_layout(official, tmp_path / "ours.safetensors", cfg)
    to_official_layout(tmp_path / "ours.safetensors", tmp_path / "again.pth", cfg)
    first, again = (torch.load(tmp_path / name)["model"] for name in ("official.pth", "again.pth"))
    assert {n for n in first if n.startswith("mask_adapter.")} <= again.keys()
    assert all(torch.equal(value, again[n]) for n, value in first.items() if "empty" not in n)


def test_a_warm_up_is_fused_with_a_decoder_and_its_void(
    warmup: Path, decoder: Path, asked, small_config, small_system, tmp_path: Path
) -> None:
    cfg = small_config(**ADAPTED)
    fuse_adapter(warmup, decoder, tmp_path / "fused.safetensors", cfg)
    model = load_model(cfg, tmp_path / "fused.safetensors")
    adapter = small_system(seed=4, **ADAPTED).region_classifier.adapter.state_dict()
    for name, value in model.region_classifier.adapter.state_dict().items():
        assert torch.equal(value, adapter[name])
    for name, value in small_system(seed=5, sam=False).trainable_state().items():
        assert torch.equal(model.trainable_state()[name], value), name


def test_files_that_cannot_be_fused_are_named(
    warmup: Path, decoder: Path, asked, small_config, tmp_path: Path
) -> None:
    cfg, output = small_config(**ADAPTED), tmp_path / "fused.safetensors"
    with pytest.raises(UserError, match=r"fcclip\.pth holds no Mask-Adapter"):
        fuse_adapter(decoder, warmup, output, cfg)
    with pytest.raises(UserError, match=r"warmup\.pth holds no decoder"):
        fuse_adapter(warmup, warmup, output, cfg)
    state = torch.load(decoder)["model"]
    state["backbone.clip_model.visual.trunk.stem.0.weight"] += 1
    torch.save(state, decoder)
    with pytest.raises(UserError, match="hold different CLIP towers"):
        fuse_adapter(warmup, decoder, output, cfg)
    assert not output.exists()


def test_a_warm_up_alone_says_how_to_fuse_it(warmup: Path, asked, small_config) -> None:
    with pytest.raises(UserError, match=r"warm-up, without a decoder: fuse it.*--decoder"):
        load_model(small_config(**ADAPTED), warmup)


def test_an_adapter_for_another_width_names_both(
    small_system, small_config, asked, tmp_path: Path
) -> None:
    path = save_official(
        small_system(seed=4, **ADAPTED),
        tmp_path / "wide.pth",
        **{"mask_adapter.fuse.weight": torch.zeros(8, 30, 1, 1)},
    )
    with pytest.raises(UserError, match=r"for 30-wide CLIP embeddings, but .* has 24"):
        load_model(small_config(**ADAPTED), path)


def test_an_adapters_file_and_a_decoders_name_the_configuration_that_they_belong_to(
    small_system, small_config, asked, decoder: Path, tmp_path: Path
) -> None:
    path = save_official(small_system(seed=4, **ADAPTED), tmp_path / "adapted.pth")
    with pytest.raises(UserError, match="choose mask-adapter-fcclip-convnext-large"):
        load_model(small_config(sam=False), path)
    with pytest.raises(UserError, match="choose mask-adapter-fcclip-convnext-large"):
        to_own_layout(path, tmp_path / "ours.safetensors", small_config(sam=False))
    with pytest.raises(UserError, match="holds no weights of a Mask-Adapter"):
        load_model(small_config(**ADAPTED), decoder)
    fresh = load_model(small_config(**ADAPTED), decoder, for_training=True)
    assert fresh.region_classifier.adapter is not None


MAFT_PLUS = {
    **TRAINED_TOWER,
    "MODEL__PIPELINE__TEXT_ROWS": "content",
    "MODEL__FC_CLIP__GEOMETRIC_ENSEMBLE_ALPHA": 1.0,
    "MODEL__FC_CLIP__GEOMETRIC_ENSEMBLE_BETA": 1.0,
}


@pytest.fixture
def maft_plus(small_system, tmp_path: Path) -> Path:
    """A flat file, as published: the system, and the teacher."""
    path = save_official(small_system(seed=6, **MAFT_PLUS), tmp_path / "maftp.pth")
    state = torch.load(path)["model"]
    teacher = {f"backbone_t.{n.removeprefix('backbone.')}": v for n, v in state.items()}
    torch.save({**state, **teacher}, path)
    return path


def test_a_flat_maft_plus_file_loads_with_its_scrambled_map_and_keeps_it(
    maft_plus: Path, asked, small_config, small_system, tmp_path: Path
) -> None:
    cfg, ours = small_config(**MAFT_PLUS), tmp_path / "ours.safetensors"
    model = load_model(cfg, maft_plus)
    for name, value in small_system(seed=6, **MAFT_PLUS).trainable_state().items():
        assert torch.equal(model.trainable_state()[name], value), name
    assert model.text_transfer.scrambled
    to_own_layout(maft_plus, ours, cfg)
    assert load_model(cfg, ours).text_transfer.scrambled
    straight = small_config(**MAFT_PLUS, MODEL__MAFT_PLUS__IMAGE_MAP="straight")
    assert not load_model(straight, maft_plus).text_transfer.scrambled


def test_a_maft_plus_file_names_the_configuration_that_it_belongs_to(
    maft_plus: Path, decoder: Path, asked, small_config
) -> None:
    with pytest.raises(UserError, match=r"MAFT\+'s text transfer.*choose maft-plus-convnext-large"):
        load_model(small_config(sam=False), maft_plus)
    state = torch.load(maft_plus)
    state["cdt.cross_atten.MLP.weight"] = torch.zeros(640, 640)
    torch.save(state, maft_plus)
    with pytest.raises(UserError, match="choose maft-plus-convnext-base"):
        load_model(small_config(sam=False), maft_plus)
    with pytest.raises(UserError, match=r"holds no weights of MAFT\+'s text transfer"):
        load_model(small_config(**MAFT_PLUS), decoder)


def test_maft_plus_takes_classes_from_clip_and_the_image_and_void_from_the_decoder(
    small_system,
) -> None:
    model = small_system(seed=6, **MAFT_PLUS)
    words = TextClassifier(F.normalize(torch.randn(3, 24), dim=-1), torch.arange(3))
    rows = ContentRows(words, model.text_transfer)
    pixels = torch.rand(3, 64, 64) * 255
    image = InputImage(pixels, pixels.to(torch.uint8), (64, 64))
    (found,) = model.proposer.propose([image], rows)
    probs = model.class_probs(image, found, rows, torch.tensor([True, False, True])).general
    regions = model.region_classifier(image, found)
    adapted = model.text_transfer(words.embeddings, found.clip_map.features)
    cosines = F.normalize(regions.embeddings, dim=-1) @ adapted.T
    classes = (regions.logit_scale * cosines).softmax(dim=-1)
    void = found.class_logits.softmax(dim=-1)[:, -1:]
    torch.testing.assert_close(probs, torch.cat([classes * (1 - void), void], dim=-1))
    assert not torch.allclose(adapted, words.embeddings)


def test_an_adapter_on_maft_plus_reads_its_scrambled_map_and_keeps_its_text_transfer(
    maft_plus: Path, warmup: Path, asked, small_config, small_system, tmp_path: Path
) -> None:
    """The warm-up is of the CLIP that MAFT+ trained."""
    keys = {**MAFT_PLUS, **SMALL, "MODEL__BACKBONE__FREEZE": True}
    cfg, fused = small_config(**keys), tmp_path / "fused.safetensors"
    fuse_adapter(warmup, maft_plus, fused, cfg)
    model = load_model(cfg, fused)
    system, transfer = small_system(seed=6, **MAFT_PLUS), model.text_transfer
    for name, value in system.text_transfer.network.state_dict().items():
        assert torch.equal(transfer.network.state_dict()[name], value)
    assert transfer.scrambled
    features = torch.randn(1, system.proposer.backbone.channels[-1], 2, 3)
    own = model.region_classifier.embedding_map(features)
    rows = features.flatten().view(6, -1)  # six cells' worth of memory, in its order
    expected = model.proposer.backbone.embed_features(rows).T.view(1, 24, 2, 3)
    torch.testing.assert_close(own, expected)
    with pytest.raises(UserError, match="evaluated, not trained"):
        build_adapter_training(cfg, model)
