"""Trains the shapes world's FrozenSeg head over several seeds and prints what they score.

    python tools/train_shapes_head.py --seeds 1 2 3            # half an hour a seed on two cores
    python tools/train_shapes_head.py --seeds 1 2 3 --ship 2   # and ship the second seed's weights

Each seed is the run of ``configs/shapes/frozenseg.yaml``, evaluated with and without the class
ensemble. A run that was interrupted goes on where it stopped; one that is finished is only
evaluated.
"""

import argparse
import statistics
import sys
from pathlib import Path

from fvcore.common.config import CfgNode
from rich.console import Console

from frozenseg import BUILTIN_MODELS
from frozenseg.checkpoint.weights import load_weights, save_weights
from frozenseg.config import load_config
from frozenseg.engine.evaluation import evaluate_dataset
from frozenseg.engine.run import FINAL_WEIGHTS, RunOptions, run
from frozenseg.inference.build import build_segmenter
from frozenseg.modeling.build import build_model

CONFIG, WEIGHTS = BUILTIN_MODELS["shapes"]
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
    parser.add_argument("--ship", type=int, metavar="SEED", help="put its weights into the package")
    options = parser.parse_args()
    scores: dict[str, list[dict[str, float]]] = {row: [] for row in ROWS}
    for seed in options.seeds:
        folder = options.output / str(seed)
        common = ["SEED", str(seed), "OUTPUT_DIR", str(folder)]
        if not (folder / FINAL_WEIGHTS).exists():
            status = run(load_config(CONFIG, common), RunOptions(resume=True))
            if status:
                return status
        for row, overrides in ROWS.items():
            cfg = load_config(CONFIG, [*common, *overrides])
            scores[row].append(evaluated(cfg, folder, row))
        if seed == options.ship:
            ship(load_config(CONFIG, common), folder / FINAL_WEIGHTS)
    Console(width=140).print(markdown(scores), markup=False)
    return 0


def evaluated(cfg: CfgNode, folder: Path, row: str) -> dict[str, float]:
    model = build_model(cfg)
    load_weights(model, folder / FINAL_WEIGHTS)
    segmenter = build_segmenter(cfg, model=model)
    place = folder / "inference" / row.replace(" ", "_")
    return evaluate_dataset(cfg, segmenter, cfg.DATASETS.TEST[0], place).metrics


def ship(cfg: CfgNode, weights: Path) -> None:
    """The trained weights, with the names of their towers, become those of the package."""
    model = build_model(cfg)
    load_weights(model, weights)
    save_weights(model, WEIGHTS, about={"config": CONFIG, "seed": str(cfg.SEED)})


def markdown(scores: dict[str, list[dict[str, float]]]) -> str:
    """Mean and sample standard deviation over the seeds, in percent."""
    lines = [
        "| | " + " | ".join(measure.replace("/", " ") for measure in MEASURES) + " |",
        "|---|" + "---|" * len(MEASURES),
    ]
    for row, seeds in scores.items():
        cells = [spread([metrics[measure] for metrics in seeds]) for measure in MEASURES]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


if __name__ == "__main__":
    sys.exit(main())
