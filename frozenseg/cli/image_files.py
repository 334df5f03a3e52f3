"""Files named on the command line: folders, patterns, lists, standard input, and outputs."""

import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from frozenseg.cli.console import errors
from frozenseg.errors import UserError
from frozenseg.io.files import is_file, is_folder
from frozenseg.io.text import one_line, shown

SHOWN_NAMES = 5  # of files of a folder that are left out
STANDARD_INPUT = Path("-")  # instead of a file
STANDARD_INPUT_STEM = "stdin"  # of the files written for it
MAX_LIST_BYTES = 100_000_000
VIDEO_ENDINGS = frozenset(
    {
        *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
        *(".mts", ".ogv", ".ts", ".webm", ".wmv"),
    }
)


def is_video(path: Path) -> bool:
    """Returns True for a name with the ending of a video."""
    return path.suffix.lower() in VIDEO_ENDINGS


def find_images(paths: Iterable[Path], *, recursive: bool = False) -> list[Path]:
    """Replaces folders by the images in them and patterns by what they match; drops duplicates.

    The files of a folder or pattern are sorted by name. Those of a folder whose endings are not
    those of images are reported on standard error.

    Args:
        paths: files, folders, and patterns such as ``*.jpg`` or ``**/*.jpg``.
        recursive: also look into the folders of folders.

    Raises:
        UserError: a folder cannot be read or contains no image, or a pattern matches nothing.
    """
    found: list[Path] = []
    for path in _expanded(paths):
        found += _in_folder(path, recursive=recursive) if is_folder(path) else [path]
    return list(dict.fromkeys(found))


def listed_paths(source: Path) -> list[Path]:
    """The paths of a text file, one per line; ``-`` is standard input. Empty lines do not count.

    Raises:
        UserError: there is no such file, or no path in it.
    """
    from frozenseg.io.gates import as_text, read_standard_input, read_text

    if source == STANDARD_INPUT:
        text = as_text(read_standard_input(max_bytes=MAX_LIST_BYTES), "standard input")
    elif is_file(source):
        text = read_text(source, max_bytes=MAX_LIST_BYTES)
    else:
        raise UserError(f"no list of images {one_line(source)}: give a text file, or - for stdin")
    paths = [Path(line) for line in text.splitlines() if line.strip()]
    if not paths:
        raise UserError(f"the list {one_line(source)} is empty: write one path per line")
    if "\0" in text:
        raise UserError(f"the list {one_line(source)} holds a zero byte: write one path per line")
    return paths


def _expanded(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if not set("*?[") & set(str(path)) or is_file(path) or is_folder(path):
            yield path
            continue
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise UserError(f"nothing matches {one_line(path)}: check the pattern")
        yield from map(Path, matches)


def _in_folder(folder: Path, *, recursive: bool) -> list[Path]:
    from frozenseg.data.images import image_files

    try:
        images, others = image_files(folder, recursive=recursive)
    except OSError as error:
        raise UserError(
            f"the folder {folder} cannot be read ({error.strerror}): give another"
        ) from error
    if not images:
        hint = "" if recursive else ", add --recursive for the folders in it"
        raise UserError(
            f"the folder {folder} contains no image that can be read: give another folder{hint}, "
            "or image files"
        )
    if others:
        _report_skipped(folder, others)
    return images


def _report_skipped(folder: Path, files: Sequence[Path]) -> None:
    names = ", ".join(str(each.relative_to(folder)) for each in files[:SHOWN_NAMES])
    more = f" and {len(files) - SHOWN_NAMES} more" if len(files) > SHOWN_NAMES else ""
    note = f"skipped files of {folder} that are not images: {names}{more}"
    errors.print(shown(note), highlight=False, markup=False, soft_wrap=True)


def output_stems(paths: Iterable[Path]) -> dict[Path, str]:
    """A distinct stem of output files for each image: its own, numbered if already taken."""
    taken: set[str] = set()
    stems: dict[Path, str] = {}
    for path in paths:
        own = STANDARD_INPUT_STEM if path == STANDARD_INPUT else path.stem
        stem, number = own, 1
        while not taken.isdisjoint(files := (stem, f"{stem}_ids")):
            number += 1
            stem = f"{own}_{number}"
        taken.update(files)
        stems[path] = stem
    return stems


def refuse_to_overwrite(stems: dict[Path, str], folder: Path) -> None:
    """Raises a ``UserError`` if a result would replace an input image or video."""
    inputs = {path.resolve() for path in stems}
    for source, stem in stems.items():
        for name in (f"{stem}.png", f"{stem}_ids.png", f"{stem}{source.suffix}", f"{stem}.mkv"):
            if (folder / name).resolve() in inputs:
                raise UserError(
                    f"{folder / name} is an input and would be overwritten: choose another --output"
                )
        for kind in ("masks", "frames"):
            written = (folder / f"{stem}_{kind}").resolve()
            if any(path.parent == written for path in inputs):
                raise UserError(
                    f"{written} contains inputs, and --{kind} would overwrite it: choose another "
                    "--output"
                )
