"""Pairs of a masked region and a noun: the list of a folder, and its images."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from frozenseg.data.images import read_image, read_label_map
from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write, is_file
from frozenseg.io.gates import read_text
from frozenseg.io.paths import inside
from frozenseg.io.text import one_line, quoted
from frozenseg.io.writing import disk_gate, write_text

COLUMNS = ("filepath", "mask", "title")
MAX_LIST_BYTES = 1 << 30  # 1.3 million pairs have 0.1 GiB


class Pair(NamedTuple):
    """One row of a list of pairs; paths are relative to the folder of the list."""

    filepath: str  # the crop, RGB, filled with CLIP's mean colour outside the mask
    mask: str  # of the same size, white inside
    title: str  # the noun


def read_pairs(path: Path) -> list[Pair]:
    """Reads a tab-separated list with the columns ``filepath``, ``mask`` and ``title``.

    Raises:
        UserError: the file is missing or empty, lacks a column, or a row is incomplete or names a
            file outside the folder.
    """
    lines = read_text(path, max_bytes=MAX_LIST_BYTES).splitlines()
    header = lines[0].split("\t") if lines else []
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise UserError(
            f"{one_line(path)} has no column '{missing[0]}' in its first line: give a list of "
            "pairs that frozenseg mine wrote"
        )
    places = [header.index(column) for column in COLUMNS]
    pairs = [_pair_of(line, places, f"{path} line {n}") for n, line in enumerate(lines[1:], 2)]
    if not pairs:
        raise UserError(f"{one_line(path)} holds no pair: mine more images")
    for pair in pairs:
        check_names(pair, path.parent, source=path)
    return pairs


def check_names(pair: Pair, folder: Path, *, source: Path) -> None:
    """Refuses a pair whose names lead out of the folder of the pairs.

    Raises:
        UserError: a name is absolute or climbs.
    """
    for name in (pair.filepath, pair.mask):
        inside(folder, name, source=source, links=False)


def pair_lines(pairs: Iterable[Pair]) -> str:
    """Returns pairs as lines of a list, without the header."""
    return "".join("\t".join(pair) + "\n" for pair in pairs)


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Writes a list of pairs atomically.

    Raises:
        UserError: the file cannot be written.
    """
    write_text(path, "\t".join(COLUMNS) + "\n" + pair_lines(pairs))


def read_crop(folder: Path, pair: Pair, *, source: Path) -> tuple[Tensor, Tensor]:
    """Reads a pair's (3, H, W) uint8 crop and its (H, W) bool mask.

    Args:
        folder: of the list.
        pair: a row of the list.
        source: the list, for messages.

    Raises:
        UserError: a file is missing, damaged or behind a link that leads out of the folder, or the
            two differ in size.
    """
    paths = [inside(folder, name, source=source) for name in (pair.filepath, pair.mask)]
    for path in paths:
        if not is_file(path):
            name = path.relative_to(folder)
            raise UserError(
                f"{one_line(source)} names the crop {quoted(str(name))}, which does not exist: run "
                "frozenseg mine again, or remove the row"
            )
    crop = read_image(paths[0])
    mask = torch.from_numpy(read_label_map(paths[1]) > 0)
    if mask.shape != crop.shape[1:]:
        raise UserError(
            f"{one_line(paths[1])} has {tuple(mask.shape)} values but its crop "
            f"{tuple(crop.shape[1:])} pixels: run frozenseg mine again"
        )
    return crop, mask


def write_crop(folder: Path, filepath: str, mask_path: str, crop: Tensor, mask: Tensor) -> None:
    """Writes a crop and its mask as PNG files.

    Args:
        folder: of the pairs.
        filepath: of the crop, below the folder.
        mask_path: of the mask, below the folder.
        crop: (3, H, W) uint8 RGB.
        mask: (H, W) bool.

    Raises:
        UserError: a file cannot be written.
    """
    rgb = Image.fromarray(crop.permute(1, 2, 0).contiguous().cpu().numpy())
    for name, picture in ((filepath, rgb), (mask_path, Image.fromarray(mask.cpu().numpy()))):
        path = folder / name
        with disk_gate(path), atomic_write(path) as part:
            picture.save(part, format="PNG")


def _pair_of(line: str, places: Sequence[int], where: str) -> Pair:
    cells = line.split("\t")
    values = [cells[place].strip() if place < len(cells) else "" for place in places]
    if not all(values):
        raise UserError(
            f"{one_line(where)} needs {', '.join(COLUMNS)} separated by tabs, got {quoted(line)}: "
            "fix the row or remove it"
        )
    return Pair(*values)
