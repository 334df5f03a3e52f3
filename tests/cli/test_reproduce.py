"""The paper's tables: what they ask for exists, and small runs of either world."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frozenseg.analysis.speed import count_parameters
from frozenseg.builders.scoring import build_evaluators
from frozenseg.cli import reproduce
from frozenseg.cli.reproduction import (
    family_shapes,
    ovseg_shapes,
    photographs,
    seeded,
    shapes,
    speed,
)
from frozenseg.cli.reproduction.family import FAMILY
from frozenseg.cli.reproduction.measuring import RECORD, spread
from frozenseg.cli.reproduction.paper import OVSEG_TABLES, TABLE_3, TABLES, PaperTable, Row
from frozenseg.config import load_config
from frozenseg.errors import UserError
from frozenseg.runtime.run_folder import flat

ROOT = Path(__file__).parents[2]

HEAD = ROOT / "frozenseg/weights/shapes/head.safetensors"
EVERY_ROW = [(table, row) for table in (*TABLES.values(), FAMILY) for row in table.rows]
LIKE_NOTHING = {"DATALOADER.NUM_WORKERS": "0", "MODEL.DEVICE": "cpu"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROZENSEG_CACHE", str(tmp_path_factory.getbasetemp() / "reproduce-cache"))


def pairs(keys: dict[str, object]) -> list[str]:
    return [part for key, value in keys.items() for part in (key, str(value))]


def measures(cfg) -> set[str]:
    evaluator_specs = build_evaluators(cfg, cfg.DATASETS.TEST[0])
    return {name for spec in evaluator_specs for name in spec.make().evaluate()}


@pytest.mark.parametrize(
    ("table", "row"), EVERY_ROW, ids=[f"{t.caption[:7]} {r.title}" for t, r in EVERY_ROW]
)
def test_a_row_has_a_figure_for_each_column_and_a_configuration_that_measures_it(
    table: PaperTable, row: Row
) -> None:
    assert len(row.paper) == len(table.columns)
    weights = {row.weights: HEAD}
    own = not any(paper is not None for paper in row.paper)
    for dataset in {column.dataset for column in table.columns}:
        wanted = {
            column.measure
            for column, paper in zip(table.columns, row.paper, strict=True)
            if column.dataset == dataset and (paper is not None or own)
        }
        found = measures(photographs.row_config(table, row, dataset, weights))
        assert wanted <= found, wanted - found


def test_sam_masks_take_part_where_the_papers_figure_has_them() -> None:
    row = next(each for each in TABLES["table2"].rows if each.weights == "frozenseg_convnext_large")
    for dataset, expected in {"ade20k_847": True, "pascal_voc_21": False}.items():
        cfg = photographs.row_config(TABLES["table2"], row, dataset, {row.weights: HEAD})
        assert cfg.MODEL.MASK_ENSEMBLE.ENABLED is expected


@pytest.mark.parametrize("name", shapes.TABLES)
def test_the_shapes_worlds_tables_train_and_measure_what_they_name(name: str) -> None:
    table = shapes.TABLES[name]
    for row in table.rows:
        cfg = shapes.config_of(row.config, [*table.overrides, *row.overrides])
        found = measures(cfg)
        assert {column.measure for column in table.columns} <= found or "only SAM" in row.title
        if row.weights:
            training = shapes.training_config(row.weights, 1, Path("out"), ())
            differing = {
                key
                for key, value in flat(training.MODEL).items()
                if value != flat(cfg.MODEL)[key] and key.startswith("FROZEN_SEG")
            }
            assert not differing, "it would be measured with other parts than it was trained with"


def test_figures_stand_beside_the_papers() -> None:
    text = photographs.beside_paper(
        TABLE_3, {"FrozenSeg ConvNeXt-L": {"lvis_v1": {"lvis/APr": 25.557}}}
    )
    assert text.splitlines()[-1] == "| lvis_v1 | APr | 25.0 / - | 25.6 / 25.56 |"


def test_the_spread_is_the_sample_standard_deviation() -> None:
    assert spread([1.0, 2.0, 6.0]) == "3.0 ± 2.6"
    assert spread([1.25]) == "1.2"


class TestPhotographs:
    @pytest.fixture
    def data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """One annotated picture of BDD100K's semantic set."""
        root = tmp_path / "datasets"
        for path, values in {
            "bdd100k/images/10k/val/a.jpg": np.full((64, 96, 3), 90, np.uint8),
            "bdd100k/labels/sem_seg/masks/val/a.png": np.full((64, 96), 10, np.uint8),
        }.items():
            (root / path).parent.mkdir(parents=True)
            Image.fromarray(values).save(root / path)
        monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
        return root

    @pytest.fixture
    def miniature(self) -> list[str]:
        """Keys that make any row's model the miniature one."""
        own = flat(load_config("shapes/frozenseg.yaml").MODEL, "MODEL.")
        named = ("MODEL.SAM_", "MODEL.FROZEN_SEG", "MODEL.SEM_SEG", "MODEL.MASK_FORMER")
        model = {
            key: value
            for key, value in own.items()
            if key.startswith(named) and ".TEST." not in key and "GEOMETRIC" not in key
        }
        return pairs({**model, **LIKE_NOTHING, "INPUT.MIN_SIZE_TEST": 64})

    def test_what_is_on_the_disk_is_measured_once(
        self, data: Path, miniature: list[str], tmp_path: Path, monkeypatch, capsys
    ) -> None:
        options = {"overrides": miniature, "limit": None}
        weights = {"frozenseg_convnext_large": HEAD}
        text, found = reproduce.on_photographs("table1", weights, tmp_path, **options)
        assert capsys.readouterr().err.count("skipped:") == 5
        score = found["FrozenSeg ConvNeXt-L"]["bdd100k_semantic"]["semantic/mIoU"]
        assert f"| 46.2 / - | 49.4 / - | 52.3 / {score:.2f} |" in text
        monkeypatch.setattr("frozenseg.cli.reproduction.measuring.evaluate_dataset", None)
        assert reproduce.on_photographs("table1", weights, tmp_path, **options)[0] == text
        [stored] = tmp_path.rglob(RECORD)
        stored.write_text(stored.read_text().replace("semantic/mIoU", "semantic/mIou"))
        with pytest.raises(TypeError):  # it would be evaluated, but for the None above
            reproduce.on_photographs("table1", weights, tmp_path, **options)

    @pytest.mark.parametrize(
        ("weights", "reason"),
        [
            ({}, "nothing to measure: give --weights NAME=FILE for some of fcclip_rn50x64"),
            ({"my_model": HEAD}, "my_model.*: this table has rows of fcclip_rn50x64"),
            ({"frozenseg_rn50x64": Path("none.pth")}, "none.pth: there is no such file"),
            ({"frozenseg_convnext_large": HEAD}, "no data set of this table is on disk"),
        ],
    )
    def test_mistakes_are_named(
        self, weights, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nothing"))
        with pytest.raises(UserError, match=reason):
            reproduce.on_photographs("table2", weights, tmp_path, overrides=[], limit=None)


class TestShapesWorld:
    keys = pairs({**LIKE_NOTHING, "SOLVER.MAX_ITER": "1", "SOLVER.IMS_PER_BATCH": "1"})

    def test_rows_are_trained_and_measured_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = {"overrides": self.keys, "limit": 1}
        text, found = reproduce.in_shapes_world("table8", [1], tmp_path, **options)
        assert list(found) == [row.title for row in shapes.TABLES["table8"].rows]
        for kind in ("baseline", "both injectors"):
            alone, with_sam = found[kind][0], found[f"{kind}, SAM's masks too"][0]
            assert with_sam["recall/R50"] > alone["recall/R50"], "SAM's masks are proposals too"
        assert sorted(path.name for path in tmp_path.glob("table4_*")) == [
            "table4_2_baseline",
            "table4_5_injectors",
        ]
        monkeypatch.setattr("frozenseg.cli.reproduction.shapes.run", None)
        monkeypatch.setattr("frozenseg.cli.reproduction.measuring.evaluate_dataset", None)
        assert reproduce.in_shapes_world("table8", [1], tmp_path, **options) == (text, found)

    def test_other_tables_need_photographs(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="table3 needs --world photographs"):
            reproduce.in_shapes_world("table3", [1], tmp_path, overrides=[], limit=None)

    def test_a_training_that_was_stopped_ends_the_command(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("frozenseg.cli.reproduction.shapes.run", lambda *_: 75)
        with pytest.raises(SystemExit, match="75"):
            shapes.trained("table4_2_baseline", 1, tmp_path)


class TestSpeed:
    def test_table_6_is_the_benchmark(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With the miniature model in both rows, at a small size."""
        rows = [row._replace(weights="shapes") for row in speed.ROWS]
        monkeypatch.setattr(speed, "ROWS", rows)
        monkeypatch.setattr(speed, "SIZES", dict.fromkeys(speed.SIZES, ((64, 96), (64, 96))))
        text, found = reproduce.speed_table(
            {"shapes": HEAD}, overrides=pairs(LIKE_NOTHING), limit=1
        )
        sizes = count_parameters(load_config("shapes/frozenseg.yaml"))
        assert found["FrozenSeg"]["trained [M]"] == sizes[-1].trained / 1e6
        assert found["FC-CLIP"]["COCO"] > 0
        assert f"| FrozenSeg | 2.15 / {found['FrozenSeg']['COCO']:.2f} |" in text

    def test_its_rows_are_models_with_the_papers_trained_parameters(self) -> None:
        for row in speed.ROWS:
            whole = count_parameters(load_config(row.weights))[-1]
            assert whole.trained / 1e6 == pytest.approx(row.paper[3], abs=0.3)


def test_undefined_scores_are_null_in_the_file() -> None:
    found = {"row": [{"semantic/mIoU": float("nan"), "panoptic/PQ": 1.5}]}
    text = json.dumps(reproduce._defined(found), allow_nan=False)
    assert json.loads(text) == {"row": [{"semantic/mIoU": None, "panoptic/PQ": 1.5}]}


class TestOvsegInTheShapesWorld:
    @pytest.fixture
    def commands(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
        """The commands that would have run; each leaves the file that it is run for."""
        called: list[list[str]] = []

        def run(*arguments: object) -> None:
            words = [str(argument) for argument in arguments]
            called.append(words)
            output = Path(words[words.index("-o") + 1])
            output.mkdir(parents=True)
            made = {"train": "model_final.safetensors", "mine": "pairs.tsv"}
            (output / made.get(words[0], "clip_final.safetensors")).touch()

        monkeypatch.setattr(ovseg_shapes, "frozenseg", run)
        monkeypatch.setattr(ovseg_shapes, "NUM_SCENES", 1)
        return called

    def test_each_step_runs_once_and_mask_prompts_come_last(self, commands, tmp_path) -> None:
        rows = ovseg_shapes.adaptation_rows(tmp_path, 7)
        steps = [words[0] if words[0] != "adapt-clip" else words[1] for words in commands]
        assert steps == ["mine", "prompts", "image", "prompts"]
        start = commands[-1].index("--clip-weights")
        assert commands[-1][start + 1] == str(tmp_path / "clip/7/image/clip_final.safetensors")
        assert "--clip-weights" not in commands[1]
        assert ovseg_shapes.adaptation_rows(tmp_path, 7) == rows and len(commands) == 4
        ovseg_shapes.adaptation_rows(tmp_path, 8)
        assert [words[0] for words in commands[4:]] == ["adapt-clip"] * 3

    @pytest.mark.parametrize("name", ovseg_shapes.TABLES)
    def test_every_row_has_a_configuration_that_measures_the_columns(
        self, commands, tmp_path, name
    ) -> None:
        table = ovseg_shapes.TABLES[name]
        for config, *keys in table.rows(tmp_path, 1).values():
            cfg = load_config(config, [*ovseg_shapes.SEMANTIC_ALONE, *keys])
            assert cfg.DATASETS.TEST == ("shapes_val",)
            assert {column.measure for column in table.columns} <= measures(cfg)

    def test_the_command_knows_its_tables(self) -> None:
        assert set(OVSEG_TABLES) == set(ovseg_shapes.TABLES)
        with pytest.raises(UserError, match="ovseg_partners is a table of the"):
            reproduce.on_photographs("ovseg_partners", {}, Path("none"), overrides=[], limit=None)

    def test_the_caption_names_the_unit_the_seeds_and_a_limit(self, monkeypatch) -> None:
        rows = {"original CLIP": [{}, {}]}
        monkeypatch.setattr(seeded, "measure", lambda *_, **__: rows)
        for limit, end in ((None, "; percent; seeds 1, 2"), (4, "; the first 4 images only")):
            text, _ = reproduce.in_shapes_world("ovseg", [1, 2], Path(), overrides=[], limit=limit)
            assert text.splitlines()[0].endswith(end)

    def test_only_masked_crops_with_tuned_prompts_have_a_depth(self, commands, tmp_path) -> None:
        rows = ovseg_shapes.adaptation_rows(tmp_path, 1) | ovseg_shapes.partner_rows(tmp_path, 1)
        depths = {
            title: load_config(config, keys).MODEL.OVSEG.PROMPT_DEPTH
            for title, (config, *keys) in rows.items()
        }
        assert {title for title, depth in depths.items() if depth} == {
            title for title in depths if "MPT" in title or "masked_crops" in title
        }


class TestFamilyInTheShapesWorld:
    @pytest.fixture
    def commands(self, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        """The commands that would have run; each leaves its file."""
        called: list[list[str]] = []

        def run(*arguments: object) -> None:
            words = [str(argument) for argument in arguments]
            called.append(words)
            fused = words[0] == "convert"
            output = (
                words[2] if fused else words[words.index("-o") + 1] + "/model_final.safetensors"
            )
            Path(output).parent.mkdir(parents=True, exist_ok=True)
            Path(output).touch()

        monkeypatch.setattr(family_shapes, "frozenseg", run)
        return called

    def test_both_phases_of_the_adapter_run_once_with_the_fusing_between(
        self, commands, tmp_path
    ) -> None:
        rows = family_shapes.family_rows(tmp_path, 7)
        assert [words[0] for words in commands] == ["train", "train", "convert", "train", "train"]
        warmup, fusing, mixed = commands[1:4]
        assert warmup[-2:] == ["MODEL.MASK_ADAPTER.TRAIN_PHASE", "ground_truth"]
        assert fusing[1:3] == [
            str(tmp_path / "warmup/7/model_final.safetensors"),
            mixed[mixed.index("MODEL.WEIGHTS") + 1],
        ]
        assert rows["Mask-Adapter"][-1] == str(tmp_path / "mixed/7/model_final.safetensors")
        assert family_shapes.family_rows(tmp_path, 7) == rows and len(commands) == 5

    def test_every_row_has_a_configuration_that_measures_the_columns(
        self, commands, tmp_path
    ) -> None:
        table = family_shapes.TABLES["family"]
        rows = {title: load_config(*row) for title, row in _split(table.rows(tmp_path, 1)).items()}
        for cfg in rows.values():
            assert cfg.DATASETS.TEST == ("shapes_val",)
            assert {column.measure for column in table.columns} <= measures(cfg)
        trusts = {title: cfg.MODEL.OVRCOAT.CLIP_TRUST_WEIGHT for title, cfg in rows.items()}
        assert [title for title, trust in trusts.items() if trust == 0.5] == [
            "shipped head, COAT 0.5",
            "head, 200 updates, COAT 0.5",
        ]

    def test_a_row_that_no_seed_changes_is_measured_once(
        self, commands, tmp_path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        monkeypatch.setattr(
            seeded, "measured", lambda cfg, *_, **__: asked.append(cfg.MODEL.WEIGHTS) or {}
        )
        found = seeded.measure(family_shapes.TABLES["family"], [1, 2, 3], tmp_path)
        counts = {title: len(metrics) for title, metrics in found.items()}
        assert counts.pop("shipped head") == counts.pop("shipped head, COAT 0.25") == 1
        assert counts.pop("shipped head, COAT 0.5") == 1
        assert set(counts.values()) == {3}
        assert len(asked) == 3 + 5 * 3


def _split(rows: seeded.Rows) -> dict[str, tuple[str, list[str]]]:
    return {title: (config, keys) for title, (config, *keys) in rows.items()}
