"""``frozenseg datasets``: lists, checks, prepares, shows and converts data sets."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import track
from rich.table import Table

from frozenseg.cli.console import console, errors
from frozenseg.cli.evaluate import test_set
from frozenseg.cli.options import Root
from frozenseg.cli.prepare import prepare
from frozenseg.errors import UserError
from frozenseg.io.text import markup, shown

if TYPE_CHECKING:
    from frozenseg.data.checking import DatasetCheck, Finding

app = typer.Typer(
    no_args_is_help=True,
    help="List, check, prepare, show and convert data sets.\n\nExample: frozenseg datasets list",
)

app.command()(prepare)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A name from `frozenseg datasets list`, a short name such as ade20k_150, or a data "
        "set file.",
    ),
]


@app.command("list")
def list_datasets(root: Root = None) -> None:
    """List all registered data sets, and which of them are on disk.

    Example: frozenseg datasets list
    """
    from frozenseg.data.catalog import SHAPES, dataset_samples
    from frozenseg.data.checking import is_present
    from frozenseg.data.specs import SPECS, data_root

    root = data_root() if root is None else root
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column()
    for name in SHAPES:
        about = f"shapes world, {len(dataset_samples(name)):,} images, drawn on demand"
        table.add_row("[green]built in[/]", f"{name}\n[dim]{about}[/]")
    for spec in SPECS:
        mark = "[green]on disk[/]" if is_present(spec, root=root) else "[dim]absent[/]"
        about = f"{spec.title} ({spec.vocabulary}), {spec.num_images or 0:,} images"
        table.add_row(mark, f"{spec.name}\n[dim]{about}: {', '.join(spec.tasks)}[/]")
    console.print(table)
    place = f"{root}" if root.is_dir() else f"{root}, which does not exist"
    console.print(
        f"Searched {markup(place)} (--root, DETECTRON2_DATASETS). `frozenseg datasets check NAME` "
        "counts files and says where to get them, `frozenseg datasets prepare NAME` makes others; "
        "for your own data, give a YAML file instead of a name.",
        style="dim",
    )


@app.command()
def check(
    name: Name,
    root: Root = None,
    every: Annotated[
        bool | None,
        typer.Option(
            "--every/--one",
            help="Read every sample, or only one (default: every sample of your own data).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Check files, annotations and samples, and list everything that is missing or wrong.

    Exits with status 1 if it finds problems.

    A YAML file describes your own data. Only 'images' and one kind of annotation are required;
    paths are relative to the file's folder, or to 'root':

        name: football
        title: Our football matches
        root: /data/football
        images: photos                  # a folder, or photos/{}.jpg
        instances: instances.json       # COCO's polygons or RLE
        panoptic: {json: panoptic.json, maps: panoptic}
        labels: labels                  # label maps: a folder, or labels/{}.png
        classes:                        # required if there is no JSON file
          player: [athlete, footballer] # synonyms
          lawn: {synonyms: [grass], stuff: true}
        unseen: [lawn]                  # classes left out of training
        ignore_label: 255               # value of unlabelled pixels in label maps
        test_size: [640, 1024]          # short and long side, pixels
        exif: apply                     # or ignore: masks match the stored pixels

    Example: frozenseg datasets check bdd10k_val_sem_seg
    """
    from frozenseg.data.catalog import SHAPES
    from frozenseg.data.checking import check_dataset
    from frozenseg.data.specs import data_root

    name, _ = test_set(name)
    if name in SHAPES:
        console.print(f"{name} is drawn on demand: there is nothing to check")
        return
    root = data_root() if root is None else root
    result = check_dataset(name, root=root, every=every, track=_tracked)
    console.print(_table(result, root))
    for problem in result.problems:
        console.print(f"[red]wrong:[/] {markup(problem)}", soft_wrap=True, highlight=False)
    for advice in dict.fromkeys(each.advice for each in result.findings if each.advice):
        what = ", ".join(each.what for each in result.findings if each.advice == advice)
        console.print(f"[bold]{what}:[/] {markup(advice)}", soft_wrap=True, highlight=False)
    if not result.ok:
        count = len(result.problems)
        what = f"problems: {count}" if count else "incomplete"
        console.print(f"[red]{what}[/]; samples read: {result.num_read}")
        raise typer.Exit(1)
    console.print(f"[green]complete[/]; samples read: {result.num_read}", highlight=False)


