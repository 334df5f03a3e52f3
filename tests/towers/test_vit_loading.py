"""CLIP files in every published form, read strictly."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from frozenseg.errors import UserError
from frozenseg.towers.clip_vit import PROMPTS, CropClip
from frozenseg.towers.loading import SHAPES
from frozenseg.towers.vit_loading import IN_OVSEG, NO_WEIGHTS, clip_weights, load_crop_clip
from tests.fixtures.ovseg import TINY_TEXT, TINY_VIT


@pytest.fixture
def folder(tmp_path: Path, tiny_vit) -> Path:
    """A tiny ViT with mask prompts of depth 3."""
    path = tmp_path / "vit"
    path.mkdir()
    sizes = {"embed_dim": 8, "vision_cfg": TINY_VIT, "text_cfg": TINY_TEXT, "quick_gelu": True}
    (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": sizes}))
    shutil.copy(SHAPES / "clip" / "bpe.txt.gz", path)
    state = {name: value.contiguous() for name, value in tiny_vit().published_state().items()}
    save_file(state, path / "open_clip_model.safetensors")
    return path


def test_a_folder_gives_its_tower_with_prompts(folder, tiny_vit) -> None:
    clip = load_crop_clip(str(folder), "", mask_prompt_depth=3)
    assert clip.fingerprint == tiny_vit().fingerprint
    crops, masks = torch.randn(1, 3, 12, 12), torch.rand(1, 12, 12) > 0.9
    torch.testing.assert_close(clip.embed_crops(crops, masks), tiny_vit().embed_crops(crops, masks))
    assert clip.encode_text(["a disc"]).shape == (1, 8)


def test_a_folder_of_another_depth_is_refused(folder) -> None:
    with pytest.raises(UserError, match=r"of depth 3, but .* is 0: set it to 3"):
        load_crop_clip(str(folder), "")


def test_a_file_overrides_the_weights_of_a_folder(folder, tiny_vit, tmp_path) -> None:
    other = tiny_vit(seed=1)
    state = {name: value.contiguous() for name, value in other.published_state().items()}
    save_file(state, tmp_path / "tuned.safetensors")
    file = str(tmp_path / "tuned.safetensors")
    clip = load_crop_clip(str(folder), file, mask_prompt_depth=3)
    assert clip.fingerprint == other.fingerprint != tiny_vit().fingerprint
    with pytest.raises(UserError, match=r"no file .*missing.safetensors"):
        load_crop_clip(str(folder), str(tmp_path / "missing.safetensors"), mask_prompt_depth=3)


def test_random_weights_ask_for_no_file(folder, tiny_vit) -> None:
    clip = load_crop_clip(str(folder), "random", mask_prompt_depth=1)
    assert clip.mask_prompt_depth == 1


def test_an_incomplete_folder_is_refused(folder) -> None:
    (folder / "bpe.txt.gz").unlink()
    with pytest.raises(UserError, match=r"bpe.txt.gz is missing"):
        load_crop_clip(str(folder), "")


def test_a_resnet_with_prompts_is_refused_before_its_weights_are_looked_for() -> None:
    with pytest.raises(UserError, match="RN50/openai has a ModifiedResNet"):
        load_crop_clip("RN50", "openai", mask_prompt_depth=3)


def written(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


class TestFiles:
    """Each form of a CLIP file holds the weights of ``tiny_vit(seed=1)``."""

    @pytest.fixture
    def state(self, tiny_vit) -> dict[str, torch.Tensor]:
        return tiny_vit(seed=1).published_state()

    @pytest.fixture
    def loaded(self, tiny_vit, monkeypatch):
        def load(path: Path, depth: int = 3, *, new_prompts: bool = False) -> CropClip:
            monkeypatch.setattr(
                "frozenseg.towers.vit_loading._named_tower", lambda *_: tiny_vit(depth)
            )
            return load_crop_clip(
                "ViT-B-16", str(path), mask_prompt_depth=depth, new_prompts=new_prompts
            )

        return load

    def test_training_checkpoints_with_a_module_prefix(
        self, tiny_vit, state, tmp_path, loaded
    ) -> None:
        content = {
            "epoch": 5,
            "name": "prompts",
            "state_dict": {f"module.{name}": value for name, value in state.items()},
            "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]},
            "scaler": {"scale": 65536.0},
        }
        clip = loaded(written(content, tmp_path / "epoch_5.pt"))
        assert clip.fingerprint == tiny_vit(seed=1).fingerprint

    def test_the_same_without_the_prefix(self, tiny_vit, state, tmp_path, loaded) -> None:
        clip = loaded(written({"state_dict": state}, tmp_path / "epoch_5.pt"))
        assert clip.fingerprint == tiny_vit(seed=1).fingerprint

    def test_openais_format_in_half_precision(self, state, tmp_path, loaded) -> None:
        """A fine-tuned CLIP: no prompts, and three numbers that are no weights."""
        content = {name: value.half() for name, value in state.items() if name != PROMPTS}
        content |= {name: torch.tensor(1) for name in NO_WEIGHTS}
        path = written(content, tmp_path / "ViT.pt")
        clip = loaded(path, 0)
        assert clip.model.visual.proj.dtype == torch.float32
        torch.testing.assert_close(
            clip.model.visual.proj, state["visual.proj"], rtol=1e-3, atol=1e-3
        )
        with pytest.raises(UserError, match=r"ViT.pt holds no mask prompts"):
            loaded(path, 3)
        assert loaded(path, 3, new_prompts=True).mask_prompt_depth == 3

    def test_the_clip_of_a_whole_checkpoint(self, tiny_vit, state, tmp_path, loaded) -> None:
        content = {IN_OVSEG + name: value for name, value in state.items()}
        content |= {name: torch.ones(1) for name in ("backbone.x", "clip_adapter.pixel_mean")}
        assert clip_weights(content).keys() == state.keys()
        clip = loaded(written({"model": content}, tmp_path / "ovseg.pth"))
        assert clip.fingerprint == tiny_vit(seed=1).fingerprint
