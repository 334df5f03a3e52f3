"""Trains FrozenSeg in the shapes world with several seeds and prints the scores.

    python tools/train_shapes_head.py --seeds 1 2 3            # 30 minutes per seed on two cores
    python tools/train_shapes_head.py --seeds 1 2 3 --ship 2   # and ship the weights of seed 2

Each run uses ``configs/shapes/frozenseg.yaml`` and is evaluated with and without the class
ensemble. Interrupted runs resume; finished ones are only evaluated.
"""

import argparse
import sys
from pathlib import Path

from fvcore.common.config import CfgNode
from rich.console import Console

from frozenseg.builders.frozenseg import build_frozenseg
from frozenseg.builders.options import RunOptions
from frozenseg.checkpoint.weights import load_weights, save_weights
from frozenseg.cli.native_run import run
from frozenseg.cli.reproduction.measuring import Metrics, markdown, measured, spread
from frozenseg.config import load_config
from frozenseg.config.models import SHAPES, SHAPES_WEIGHTS, model_names
from frozenseg.training.checkpoints import FINAL_WEIGHTS

CONFIG = model_names()[SHAPES].config
MEASURES = (
    "panoptic/seen/PQ",
    "panoptic/unseen/PQ",
    "semantic/seen/mIoU",
    "semantic/unseen/mIoU",
    "instance/AP",
)
DECODER_ALONE = [
    *("MODEL.FROZEN_SEG.GEOMETRIC_ENSEMBLE_ALPHA", "0.0"),
    *("MODEL.FROZEN_SEG.GEOMETRIC_ENSEMBLE_BETA", "0.0"),
]
ROWS: dict[str, list[str]] = {"FrozenSeg": [], "decoder alone": DECODER_ALONE}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", type=Path, default=Path("output/shapes/seeds"))
    parser.add_argument("--ship", type=int, metavar="SEED", help="ship the weights of this seed")
    options = parser.parse_args()
    scores: dict[str, list[Metrics]] = {row: [] for row in ROWS}
    for seed in options.seeds:
        folder = options.output / str(seed)
        common = ["SEED", str(seed), "OUTPUT_DIR", str(folder)]
        if not (folder / FINAL_WEIGHTS).exists():
            status = run(load_config(CONFIG, common), RunOptions(resume=True))
            if status:
                return status
        for row, overrides in ROWS.items():
            weights = ["MODEL.WEIGHTS", str(folder / FINAL_WEIGHTS)]
            cfg = load_config(CONFIG, [*common, *weights, *overrides])
            scores[row].append(measured(cfg, cfg.DATASETS.TEST[0], folder / "scores"))
        if seed == options.ship:
            ship(load_config(CONFIG, common), folder / FINAL_WEIGHTS)
    Console(width=140).print(over_seeds(scores), markup=False)
    return 0


def ship(cfg: CfgNode, weights: Path) -> None:
    """Copies trained weights, with the names of their towers, into the package."""
    model = build_frozenseg(cfg)
    load_weights(model, weights)
    save_weights(
        model, SHAPES_WEIGHTS, about={"config": "shapes/frozenseg.yaml", "seed": str(cfg.SEED)}
    )


def over_seeds(scores: dict[str, list[Metrics]]) -> str:
    """Mean and sample standard deviation over the seeds, in percent."""
    rows = [
        [row, *(spread([metrics[measure] for metrics in seeds]) for measure in MEASURES)]
        for row, seeds in scores.items()
    ]
    return markdown(["", *(measure.replace("/", " ") for measure in MEASURES)], rows)


if __name__ == "__main__":
    sys.exit(main())
