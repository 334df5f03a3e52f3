"""Tables of the paper in the shapes world, trained and evaluated with several seeds."""

import logging
from collections.abc import Sequence
from pathlib import Path

from fvcore.common.config import CfgNode

from frozenseg.builders.options import RunOptions
from frozenseg.cli.native_run import run
from frozenseg.cli.reproduction.measuring import Metrics, markdown, measured, spread
from frozenseg.cli.reproduction.paper import (
    BASELINE,
    INJECTORS,
    RECALL_ALONE,
    SAM_MASKS,
    TABLE_4,
    TABLE_5,
    PaperTable,
    ablation,
    columns,
    recall,
)
from frozenseg.cli.reproduction.seeded import SeededTable
from frozenseg.config import load_config
from frozenseg.training.checkpoints import FINAL_WEIGHTS

logger = logging.getLogger(__name__)

SCHEDULE = "shapes/short_schedule.yaml"
DATASET = "shapes_val"


QUALITY = columns(
    DATASET,
    seen_PQ="panoptic/seen/PQ",
    unseen_PQ="panoptic/unseen/PQ",
    AP="instance/AP",
    seen_mIoU="semantic/seen/mIoU",
    unseen_mIoU="semantic/unseen/mIoU",
    mIoU="semantic/mIoU",
)

TABLES = {
    "table4": PaperTable(
        "Table 4 in the shapes world: contribution of each part", QUALITY, TABLE_4.rows
    ),
    "table5": PaperTable(
        "Table 5 in the shapes world: where to inject queries", QUALITY, TABLE_5.rows
    ),
    "table8": PaperTable(
        "Table 8 in the shapes world: recall of mask proposals",
        recall(DATASET, "seen", "unseen"),
        (
            ablation("baseline", BASELINE),
            ablation("baseline, SAM's masks too", BASELINE, overrides=SAM_MASKS),
            ablation("both injectors", INJECTORS),
            ablation("both injectors, SAM's masks too", INJECTORS, overrides=SAM_MASKS),
        ),
        overrides=RECALL_ALONE,
    ),
}


def measure(
    table: PaperTable,
    seeds: Sequence[int],
    output: Path,
    *,
    overrides: Sequence[str] = (),
    limit: int | None = None,
) -> dict[str, list[Metrics]]:
    """Trains and evaluates every row with every seed; one result per seed by row title.

    Rows with the same weights share one training. Interrupted trainings and evaluations resume;
    finished ones are skipped.

    Args:
        table: the table.
        seeds: of the trainings.
        output: weights and reports are stored below it.
        overrides: configuration keys and values for every row.
        limit: evaluate only the first images.
    """
    found: dict[str, list[Metrics]] = {row.title: [] for row in table.rows}
    for seed in seeds:
        for row in table.rows:
            chosen = [*table.overrides, *row.overrides, *overrides]
            if row.weights:
                weights = trained(row.weights, seed, output / row.weights / str(seed), overrides)
                chosen += ["MODEL.WEIGHTS", str(weights)]
            cfg = config_of(row.config, chosen)
            logger.info("%s, seed %d", row.title, seed)
            found[row.title].append(measured(cfg, DATASET, output / "scores", limit=limit))
    return found


def trained(name: str, seed: int, folder: Path, overrides: Sequence[str] = ()) -> Path:
    """Trains an ablation unless it is finished, and returns its weights.

    Args:
        name: stem of the configuration.
        seed: of the training.
        folder: output folder of the training.
        overrides: configuration keys and values.

    Raises:
        SystemExit: the training was stopped or failed; the exit status is that of the training.
    """
    weights = folder / FINAL_WEIGHTS
    if not weights.exists():
        status = run(training_config(name, seed, folder, overrides), RunOptions(resume=True))
        if status:
            raise SystemExit(status)
    return weights


def training_config(name: str, seed: int, folder: Path, overrides: Sequence[str]) -> CfgNode:
    """The configuration of a training without evaluation."""
    own = ["SEED", str(seed), "OUTPUT_DIR", str(folder), "DATASETS.TEST", "()"]
    return config_of(f"{name}.yaml", [*overrides, *own])


def config_of(file: str, overrides: Sequence[str]) -> CfgNode:
    """The configuration of an ablation in the shapes world, with the short schedule."""
    return load_config(f"ablations/shapes/{Path(file).name}", overrides, over=[SCHEDULE])


def over_seeds(table: PaperTable | SeededTable, found: dict[str, list[Metrics]]) -> str:
    """A Markdown table of mean and sample standard deviation; a dash marks missing values."""
    rows = [
        [
            title,
            *(
                _cell([metrics.get(column.measure) for metrics in seeds])
                for column in table.columns
            ),
        ]
        for title, seeds in found.items()
    ]
    return markdown(["", *(column.title for column in table.columns)], rows)


def _cell(values: list[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    return spread(numbers) if numbers else "-"
