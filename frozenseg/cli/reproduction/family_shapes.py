"""The FC-CLIP family in the shapes world: COAT, Mask-Adapter and MAFT+ over several seeds.

COAT is tried on the shipped head and on one briefly trained head per seed. Mask-Adapter and MAFT+
start from the shipped head; seeds are those of their trainings. Schedules are short: minutes on
one core.
"""

from pathlib import Path

from frozenseg.cli.reproduction.paper import columns
from frozenseg.cli.reproduction.seeded import DATASET, Rows, SeededTable, frozenseg, made
from frozenseg.config import model_files
from frozenseg.training.checkpoints import FINAL_WEIGHTS

CONFIG, HEAD = "shapes/frozenseg.yaml", "shapes/short_schedule.yaml"
ADAPTER, MAFT_PLUS = "shapes/mask_adapter.yaml", "shapes/maft_plus.yaml"
HEAD_UPDATES, WARMUP_UPDATES, MIXED_UPDATES, MAFT_UPDATES = 200, 100, 40, 60
TRUST = (0.25, 0.5)  # COAT's weights beside 0
WARMUP = ("MODEL.MASK_ADAPTER.TRAIN_PHASE", "ground_truth")


def family_rows(folder: Path, seed: int) -> Rows:
    """Trains what the rows need unless it is there, and returns the rows of a seed."""
    shipped = str(model_files("shapes").weights)
    own = str(trained(HEAD, folder / "heads", seed, HEAD_UPDATES))
    rows: dict[str, list[str]] = {}
    for title, weights in (("shipped head", shipped), (f"head, {HEAD_UPDATES} updates", own)):
        rows[title] = [CONFIG, "MODEL.WEIGHTS", weights]
        for trust in TRUST:
            coat = ("MODEL.OVRCOAT.CLIP_TRUST_WEIGHT", str(trust))
            everywhere = ("MODEL.OVRCOAT.COAT_OUTPUTS", "all")
            rows[f"{title}, COAT {trust:g}"] = [*rows[title], *coat, *everywhere]
    rows["Mask-Adapter"] = [ADAPTER, "MODEL.WEIGHTS", str(adapted(folder, seed, shipped))]
    start = ("MODEL.WEIGHTS", shipped)
    maft_plus = trained(MAFT_PLUS, folder / "maft_plus", seed, MAFT_UPDATES, *start)
    rows["MAFT+"] = [MAFT_PLUS, "MODEL.WEIGHTS", str(maft_plus)]
    return rows


def adapted(folder: Path, seed: int, head: str) -> Path:
    """Trains a Mask-Adapter in both phases unless it is finished, and returns its weights."""
    warmup = trained(ADAPTER, folder / "warmup", seed, WARMUP_UPDATES, *WARMUP)
    fused = warmup.with_name("fused.safetensors")
    made(
        fused,
        lambda: frozenseg("convert", warmup, fused, "--decoder", head, "--config", ADAPTER),
    )
    return trained(ADAPTER, folder / "mixed", seed, MIXED_UPDATES, "MODEL.WEIGHTS", fused)


def trained(config: str, folder: Path, seed: int, updates: int, *keys: object) -> Path:
    """Trains a configuration unless that is finished, and returns its weights."""
    run = folder / str(seed)
    steps = (round(updates * 0.83), round(updates * 0.95))
    own = (
        *("SEED", seed, "DATASETS.TEST", "()", "DATALOADER.NUM_WORKERS", 0),
        *("SOLVER.MAX_ITER", updates, "SOLVER.STEPS", steps, "SOLVER.CHECKPOINT_PERIOD", 100),
    )
    return made(
        run / FINAL_WEIGHTS,
        lambda: frozenseg("train", config, "--resume", "-o", run, *own, *keys),
    )


TABLES = {
    "family": SeededTable(
        f"The FC-CLIP family in the shapes world; updates: heads {HEAD_UPDATES}, Mask-Adapter "
        f"{WARMUP_UPDATES} + {MIXED_UPDATES}, MAFT+ {MAFT_UPDATES}; COAT in all outputs",
        "family",
        family_rows,
        columns(
            DATASET,
            PQ="panoptic/PQ",
            seen_PQ="panoptic/seen/PQ",
            unseen_PQ="panoptic/unseen/PQ",
            seen_mIoU="semantic/seen/mIoU",
            unseen_mIoU="semantic/unseen/mIoU",
            seen_AP="instance/seen/AP",
            unseen_AP="instance/unseen/AP",
        ),
    )
}
