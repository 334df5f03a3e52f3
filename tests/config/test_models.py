"""Model names, folders and files: which configuration and which weights they stand for."""

from pathlib import Path

import pytest

import frozenseg
from frozenseg.config import CONFIG_ROOT, load_config, model_files, model_names
from frozenseg.errors import UserError


def test_every_shipped_model_has_a_name_and_a_configuration_that_loads() -> None:
    names = model_names()
    assert {"shapes", "frozenseg-convnext-large", "fcclip-rn50", "ovseg-swin-base-vit-l14"} <= set(
        names
    )
    stems = [files.config.stem for files in names.values()]
    assert len(set(stems)) == len(stems)
    for files in names.values():
        assert load_config(files.config).MODEL.META_ARCHITECTURE in ("FrozenSeg", "FCCLIP")


def test_a_value_of_a_wrong_type_is_no_model() -> None:
    with pytest.raises(UserError, match="1 is not a model: give a name or a path as text"):
        model_files(1)  # type: ignore[arg-type]


def test_the_configuration_of_a_models_folder_names_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("SEED: 1\n")
    (tmp_path / "config.json").write_text('{"_BASE_": "other.yaml"}')
    with pytest.raises(UserError, match=r"config\.json has the _BASE_ 'other\.yaml', which the"):
        load_config(model_files(tmp_path).config)


def test_parts_of_configurations_are_no_models() -> None:
    assert not {"base", "ade20k-150", "alpha-0.0", "short-schedule"} & set(model_names())


def test_only_the_miniature_model_ships_with_weights() -> None:
    assert {name for name, files in model_names().items() if files.weights} == {"shapes"}
    assert str(model_names()["shapes"].weights) == frozenseg.model_config("shapes").MODEL.WEIGHTS


def test_a_name_and_its_file_give_the_same_configuration() -> None:
    by_name = frozenseg.model_config("fcclip-rn50")
    assert by_name == frozenseg.model_config(CONFIG_ROOT / "fcclip_rn50.yaml")
    assert by_name.MODEL.FC_CLIP.CLIP_MODEL_NAME == "RN50"


class TestFolder:
    def test_its_configuration_and_the_final_weights_are_used(self, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_text("SEED: 7\n")
        for name in ("weights.safetensors", "model_final.safetensors"):
            (tmp_path / name).touch()
        cfg = frozenseg.model_config(tmp_path)
        assert cfg.SEED == 7
        assert str(tmp_path / "model_final.safetensors") == cfg.MODEL.WEIGHTS

    def test_weights_that_are_given_win(self, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_text("SEED: 7\n")
        (tmp_path / "model_final.safetensors").touch()
        other = tmp_path / "other.pth"
        other.touch()
        assert str(other) == frozenseg.model_config(tmp_path, weights=other).MODEL.WEIGHTS

    def test_without_a_configuration_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"has no config\.yaml"):
            model_files(tmp_path)

    def test_without_weights_names_the_file_to_add(self, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_text("SEED: 7\n")
        with pytest.raises(UserError, match=r"in the folder under the name model_final\.safetens"):
            frozenseg.load(tmp_path)


def test_a_model_without_weights_names_the_file_that_is_needed() -> None:
    with pytest.raises(UserError, match=r"comes without weights.*frozenseg_convnext_large\.pth"):
        frozenseg.load("frozenseg-convnext-large")


def test_weights_that_do_not_exist_are_noticed_before_a_model_is_built(monkeypatch) -> None:
    monkeypatch.setattr("frozenseg.builders.segmenter.build_segmenter", None)
    with pytest.raises(UserError, match=r"no weights file nofile\.pth"):
        frozenseg.load("frozenseg-convnext-large", weights="nofile.pth")


@pytest.mark.parametrize("name", ["frozenseg-convnext-larg", "frozenseg_convnext_larg"])
def test_a_misspelt_name_gets_the_nearest(name: str) -> None:
    with pytest.raises(UserError, match="nearest name is frozenseg-convnext-large"):
        frozenseg.load(name)


def test_an_unknown_name_gets_all_names() -> None:
    with pytest.raises(UserError, match=r"names are shapes, .*fcclip-rn50"):
        frozenseg.load("qqq.yaml")
