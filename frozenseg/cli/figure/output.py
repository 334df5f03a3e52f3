"""Writing a figure as a PNG file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from frozenseg.cli.console import print_line
from frozenseg.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image


def expect_png(path: Path) -> None:
    """Raises a ``UserError`` for another kind of file, before any long computation."""
    if path.suffix.lower() != ".png":
        raise UserError(f"--output {path} is not a PNG file: give a name that ends in .png")


def write_figure(figure: "Image", path: Path, names: Sequence[str] = ()) -> None:
    """Writes the figure and prints its path and the name of the image in each row."""
    from frozenseg.io.files import atomic_write

    with atomic_write(path) as part:
        figure.save(part, format="PNG")
    for row, name in enumerate(names, start=1):
        print_line(f"row {row}: {name}")
    print_line(f"written: {path}")
