"""CLIP files in every published form, read strictly."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from frozenseg.data.shapes import all_names
from frozenseg.data.shapes.windows import render_window
from frozenseg.data.shapes.words import STUFF, Thing
from frozenseg.errors import UserError
from frozenseg.towers.clip_vit import PROMPTS, CropClip
from frozenseg.towers.loading import SHAPES_CLIPS, load_clip
from frozenseg.towers.vit_loading import IN_OVSEG, NO_WEIGHTS, clip_weights, load_crop_clip


@pytest.fixture
def folder(tiny_vit_folder: Path) -> Path:
    return tiny_vit_folder


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


def test_prompts_may_be_missing_where_a_proposer_trains(folder, tiny_vit, tmp_path: Path) -> None:
    state = {name: value.contiguous() for name, value in tiny_vit(0).published_state().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    clip = load_crop_clip(str(folder), "", mask_prompt_depth=3, prompts_optional=True)
    assert clip.mask_prompts is None and clip.fingerprint == tiny_vit(0).fingerprint


def test_a_tower_for_text_passes_prompts_over(folder, tiny_vit) -> None:
    clip = load_crop_clip(str(folder), "", prompts_optional=True)
    assert clip.fingerprint == tiny_vit(0).fingerprint


def test_a_folder_with_a_broken_config_is_refused(folder) -> None:
    for content in ("{", "[]", '{"model_cfg": {"embed_dim": 8}}'):
        (folder / "open_clip_config.json").write_text(content)
        with pytest.raises(UserError, match=r"open_clip_config\.json"):
            load_crop_clip(str(folder), "")


class TestMiniature:
    """The ViT of the shapes world, which ships with the package."""

    def test_it_is_small_and_has_the_text_rows_of_the_convnext(self) -> None:
        files = list(SHAPES_CLIPS["shapes_vit"].iterdir())
        assert sum(file.stat().st_size for file in files) < 4e6
        clip, convnext = load_crop_clip("shapes_vit", ""), load_clip("shapes", "")
        names = list(all_names())
        rows, others = (F.normalize(each.encode_text(names), dim=-1) for each in (clip, convnext))
        assert (rows * others).sum(1).min() > 0.999, "quick GELU changes the rows a little"

    def test_it_names_things_and_grounds(self) -> None:
        clip, rng = load_crop_clip("shapes_vit", ""), np.random.default_rng(0)
        subjects = [*STUFF, *(Thing(shape, "red", "plain") for shape in ("star", "ring", "heart"))]
        windows = [torch.from_numpy(render_window(rng, each, 64)) for each in subjects]
        pixels = torch.stack([window.permute(2, 0, 1).float() for window in windows])
        crops = clip.normalize(list(F.interpolate(pixels, clip.image_size)), clip.image_size)
        names = [each if isinstance(each, str) else each.name for each in subjects]
        similar = clip.embed_crops(crops) @ F.normalize(clip.encode_text(names), dim=-1).T
        assert (similar.argmax(1) == torch.arange(len(names))).float().mean() > 0.8

    def test_it_can_have_new_mask_prompts(self) -> None:
        clip = load_crop_clip("shapes_vit", "", mask_prompt_depth=3, new_prompts=True)
        assert clip.mask_prompts is not None and clip.mask_prompts.shape == (3, 36, 96)
