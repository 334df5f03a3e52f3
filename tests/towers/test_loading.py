from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import frozenseg
from frozenseg.errors import UserError
from frozenseg.towers import loading
from frozenseg.towers.clip import ConvNeXtClip, ResNetClip
from frozenseg.towers.loading import RANDOM, load_clip, load_sam


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FROZENSEG_OFFLINE", "1")
    monkeypatch.setenv("FROZENSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def on_meta():
    """Builds shapes, not weights."""
    with torch.device("meta"):
        yield


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize(
    ("name", "kind", "channels", "width"),
    [
        ("RN50", ResNetClip, (256, 512, 1024, 2048), 1024),
        ("RN50x64", ResNetClip, (512, 1024, 2048, 4096), 1024),
        ("convnext_base_w_320", ConvNeXtClip, (128, 256, 512, 1024), 640),
        ("convnext_large_d_320", ConvNeXtClip, (192, 384, 768, 1536), 768),
    ],
)
def test_clip_towers_know_their_widths(name: str, kind: type, channels, width: int) -> None:
    tower = load_clip(name, RANDOM)
    assert isinstance(tower, kind)
    assert (tower.channels, tower.embed_dim) == (channels, width)
    assert tower.name == f"{name}/random"


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize(
    ("name", "encoder_parameters"),
    [("vit_t", 5_743_892), ("vit_b", 89_670_912), ("vit_l", 308_278_272), ("vit_h", 637_026_048)],
)
def test_sam_towers_have_the_published_sizes(name: str, encoder_parameters: int) -> None:
    tower = load_sam(name, RANDOM)
    encoder = tower.model.image_encoder
    assert sum(p.numel() for p in encoder.parameters()) == encoder_parameters
    assert (tower.image_size, tower.out_channels) == (1024, 256)


@pytest.mark.usefixtures("on_meta")
def test_openais_resnets_use_the_activation_they_were_trained_with() -> None:
    activation = load_clip("RN50", RANDOM).model.transformer.resblocks[0].mlp.gelu
    assert type(activation).__name__ == "QuickGELU"
    activation = load_clip("convnext_base_w_320", RANDOM).model.transformer.resblocks[0].mlp.gelu
    assert type(activation).__name__ == "GELU"


@pytest.mark.parametrize(
    ("name", "pretrained", "sentence"),
    [
        ("RN50x65", "openai", "no CLIP named 'RN50x65': did you mean 'RN50x64'"),
        ("ViT-B-32", RANDOM, "has a VisionTransformer image encoder: choose a ConvNeXt or ResNet"),
        (
            "RN50",
            "laion",
            r"'laion' is neither a tag of RN50 \(openai, yfcc15m, cc12m\) nor a file",
        ),
        ("RN50", "", "'' is neither a tag"),
        ("RN50", "somewhere/rn50.pt", "no weights file somewhere/rn50.pt"),
    ],
)
def test_a_clip_that_cannot_be_had_is_explained(name, pretrained, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load_clip(name, pretrained)


def test_without_a_network_the_clip_file_and_its_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        load_clip("convnext_large_d_320", "laion2b_s29b_b131k_ft_soup")
    name = "convnext_large_d_320-laion2b_s29b_b131k_ft_soup.safetensors"
    for part in (
        "https://huggingface.co/laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup/",
        str(tmp_path / "cache" / "clip" / name),
        "CLIP_PRETRAINED_WEIGHTS",
        "downloads are switched off",
    ):
        assert part in str(raised.value)


def test_a_tag_can_name_a_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = {}

    def hub_file(repository: str, names, *, revision: str | None) -> Path:
        asked[repository] = revision
        return tmp_path / "file"

    monkeypatch.setattr(loading, "hub_file", hub_file)
    loading.clip_file("RN50", "openai@0123abc")
    assert list(asked.values()) == ["0123abc"]
    loading.clip_file("RN50", "openai")
    assert list(asked.values()) == [None]


def test_missing_towers_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 files are missing") as raised:
        frozenseg.load("frozenseg-convnext-large", weights=save_empty(tmp_path))
    for part in ("open_clip_model.safetensors", "sam_vit_b_01ec64.pth", str(tmp_path / "cache")):
        assert part in str(raised.value)


def save_empty(folder: Path) -> Path:
    save_file({"x": torch.zeros(1)}, folder / "head.safetensors")
    return folder / "head.safetensors"


def test_a_clip_file_put_in_the_cache_is_taken(monkeypatch, tmp_path: Path) -> None:
    source = load_clip("RN50", RANDOM)
    place = tmp_path / "cache" / "clip" / "RN50-openai.safetensors"
    place.parent.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in source.model.state_dict().items()}, place)
    assert load_clip("RN50", "openai").fingerprint == source.fingerprint
    assert load_clip("RN50", str(place)).fingerprint == source.fingerprint
    with pytest.raises(UserError, match="does not fit CLIP_MODEL_NAME RN101"):
        load_clip("RN101", str(place))


def test_a_sam_file_that_does_not_fit_says_what_it_looks_like(tmp_path: Path) -> None:
    positions = torch.zeros(1, 64, 64, 1280)
    torch.save({"image_encoder.pos_embed": positions}, tmp_path / "sam.pth")
    with pytest.raises(
        UserError, match=r"does not fit MODEL.SAM_NAME 'vit_b' .*looks like 'vit_h'"
    ):
        load_sam("vit_b", str(tmp_path / "sam.pth"))


def test_mobile_sams_own_file_fits_with_its_unused_classifier(tmp_path: Path) -> None:
    source = load_sam("vit_t", RANDOM)
    state = dict(source.model.state_dict())
    state["image_encoder.norm_head.weight"] = torch.ones(320)
    state["image_encoder.head.weight"] = torch.zeros(1000, 320)
    torch.save(state, tmp_path / "mobile_sam.pt")
    assert load_sam("vit_t", str(tmp_path / "mobile_sam.pt")).fingerprint == source.fingerprint


def test_an_unknown_sam_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"no SAM named 'vit_x': set .*vit_t, vit_b, vit_l, vit_h"):
        load_sam("vit_x")


def test_published_sam_files_are_pinned_by_whole_hashes() -> None:
    for published in loading.SAM_FILES.values():
        assert len(published.sha256) == 64
        assert published.url.startswith("https://")


def test_the_miniature_towers_load_by_name() -> None:
    clip, sam = load_clip("shapes", ""), load_sam("shapes")
    assert isinstance(clip, ConvNeXtClip)
    assert (clip.name, sam.name) == ("shapes", "shapes")
    assert clip.encode_text(["a red circle"]).shape == (1, clip.embed_dim)
    features = clip(torch.zeros(1, 3, 64, 64))
    assert [level.shape[-1] for level in features.levels] == [16, 8, 4, 2]


@pytest.mark.network
def test_mobile_sam_comes_from_its_publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FROZENSEG_OFFLINE")
    assert load_sam("vit_t").image_size == 1024
