"""``frozenseg mine``: pairs of a masked region and a noun from captioned images (OVSeg)."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from frozenseg.cli.console import errors, print_line, say_warning
from frozenseg.cli.options import Limit, ModelOptions, grouped, key_values
from frozenseg.errors import UserError

if TYPE_CHECKING:
    from fvcore.common.config import CfgNode

    from frozenseg.mining.bulk import Mining
    from frozenseg.mining.folder import PairFolder

SHOWN_NOUNS = 10


@grouped
def mine(
    captions: Annotated[
        Path,
        typer.Argument(
            metavar="CAPTIONS",
            help="A caption file in COCO's format, such as captions_train2017.json.",
        ),
    ],
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="The folder of its images.")],
    model: ModelOptions,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for crops, masks and pairs.tsv.")
    ] = Path("output/pairs"),
    clip: Annotated[
        str, typer.Option(help="CLIP for matching: an open_clip ViT, shapes_vit or a folder.")
    ] = "ViT-L-14",
    clip_weights: Annotated[
        str, typer.Option(help="Weights of --clip: a published tag or a file.")
    ] = "openai",
    per_image: Annotated[
        int, typer.Option("--captions", help="Captions to use per image.", min=1)
    ] = 1,
    threshold: Annotated[
        float, typer.Option(help="Minimum probability of a mask's pixels.", min=0, max=1)
    ] = 0.4,
    phrases: Annotated[
        bool, typer.Option("--phrases", help="Keep the adjectives of a noun: 'striped red star'.")
    ] = False,
    processes: Annotated[int, typer.Option(help="Parallel processes.", min=1)] = 1,
    limit: Limit = None,
) -> None:
    """Mine pairs for adapt-clip: each noun of a caption with its best-matching masked region.

    The model's proposer provides the masks; CLIP compares their crops with the nouns. Finished
    images are skipped, so the same command resumes an interrupted run.

    Example: frozenseg mine captions_train2017.json train2017 --model ovseg.yaml -o output/pairs
    """
    from frozenseg.builders.mining import MinerBuilder
    from frozenseg.data.readers.captions import read_captions
    from frozenseg.mining.bulk import Mining
    from frozenseg.mining.folder import PairFolder

    if not images.is_dir():
        raise UserError(f"{images} is not a folder: give the folder of the images of {captions}")
    cfg = _config(model)
    captioned = read_captions(captions, per_image=per_image)
    folder = PairFolder(output)
    folder.check_settings(
        {
            "captions": hashlib.sha256(repr(captioned).encode()).hexdigest()[:16],
            "model": _digest_of(cfg),
            "clip": clip,
            "clip_weights": clip_weights,
            "threshold": str(threshold),
            **({"phrases": "kept"} if phrases else {}),
        }
    )
    build = MinerBuilder(
        cfg=cfg, clip=clip, clip_weights=clip_weights, threshold=threshold, phrases=phrases
    )
    mining = Mining(build, captioned, images, output, captions)
    indices = range(len(captioned))[:limit]
    failed = _mine(mining, indices, cfg.MODEL.DEVICE, processes)
    _report(folder, indices)
    if failed:
        raise UserError(f"{failed} images could not be read (see above): fix them and run again")


def _config(options: ModelOptions) -> "CfgNode":
    from frozenseg import model_config

    overrides = key_values(options.settings)
    return model_config(
        options.model, weights=options.weights, device=options.device, overrides=overrides
    )


def _digest_of(cfg: "CfgNode") -> str:
    """Returns a digest of the configuration, apart from the device."""
    from frozenseg.builders.fingerprints import config_digest

    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "auto"
    return config_digest(cfg)


def _mine(mining: "Mining", indices: Sequence[int], device: str, processes: int) -> int:
    """Mines with a progress bar and returns the number of images that could not be read."""
    from frozenseg.mining.bulk import mine_images
    from frozenseg.mining.folder import PairFolder

    done, failed = sum(map(PairFolder(mining.output).has, indices)), 0
    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as progress:
        task = progress.add_task("images", total=len(indices), completed=done)
        for outcome in mine_images(mining, indices, device=device, processes=processes):
            progress.advance(task)
            failed += not outcome.made
            if outcome.problem is not None:
                say_warning(outcome.problem)
    return failed


def _report(folder: "PairFolder", indices: Sequence[int]) -> None:
    """Writes the list of pairs, the report and the picture, and prints the main numbers."""
    from frozenseg.io.files import atomic_write
    from frozenseg.io.writing import write_text
    from frozenseg.mining.report import draw_samples, summarize

    records = list(folder.records(indices))
    path, report = folder.write_list(records), summarize(records)
    write_text(folder.folder / "report.json", json.dumps(report._asdict(), indent=2) + "\n")
    pairs = [pair for record in records for pair in record.pairs]
    with atomic_write(folder.folder / "samples.png") as part:
        draw_samples(folder.folder, pairs).save(part, format="PNG")
    without = sum(report.images_without_pair.values())
    print_line(
        f"{report.pairs} pairs of {report.crops} regions and {len(report.nouns)} nouns from "
        f"{report.images} images, {without} of them without a pair"
    )
    frequent = list(report.nouns.items())[:SHOWN_NOUNS]
    print_line("most frequent: " + ", ".join(f"{noun} {count}" for noun, count in frequent))
    print_line(f"pairs: {path}")
    print_line(f"samples: {folder.folder / 'samples.png'}")