def _tracked(indices: Sequence[int]) -> Iterable[int]:
    hidden = len(indices) < 2 or not errors.is_terminal
    return track(indices, "reading samples", console=errors, disable=hidden)


def _table(result: "DatasetCheck", root: Path) -> Table:
    table = Table("", "what", "found", "of", box=None, padding=(0, 1))
    own = result.spec.source is not None
    table.add_column("in" if own else f"below {markup(root)}", overflow="fold")
    for finding in result.findings:
        place = finding.path if own else finding.path.relative_to(root)
        counts = (f"{finding.found:,}", f"{finding.expected:,}")
        table.add_row(_mark(finding), finding.what, *counts, markup(place))
    return table


def _mark(finding: "Finding") -> str:
    if finding.ok:
        return "[green]ok[/]"
    if finding.found == 0:
        return "[bold red]missing[/]"
    few = finding.found < finding.expected
    return "[bold red]too few[/]" if few else "[yellow]too many[/]"


@app.command()
def show(
    name: Name,
    index: Annotated[int, typer.Option("--index", "-i", help="Index of the sample, from 0.")] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="The image to write.")] = Path(
        "sample.png"
    ),
    root: Root = None,
) -> None:
    """Draw a sample with its annotation.

    Example: frozenseg datasets show shapes_val --index 3 --output scene.png
    """
    from frozenseg.data.catalog import dataset_samples, dataset_vocabulary
    from frozenseg.io.files import atomic_write
    from frozenseg.visualization.annotations import draw_sample

    name, _ = test_set(name)
    with errors.status(f"opening {markup(name)}"):
        samples = dataset_samples(name, root=root, skip_bad=True)
    if not 0 <= index < len(samples):
        raise UserError(f"{name} has samples 0 to {len(samples) - 1}: give another --index")
    sample = samples[index]
    picture = draw_sample(sample, dataset_vocabulary(name))
    with atomic_write(output) as part:
        picture.save(part)
    line = shown(f"{output}: {sample.file_name}")
    console.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="A folder of LabelMe's JSON files, or of YOLO's text files."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The data set file to write, ending in .yaml."),
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            help="The folder of images (default: SOURCE; for YOLO, 'images' beside 'labels').",
            show_default=False,
        ),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(help="YOLO's YAML file with the class names.", show_default=False),
    ] = None,
    stuff: Annotated[
        str, typer.Option(help="Stuff classes, separated by ','.", show_default=False)
    ] = "",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out faulty annotations.")
    ] = False,
) -> None:
    """Convert polygons of LabelMe or YOLO to COCO's format, with a data set file.

    Example: frozenseg datasets convert photos --output football.yaml --stuff lawn
    """
    from frozenseg.data.conversion.write import convert_dataset

    done = convert_dataset(
        source,
        output,
        images=images,
        names=names,
        stuff=[word.strip() for word in stuff.split(",") if word.strip()],
        skip_bad=skip_bad,
    )
    for fault in done.faults:
        console.print(f"[yellow]left out:[/] {markup(fault)}", soft_wrap=True, highlight=False)
    line = f"{done.num_objects} objects of {done.num_classes} classes in {done.num_images} images"
    if done.faults:
        line += f", {len(done.faults)} left out"
    console.print(line, highlight=False, markup=False)
    console.print(shown(f"written: {output}"), highlight=False, markup=False, soft_wrap=True)
