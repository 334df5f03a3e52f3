"""Image files named on the command line, and the names of the files written for them."""

from collections.abc import Iterable
from pathlib import Path

from frozenseg.errors import UserError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Replaces folders by the images in them, sorted by name, and drops duplicates.

    Raises:
        UserError: a folder contains no image.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not inside:
            raise UserError(
                f"the folder {path} contains no image ({' '.join(IMAGE_SUFFIXES)}): "
                "give another folder, or image files"
            )
        found += inside
    return list(dict.fromkeys(found))


def output_stems(paths: Iterable[Path]) -> dict[Path, str]:
    """A distinct stem of output files for each image: its own, numbered if already taken."""
    taken: set[str] = set()
    stems: dict[Path, str] = {}
    for path in paths:
        stem, number = path.stem, 1
        while not taken.isdisjoint(files := (stem, f"{stem}_ids")):
            number += 1
            stem = f"{path.stem}_{number}"
        taken.update(files)
        stems[path] = stem
    return stems


def refuse_to_overwrite(stems: dict[Path, str], folder: Path) -> None:
    """Raises a ``UserError`` if a result would replace an input image."""
    inputs = {path.resolve() for path in stems}
    for stem in stems.values():
        for name in (f"{stem}.png", f"{stem}_ids.png"):
            if (folder / name).resolve() in inputs:
                raise UserError(
                    f"{folder / name} is an input and would be overwritten: choose another --output"
                )
        masks = (folder / f"{stem}_masks").resolve()
        if any(path.parent == masks for path in inputs):
            raise UserError(
                f"{masks} contains inputs, and --masks would overwrite it: choose another --output"
            )
