"""Configuration files: defaults, bases, overrides and typos."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozenseg.config import ConfigError, known_keys, load_config

ROOT = Path(__file__).resolve().parents[2]
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
def test_other_content_than_a_plain_mapping_is_refused(tmp_path, text):
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


PLAIN_MISTAKES = {
    "": "is empty",
    "# nothing but a comment\n": "is empty",
    "null: 1\n": "the key None, which is not text",
    "1: 2\n": "the key 1, which is not text",
    "OUTPUT_DIR: 2026-11-27\n": "OUTPUT_DIR must be of type str.*put it in quotes",
    "SEED: null\n": "SEED must be of type int.*got None",
    "SEED: true\n": "SEED must be of type int.*got True",
    "SEED: 1.5\n": "SEED must be of type int.*got 1.5",
    "MODEL: 3\n": "MODEL is a section of keys; got 3",
    "SEED: {A: 1}\n": "SEED must be of type int",
    "_BASE_: [a]\n": "has the _BASE_ \\['a'\\]: give the path of one file",
    "_BASE_: bad.yaml\n": "comes back to .*bad.yaml",
    "MODEL: &m\n  A: *m\n": "uses the alias",
    "[" * 5000: "nested more than 40 levels",
}


@pytest.mark.parametrize("text", PLAIN_MISTAKES)
@pytest.mark.parametrize("as_overlay", [False, True])
def test_a_mistake_in_a_file_is_one_sentence(tmp_path, text: str, as_overlay: bool) -> None:
    if as_overlay and text.startswith("_BASE_"):
        return  # an overlay's base is not read
    path = _write(tmp_path, "bad.yaml", text)
    with pytest.raises(ConfigError, match=PLAIN_MISTAKES[text]) as raised:
        load_config(None, over=[path]) if as_overlay else load_config(path)
    assert "\n" not in str(raised.value) and str(path) in str(raised.value)


def test_a_long_value_is_quoted_in_part(tmp_path: Path) -> None:
    path = _write(tmp_path, "long.yaml", f"SOLVER:\n  MAX_ITER: {'x' * 100_000}\n")
    with pytest.raises(ConfigError, match="MAX_ITER must be of type int") as raised:
        load_config(path)
    assert len(str(raised.value)) < 500


def test_a_long_chain_of_bases_is_refused(tmp_path: Path) -> None:
    for n in range(30):
        _write(tmp_path, f"{n}.yaml", f"_BASE_: {n + 1}.yaml\nSEED: {n}\n")
    with pytest.raises(ConfigError, match="has more than 20 files"):
        load_config(tmp_path / "0.yaml")


def test_a_mistake_in_a_base_names_the_base(tmp_path: Path) -> None:
    _write(tmp_path, "parent.yaml", "SEEDS: 1\n")
    path = _write(tmp_path, "child.yaml", "_BASE_: parent.yaml\n")
    with pytest.raises(ConfigError, match=r"parent\.yaml: unknown key SEEDS; .* is SEED"):
        load_config(path)


@pytest.mark.parametrize(
    ("value", "read"),
    [("2026-11-27", "2026-11-27"), ("12", "12"), ("'a b'", "a b"), ("((", "((")],
)
def test_text_from_the_command_line_stays_text(value: str, read: str) -> None:
    assert read == load_config(None, ["OUTPUT_DIR", value]).OUTPUT_DIR


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "~nobody-of-this-name/x.yaml", "", "."])
def test_a_name_that_no_file_has_is_one_sentence(name: str) -> None:
    with pytest.raises(ConfigError, match="no configuration file") as raised:
        load_config(name)
    assert len(str(raised.value)) < 500


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(known_keys()), st.text(max_size=30))
def test_any_text_as_a_value_loads_or_is_one_sentence(key: str, value: str) -> None:
    with contextlib.suppress(ConfigError):
        load_config(None, [key, value])
