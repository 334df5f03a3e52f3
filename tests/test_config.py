"""Configuration: defaults, files, typos, and no key without a reader."""

import re
from pathlib import Path

import pytest

from frozenseg.config import ACCEPTED_UNUSED, ConfigError, known_keys, load_config

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_an_unknown_key_names_the_nearest_known_one(tmp_path):
    path = _write(tmp_path, "typo.yaml", "MODEL:\n  MASK_FORMER:\n    NUM_OBJECT_QUERYS: 3\n")
    with pytest.raises(
        ConfigError, match=r"typo.yaml: unknown key .*NUM_OBJECT_QUERYS; .* is .*NUM_OBJECT_QUERIES"
    ):
        load_config(path)


def test_an_unknown_override_names_the_nearest_known_key():
    with pytest.raises(
        ConfigError, match=r"SOLVER.MAX_ITERS; the nearest known key is SOLVER.MAX_ITER"
    ):
        load_config(None, ["SOLVER.MAX_ITERS", "3"])


def test_a_section_is_no_key_to_override():
    with pytest.raises(ConfigError, match=r"unknown key MODEL.MASK_FORMER"):
        load_config(None, ["MODEL.MASK_FORMER", "3"])


def test_a_value_of_another_type_is_refused_with_an_example():
    with pytest.raises(ConfigError, match=r"MAX_ITER must be of type int, as in \d+; got 'many'"):
        load_config(None, ["SOLVER.MAX_ITER", "many"])


def test_a_whole_number_is_a_float_where_one_is_asked_for(tmp_path):
    (tmp_path / "a.yaml").write_text("SOLVER:\n  BASE_LR: 1\n")
    cfg = load_config(tmp_path / "a.yaml", ["SOLVER.GAMMA", "0"])
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.GAMMA) == (1.0, 0.0)
    assert isinstance(cfg.SOLVER.BASE_LR, float)


def test_an_override_without_a_value_is_refused():
    with pytest.raises(ConfigError, match="'SEED' has no value"):
        load_config(None, ["SEED"])


def test_a_missing_file_says_where_it_was_sought():
    with pytest.raises(ConfigError, match=r"no configuration file nowhere\.yaml"):
        load_config("nowhere.yaml")


def test_a_missing_base_file_is_named(tmp_path):
    path = _write(tmp_path, "child.yaml", "_BASE_: parent.yaml\nSEED: 3\n")
    with pytest.raises(ConfigError, match=r"parent\.yaml"):
        load_config(path)


@pytest.mark.parametrize(
    "text", ["MODEL: [unclosed", "- a list", "!!python/object/apply:os.getcwd []"]
)
def test_what_is_no_plain_mapping_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match="is not a plain YAML mapping"):
        load_config(_write(tmp_path, "bad.yaml", text))


def test_a_file_overrides_its_base_and_the_command_line_overrides_both(tmp_path):
    _write(tmp_path, "parent.yaml", "SEED: 1\nSOLVER:\n  MAX_ITER: 10\n  STEPS: (3, 5)\n")
    path = _write(tmp_path, "child.yaml", "_BASE_: parent.yaml\nSEED: 2\n")
    cfg = load_config(path, ["SOLVER.BASE_LR", "0.5"])
    assert (cfg.SEED, cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.BASE_LR) == (
        2,
        10,
        (3, 5),
        0.5,
    )


def test_a_loaded_config_cannot_be_changed():
    with pytest.raises(AttributeError):
        load_config().SEED = 3


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_of_the_project_loads(path):
    load_config(path)


def test_every_key_is_read_or_listed_as_accepted_and_unused():
    source = "\n".join(
        path.read_text() for path in (ROOT / "frozenseg").rglob("*.py") if path.name != "config.py"
    )
    words = set(re.findall(r"[A-Z][A-Z0-9_]+", source))
    unread = {key for key in known_keys() if key.rsplit(".", 1)[-1] not in words}
    assert unread == set(ACCEPTED_UNUSED) & unread, "declare no key that nothing reads"
    assert set(ACCEPTED_UNUSED) <= set(known_keys())
