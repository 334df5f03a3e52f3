"""Image files named on the command line, and the names of the files written for them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from frozenseg.cli.console import errors
from frozenseg.errors import UserError
from frozenseg.io.text import shown

SHOWN_NAMES = 5  # of files of a folder that are left out


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Replaces folders by the images in them, sorted by name, and drops duplicates.

    Files of a folder whose endings are not those of images are reported on standard error.

    Raises:
        UserError: a folder cannot be read, or contains no image.
    """
    from frozenseg.data.images import image_files

    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        try:
            images, others = image_files(path)
        except OSError as error:
            raise UserError(
                f"the folder {path} cannot be read ({error.strerror}): give another"
            ) from error
        if not images:
            raise UserError(
                f"the folder {path} contains no image that can be read: give another folder, or "
                "image files"
            )
        if others:
            _report_skipped(path, others)
        found += images
    return list(dict.fromkeys(found))


def _report_skipped(folder: Path, files: Sequence[Path]) -> None:
    names = ", ".join(each.name for each in files[:SHOWN_NAMES])
    more = f" and {len(files) - SHOWN_NAMES} more" if len(files) > SHOWN_NAMES else ""
    note = f"skipped files of {folder} that are not images: {names}{more}"
    errors.print(shown(note), highlight=False, markup=False, soft_wrap=True)


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
