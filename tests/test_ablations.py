"""The configurations of the ablations change only what their names say."""

import re
from pathlib import Path

import pytest
from fvcore.common.config import CfgNode

from frozenseg.builders.model import build_frozenseg, uses_sam
from frozenseg.config import CONFIG_ROOT, load_config

ROOT = CONFIG_ROOT / "ablations"
FILES = sorted(ROOT.rglob("*.yaml"))
BASES = {True: "shapes/frozenseg.yaml", False: "frozenseg_convnext_large.yaml"}


def flat(cfg: CfgNode, prefix: str = "") -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            values |= flat(value, f"{prefix}{key}.")
        else:
            values[prefix + key] = value
    return values


def changes(path: Path) -> dict[str, object]:
    """The keys in which a file differs from the complete method."""
    base = flat(load_config(BASES[path.parent.name == "shapes"]))
    own = flat(load_config(path))
    return {key: value for key, value in own.items() if value != base[key] and key != "OUTPUT_DIR"}


def injectors(name: str) -> tuple[bool, bool, bool]:
    keys = load_config(ROOT / "shapes" / f"{name}.yaml").MODEL
    seg = keys.FROZEN_SEG
    layers = (seg.QUERY_INJECTOR_LAYERS, seg.FEATURE_INJECTOR_LAYERS)
    return bool(layers[0]), bool(layers[1]), keys.MASK_ENSEMBLE.ENABLED


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_row_is_a_small_change_and_states_its_command(path: Path):
    assert len(changes(path)) <= 4  # only SAM replaces two members and turns two outputs off
    header = path.read_text().split("_BASE_")[0]
    named = re.search(r"--config-file (configs/\S+)", header)
    assert named is not None and named[1] == f"configs/{path.relative_to(CONFIG_ROOT)}"


def test_both_worlds_have_the_rows_of_tables_4_and_5():
    for table in ("table4", "table5"):
        real = {path.name for path in ROOT.glob(f"{table}_*.yaml")}
        assert real and real == {path.name for path in (ROOT / "shapes").glob(f"{table}_*.yaml")}


def test_table_4_has_each_combination_of_its_parts_once():
    names = [
        path.stem for path in (ROOT / "shapes").glob("table4_*.yaml") if "only" not in path.stem
    ]
    found = sorted(injectors(name) for name in names)
    assert found == sorted((q, f, e) for q in (0, 1) for f in (0, 1) for e in (0, 1))


def test_rows_of_the_paper_have_its_parts():
    assert injectors("table4_2_baseline") == (False, False, False)
    assert injectors("table4_3_ensemble") == (False, False, True)
    assert injectors("table4_5_injectors") == (True, True, False)
    assert injectors("table4_6_frozenseg") == (True, True, True)


def test_models_without_injectors_have_no_sam():
    assert not uses_sam(load_config(ROOT / "shapes" / "table4_2_baseline.yaml"))
    assert uses_sam(load_config(ROOT / "shapes" / "table4_4_query_injector.yaml"))


@pytest.mark.parametrize("row", ["table4_2_baseline", "table4_4_query_injector", "table5_1_16"])
def test_rows_build(row: str):
    model = build_frozenseg(load_config(ROOT / "shapes" / f"{row}.yaml"))
    assert (model.sam is None) == (row == "table4_2_baseline")
    assert (model.pixel_decoder.sam_branch is None) == (row != "table5_1_16")
