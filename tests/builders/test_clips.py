"""The towers of a configuration: what is said if their files are missing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fvcore.common.config import CfgNode

from frozenseg.builders.clips import check_tower_files, load_backbone, load_clips
from frozenseg.config import load_config
from frozenseg.errors import UserError


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FROZENSEG_OFFLINE", "1")
    monkeypatch.setenv("FROZENSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.parametrize("search", [check_tower_files, load_backbone, load_clips])
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("frozenseg_convnext_large.yaml", "MODEL.FROZEN_SEG.CLIP_PRETRAINED_WEIGHTS"),
        ("fcclip_convnext_large.yaml", "MODEL.FC_CLIP.CLIP_PRETRAINED_WEIGHTS"),
    ],
)
def test_a_missing_tower_names_the_key_that_its_model_reads(
    name: str, key: str, search: Callable[[CfgNode], object]
) -> None:
    with pytest.raises(UserError, match=rf"clip/convnext_large\S+, or set {key} to its path"):
        search(load_config(name))


def test_a_missing_tower_of_the_regions_names_its_own_key() -> None:
    cfg = load_config(
        "frozenseg_convnext_large.yaml",
        ["MODEL.PIPELINE.REGION_CLIP_NAME", "RN50", "MODEL.PIPELINE.REGION_CLIP_WEIGHTS", "openai"],
    )
    with pytest.raises(UserError, match=r"or set MODEL\.PIPELINE\.REGION_CLIP_WEIGHTS to its path"):
        load_clips(cfg)
