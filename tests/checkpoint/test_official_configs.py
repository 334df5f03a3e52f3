"""Official YAML files, written anew from the keys that they set, load unchanged."""

import json
from ast import literal_eval
from pathlib import Path

import pytest
import yaml

from frozenseg.builders.frozenseg import frozenseg_outline
from frozenseg.config import ConfigError, load_config

FACTS = json.loads((Path(__file__).parents[1] / "golden" / "official_config_keys.json").read_text())
SHARED = ("Base-COCO-PanopticSegmentation.yaml", "maskformer2_R50_bs16_50ep.yaml")
EVERY = [(project, name) for project in ("frozenseg", "fcclip") for name in FACTS[project]]
FILES = [(project, name) for project, name in EVERY if name not in SHARED]


@pytest.fixture
def write(tmp_path: Path):
    """Writes a file and its bases, each holding only what it changes, in folders as published."""

    def place(project: str, name: str) -> Path:
        return tmp_path / ("" if name in SHARED else project) / name

    def write(project: str, name: str) -> Path:
        facts = FACTS[project]
        before: dict = {}
        for part in facts[name]["chain"]:
            keys = facts[part]["keys"]
            content: dict = {}
            for key, value in keys.items():
                if before.get(key, ...) != value:
                    *sections, leaf = key.split(".")
                    node = content
                    for section in sections:
                        node = node.setdefault(section, {})
                    node[leaf] = value
            base = facts[part]["chain"][-2:-1]
            if base:
                relative = "../" if base[0] in SHARED and part not in SHARED else ""
                content["_BASE_"] = relative + base[0]
            path = place(project, part)
            path.parent.mkdir(exist_ok=True)
            path.write_text(yaml.safe_dump(content))
            before = keys
        return place(project, name)

    return write


def plain(value: object) -> object:
    """YAML has no tuples: they are written as strings."""
    if isinstance(value, str) and value.startswith("("):
        value = literal_eval(value)
    return list(value) if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize(("project", "name"), FILES)
def test_an_official_file_loads_and_every_key_has_its_value(write, project: str, name: str) -> None:
    cfg = load_config(write(project, name))
    for key, value in FACTS[project][name]["keys"].items():
        node = cfg
        for part in key.split("."):
            node = node[part]
        assert plain(node) == plain(value), key


@pytest.mark.parametrize("project", ["frozenseg", "fcclip"])
@pytest.mark.parametrize("name", SHARED)
def test_a_base_of_official_files_alone_describes_another_model(write, project, name) -> None:
    with pytest.raises(ConfigError, match=r"MODEL\.(META_ARCHITECTURE|BACKBONE\.NAME) must be"):
        load_config(write(project, name))


@pytest.mark.parametrize(
    ("project", "name", "trained"),
    [
        ("frozenseg", "convnext_large_eval_ade20k.yaml", 26_497_153),
        ("frozenseg", "r50x64_eval_ade20k.yaml", 27_792_001),
        ("fcclip", "fcclip_convnext_large_eval_ade20k.yaml", 20_721_601),
    ],
)
def test_an_official_file_builds_the_official_model(write, project, name, trained) -> None:
    layout = ["MODEL.FROZEN_SEG.SAM_ATTENTION_LAYOUT", "three_level"]
    model = frozenseg_outline(load_config(write(project, name), layout))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trained
