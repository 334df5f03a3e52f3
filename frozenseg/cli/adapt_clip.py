"""``frozenseg adapt-clip``: fine-tunes CLIP, or its mask prompts, on mined pairs (OVSeg)."""

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from frozenseg.cli.options import Device, grouped

if TYPE_CHECKING:
    from frozenseg.builders.adaptation import AdaptationSettings


class Recipe(NamedTuple):
    """Published constants (OVSeg, released training)."""

    lr: float
    weight_decay: float


class Learning(StrEnum):
    """The part that is trained in addition to CLIP's temperature."""

    IMAGE = "image"
    PROMPTS = "prompts"


class Precision(StrEnum):
    """Precision of the image encoder."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


RECIPES = {Learning.IMAGE: Recipe(5e-6, 0.2), Learning.PROMPTS: Recipe(0.05, 0.0)}


@dataclass(frozen=True)
class StartOptions:
    """The CLIP to start from."""

    clip: Annotated[
        str,
        typer.Option(help="An open_clip ViT such as ViT-L-14, shapes_vit, or a CLIP folder."),
    ] = "ViT-L-14"
    clip_weights: Annotated[
        str,
        typer.Option(help="Weights to start from: a published tag, or the file of an earlier run."),
    ] = "openai"
    mask_prompt_depth: Annotated[
        int, typer.Option(help="Number of blocks in which prompts replace blank patches.", min=1)
    ] = 3


@dataclass(frozen=True)
class UpdateOptions:
    """The updates of the weights."""

    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate (default: 5e-6; prompts: 0.05).", show_default=False),
    ] = None
    weight_decay: Annotated[
        float | None,
        typer.Option(
            help="Weight decay of matrices (default: 0.2; prompts: 0).", show_default=False
        ),
    ] = None
    epochs: Annotated[int, typer.Option(help="Passes over the pairs.", min=1)] = 5
    warmup: Annotated[int, typer.Option(help="Iterations of linear warm-up.", min=0)] = 100
    batch_size: Annotated[
        int,
        typer.Option(help="Pairs per update, over all processes (OVSeg used 1024 for ViT-B-16)."),
    ] = 256
    precision: Annotated[Precision, typer.Option(help="Precision of the image encoder.")] = (
        Precision.BFLOAT16
    )

    def values(self, part: Learning) -> dict[str, Any]:
        """Returns the settings of these names; rates that are not given are the published ones."""
        recipe = RECIPES[part]
        return vars(self) | {
            "lr": recipe.lr if self.lr is None else self.lr,
            "weight_decay": recipe.weight_decay if self.weight_decay is None else self.weight_decay,
            "precision": self.precision.value,
        }


@dataclass(frozen=True)
class ProcessOptions:
    """Processes, checkpoints and their folder."""

    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run (OUTPUT_DIR).")
    ] = Path("output/adapt_clip")
    checkpoint_period: Annotated[
        int, typer.Option(help="Updates between checkpoints; 0: only at the end.", min=0)
    ] = 1000
    workers: Annotated[int, typer.Option(help="Data-loading processes.", min=0)] = 4
    seed: Annotated[int, typer.Option(help="Random seed; negative: choose one.")] = -1
    num_gpus: Annotated[
        int, typer.Option(help="Processes on this machine, one device each.", min=1)
    ] = 1
    device: Device = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the newest checkpoint.")
    ] = False


@grouped
def adapt_clip(
    part: Annotated[
        Learning,
        typer.Argument(
            metavar="PART",
            help="The part to train besides CLIP's temperature: the image encoder (fine-tuning) or "
            "the mask prompts (mask prompt tuning).",
            show_default=False,
        ),
    ],
    pairs: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS", help="The pairs.tsv of frozenseg mine.", show_default=False
        ),
    ],
    start: StartOptions,
    updates: UpdateOptions,
    processes: ProcessOptions,
) -> None:
    """Adapt CLIP to masked regions; Ctrl-C saves a checkpoint, --resume continues from it.

    As in the paper, first fine-tune the image encoder, then tune mask prompts from the result.

    Example: frozenseg adapt-clip image pairs/pairs.tsv -o output/ft && frozenseg adapt-clip
    prompts pairs/pairs.tsv --clip-weights output/ft/clip_final.safetensors -o output/ft_mpt
    """
    from frozenseg.builders.adaptation import AdaptationSettings
    from frozenseg.runtime.devices import choose_device
    from frozenseg.runtime.launch import Group, launch

    settings = AdaptationSettings(
        pairs=pairs,
        part=part.value,
        **vars(start),
        **updates.values(part),
        output=processes.output,
        checkpoint_period=processes.checkpoint_period,
        num_workers=processes.workers,
        seed=processes.seed,
        device=processes.device or "auto",
    )
    group, kind = Group(num_gpus=processes.num_gpus), choose_device(settings.device).type
    raise typer.Exit(launch(run, (settings, processes.resume), group=group, device=kind))


def run(settings: "AdaptationSettings", resume: bool) -> int:
    """Runs one process of an adaptation and returns its exit status. Collective."""
    import yaml

    from frozenseg.builders.adaptation import build_adaptation, save_clip
    from frozenseg.cli.native_run import train_until_stop
    from frozenseg.runtime.devices import process_device
    from frozenseg.runtime.distributed import is_main_process, process_rank, wait_for_all
    from frozenseg.runtime.run_folder import describe_run, set_up_logging
    from frozenseg.runtime.signals import StopRequest

    set_up_logging(settings.output, rank=process_rank())
    with ExitStack() as writers, StopRequest() as stop:
        device = process_device(settings.device)
        trainer = build_adaptation(settings, device=device, resume=resume)
        for writer in trainer.writers:
            writers.callback(writer.close)
        if is_main_process():
            values = {name: _plain(value) for name, value in asdict(settings).items()}
            text = yaml.safe_dump(values)
            describe_run(settings.output, text, engine="native", resumed=trainer.iteration > 0)
        status = train_until_stop(trainer, stop)
        if status == 0 and is_main_process():
            save_clip(trainer, settings.output)
        wait_for_all()
    return status


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value
