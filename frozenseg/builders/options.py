"""Options of a run that the command line sets besides the configuration."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a training or an evaluation.

    Args:
        resume: continue from the newest checkpoint, or after the finished blocks of an evaluation.
        eval_only: evaluate without training.
        accumulate: number of parts in which each process sees its share of a batch.
        wandb_project: also send metrics to this project of Weights & Biases.
        skip_bad: leave out samples with a missing or damaged file; they are logged and listed.
        limit: evaluate only the first images of a data set.
        save_predictions: folder for predictions in the formats of official scorers.
    """

    resume: bool = False
    eval_only: bool = False
    accumulate: int = 1
    wandb_project: str | None = None
    skip_bad: bool = False
    limit: int | None = None
    save_predictions: Path | None = None


DEFAULT_OPTIONS = RunOptions()
