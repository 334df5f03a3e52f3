"""``frozenseg datasets``: what is on disk, what is missing, what a sample looks like."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from frozenseg.cli.console import console, errors
from frozenseg.cli.options import Root
from frozenseg.errors import UserError

app = typer.Typer(no_args_is_help=True, help="List, check and show the data sets on disk.")

Name = Annotated[str, typer.Argument(help="A registered name; `frozenseg datasets list` has all.")]


@app.command("list")
def list_datasets(root: Root = None) -> None:
    """Name every data set, and say which of them are on disk.

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
        about = f"shapes world, {len(dataset_samples(name)):,} pictures, drawn on demand"
        table.add_row("[green]built in[/]", f"{name}\n[dim]{about}[/]")
    for spec in SPECS:
        mark = "[green]on disk[/]" if is_present(spec, root=root) else "[dim]absent[/]"
        about = f"{spec.title} ({spec.vocabulary}), {spec.num_images:,} pictures"
        table.add_row(mark, f"{spec.name}\n[dim]{about}: {', '.join(spec.tasks)}[/]")
    console.print(table)
    place = f"{root}" if root.is_dir() else f"{root}, which does not exist"
    console.print(
        f"Looked in {escape(place)} (--root, DETECTRON2_DATASETS). `frozenseg datasets check NAME` "
        "counts files; datasets/README.md says where to get them.",
        style="dim",
    )


@app.command()
def check(name: Name, root: Root = None) -> None:
    """Count pictures and annotations, read a sample, and say what to do about what is missing.

    The exit status is 1 if something is. Example: frozenseg datasets check bdd10k_val_sem_seg
    """
    from frozenseg.data.catalog import SHAPES
    from frozenseg.data.checking import check_dataset
    from frozenseg.data.specs import data_root

    if name in SHAPES:
        console.print(f"{name} is drawn on demand: there is nothing to check")
        return
    root = data_root() if root is None else root
    with errors.status(f"checking {name}"):
        result = check_dataset(name, root=root)
    table = Table("", "what", "found", "of", box=None, padding=(0, 1))
    table.add_column(f"below {escape(str(root))}", overflow="fold")
    for finding in result.findings:
        mark = "[green]ok[/]" if finding.ok else "[bold red]too few[/]"
        if finding.found == 0:
            mark = "[bold red]missing[/]"
        if finding.found > finding.expected:
            mark = "[yellow]too many[/]"
        counts = (f"{finding.found:,}", f"{finding.expected:,}")
        place = escape(str(finding.path.relative_to(root)))
        table.add_row(mark, finding.what, *counts, place)
    console.print(table)
    if result.problem:
        console.print(f"[red]no sample can be read:[/] {escape(result.problem)}", soft_wrap=True)
    for advice in dict.fromkeys(each.advice for each in result.findings if each.advice):
        what = ", ".join(each.what for each in result.findings if each.advice == advice)
        console.print(f"[bold]{what}:[/] {escape(advice)}", soft_wrap=True, highlight=False)
    if not result.ok:
        raise typer.Exit(1)
    console.print("[green]complete; a sample was read[/]")


@app.command()
def show(
    name: Name,
    index: Annotated[int, typer.Option("--index", "-i", help="Which sample, from 0.")] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write.")] = Path(
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

    with errors.status(f"opening {name}"):
        samples = dataset_samples(name, root=root, skip_bad=True)
    if not 0 <= index < len(samples):
        raise UserError(f"{name} has samples 0 to {len(samples) - 1}: give another --index")
    sample = samples[index]
    picture = draw_sample(sample, dataset_vocabulary(name))
    with atomic_write(output) as part:
        picture.save(part)
    console.print(f"{output}: {sample.file_name}", highlight=False, soft_wrap=True)
