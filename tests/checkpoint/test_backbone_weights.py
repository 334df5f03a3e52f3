"""An image classifier's weights as a backbone: timm's Swin, the authors' Swin, and a ResNet."""

from pathlib import Path

import pytest
import torch
from timm.models.swin_transformer import SwinTransformer as TimmSwin

from frozenseg.checkpoint.backbone_weights import load_backbone
from frozenseg.errors import UserError
from frozenseg.modeling.maskformer.resnet import DeepLabResNet
from frozenseg.modeling.maskformer.swin import SwinTransformer

SIZES = {"depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2)}


def swin(seed: int = 0) -> SwinTransformer:
    torch.manual_seed(seed)
    return SwinTransformer(dim=8, window=4, **SIZES)


def test_timms_swin(tmp_path: Path) -> None:
    theirs = TimmSwin(img_size=128, embed_dim=8, window_size=4, num_classes=10, **SIZES)
    torch.save(theirs.state_dict(), tmp_path / "swin.pth")
    own = swin()
    load_backbone(own, str(tmp_path / "swin.pth"))
    assert torch.equal(own.patch_embed.proj.weight, theirs.patch_embed.proj.weight)
    assert torch.equal(
        own.layers[0].downsample.reduction.weight, theirs.layers[1].downsample.reduction.weight
    )
    assert torch.equal(
        own.layers[2].blocks[1].attn.qkv.bias, theirs.layers[2].blocks[1].attn.qkv.bias
    )
    assert (own.norm3.weight == 1).all(), "a classifier has no output norms"


def test_the_authors_swin_with_its_head_and_computed_values(tmp_path: Path) -> None:
    theirs = {name: value for name, value in swin(1).state_dict().items() if name[:4] != "norm"}
    extra = {
        "head.weight": torch.zeros(10, 64),
        "norm.weight": torch.zeros(64),
        "layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16),
        "layers.2.blocks.1.attn_mask": torch.zeros(4, 16, 16),
    }
    torch.save({"model": theirs | extra}, tmp_path / "swin.pth")
    own = swin()
    load_backbone(own, str(tmp_path / "swin.pth"))
    assert all(torch.equal(own.state_dict()[name], value) for name, value in theirs.items())


def test_a_resnet_with_its_statistics(tmp_path: Path) -> None:
    def resnet() -> DeepLabResNet:
        return DeepLabResNet(depths=(1, 1, 1, 3), width=2, stem_channels=8)

    theirs = resnet().state_dict()
    theirs["res5.2.conv3.norm.running_var"].fill_(3)
    torch.save(theirs | {"stem.fc.weight": torch.zeros(2, 2)}, tmp_path / "resnet.pth")
    own = resnet()
    load_backbone(own, str(tmp_path / "resnet.pth"))
    assert all(torch.equal(value, theirs[name]) for name, value in own.state_dict().items())


def test_weights_that_do_not_fit_are_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    state = swin(1).state_dict()
    del state["layers.1.blocks.0.mlp.fc1.bias"]
    state["layers.9.other"] = torch.zeros(1)
    torch.save(state, tmp_path / "swin.pth")
    own = swin()
    before = own.patch_embed.proj.weight.clone()
    with pytest.raises(UserError, match=r"missing layers\.1.*fc1\.bias; unknown layers\.9\.other"):
        load_backbone(own, str(tmp_path / "swin.pth"))
    assert torch.equal(own.patch_embed.proj.weight, before)


def test_the_name_of_a_swin_is_a_file_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = TimmSwin(img_size=128, embed_dim=8, window_size=4, num_classes=10, **SIZES)
    torch.save(theirs.state_dict(), tmp_path / "swin.pth")
    asked = []

    def hub_file(repository: str, names: tuple[str, ...], *, revision: str | None) -> Path:
        asked.append((repository, names[0], revision))
        return tmp_path / "swin.pth"

    monkeypatch.setattr("frozenseg.checkpoint.backbone_weights.hub_file", hub_file)
    name = "swin_base_patch4_window12_384.ms_in22k"
    own = swin()
    load_backbone(own, f"{name}@0123abc")
    load_backbone(own, name)
    assert torch.equal(own.patch_embed.proj.weight, theirs.patch_embed.proj.weight)
    assert asked == [(f"timm/{name}", "model.safetensors", each) for each in ("0123abc", None)]


@pytest.mark.parametrize("name", ["swin_base_patch4_window12_384.none", "resnet50.a1", "x" * 999])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="neither a file nor a Swin of timm"):
        load_backbone(swin(), name)


def test_nothing_is_downloaded_where_that_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROZENSEG_OFFLINE", "1")
    message = r"downloads are switched off\): download https://.*, or set MODEL.BACKBONE.WEIGHTS"
    with pytest.raises(UserError, match=message):
        load_backbone(swin(), "swin_base_patch4_window12_384.ms_in22k")
