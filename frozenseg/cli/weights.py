"""``frozenseg weights``: the published weights, their licences, and checks of their files."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frozenseg.cli.console import errors, print_line

if TYPE_CHECKING:
    from frozenseg.checkpoint.published import Published

app = typer.Typer(
    no_args_is_help=True,
    help="List published weights and check downloaded files.\n\nExample: frozenseg weights list",
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A name from 'frozenseg weights list'.", show_default=False
    ),
]
File = Annotated[
    Path | None,
    typer.Option("--file", help="The downloaded file (default: its place in the cache folder)."),
]
POLL_S = 2.0


@app.command("list")
def list_weights() -> None:
    """List the published weights with their licences, and mark those on disk.

    Example: frozenseg weights list
    """
    from frozenseg.checkpoint.published import published_weights
    from frozenseg.io.files import is_file

    for entry in published_weights().values():
        print_line(f"{entry.name}{' (on disk)' if is_file(entry.place) else ''}")
        print_line(f"    {entry.what}; licence: {entry.licence}")
        print_line(f"    {entry.url}")


@app.command()
def get(
    name: Name,
    file: File = None,
    wait: Annotated[float, typer.Option(help="Minutes to wait for the file.", min=0)] = 0,
) -> None:
    """Show link and licence, look for the downloaded file, and check it.

    The files are on Google Drive, where you must confirm a download: nothing is fetched.

    Example: frozenseg weights get fcclip-rn50 --wait 30
    """
    from frozenseg.checkpoint.published import find_published
    from frozenseg.io.files import is_file

    entry = find_published(name)
    path = entry.place if file is None else file
    print_line(f"{entry.name}: {entry.what}")
    print_line(f"licence: {_licence(entry)}")
    print_line(f"download in a browser: {entry.url}")
    print_line(f"put the file at:       {path}")
    deadline = time.monotonic() + wait * 60
    with errors.status("waiting for the file"):
        while not is_file(path) and time.monotonic() < deadline:
            time.sleep(POLL_S)
    _check(entry, path)


@app.command()
def check(name: Name, file: File = None) -> None:
    """Check a downloaded file: size, hashes, names and shapes of its weights.

    Example: frozenseg weights check fcclip-rn50 --file fcclip_r50.pth
    """
    from frozenseg.checkpoint.published import find_published

    entry = find_published(name)
    _check(entry, entry.place if file is None else file)


def _licence(entry: "Published") -> str:
    if entry.licence.startswith("code "):
        return f"{entry.licence.removeprefix('code ')} for the code; none stated for the weights"
    if entry.licence == "none stated":
        return "none stated: ask the authors before you redistribute or sell the weights"
    return entry.licence


def _check(entry: "Published", path: Path) -> None:
    from frozenseg import model_config
    from frozenseg.builders.weight_conversion import check_fits
    from frozenseg.checkpoint.published import check_file, remember
    from frozenseg.checkpoint.weights import open_weights

    sha256 = check_file(entry, path)
    with errors.status("reading the weights"):
        if entry.model:
            check_fits(path, model_config(entry.model))
        else:
            open_weights(path)
    first = remember(entry, sha256)
    print_line(f"SHA-256 {sha256}")
    print_line(
        "This is the first file under this name, so it is trusted; another one will be refused."
        if first
        else "It is the file that was trusted first under this name."
    )
    if entry.model:
        print_line(f"use it: --model {entry.model} --weights {path}")
    else:
        print_line("names and shapes were not compared: no model of this package is these weights")
