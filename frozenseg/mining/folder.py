"""The folder of mined pairs: crops, a record per finished image, and the list of all pairs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from frozenseg.data.pairs import Pair, write_crop, write_pairs
from frozenseg.errors import UserError
from frozenseg.io.documents import read_json
from frozenseg.io.text import one_line, quoted
from frozenseg.io.writing import write_text
from frozenseg.mining.miner import Mined

LIST = "pairs.tsv"
SETTINGS = "settings.json"
IMAGES_PER_FOLDER = 1000


class Record(NamedTuple):
    """A finished image."""

    pairs: tuple[Pair, ...]
    problem: str | None  # why there are no pairs


class PairFolder:
    """Stores pairs image by image; a record appears only after the image's crops.

    Args:
        folder: of one mining, possibly interrupted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check_settings(self, settings: Mapping[str, str]) -> None:
        """Stores what the pairs depend on, or compares it with what is stored.

        Raises:
            UserError: the folder holds pairs of other settings.
        """
        path = self.folder / SETTINGS
        if not path.exists():
            write_text(path, json.dumps(dict(settings), indent=2) + "\n")
            return
        stored = read_json(path)
        for key in sorted(stored.keys() | settings.keys()):
            if stored.get(key) != settings.get(key):
                raise UserError(
                    f"{one_line(self.folder)} holds pairs mined with {key} "
                    f"{quoted(stored.get(key))}, not {quoted(settings.get(key))}: choose another "
                    "--output, or mine with the stored settings"
                )

    def has(self, index: int) -> bool:
        """Returns True if the image with this index is finished."""
        return self._record_path(index).is_file()

    def write(self, index: int, mined: Mined) -> Record:
        """Stores an image's crops, then its record.

        Raises:
            UserError: a file cannot be written.
        """
        pairs: list[Pair] = []
        for place, region in enumerate(mined.regions):
            stem = f"{_place_of(index)}-{place:02d}"
            names = f"crops/{stem}.png", f"masks/{stem}.png"
            write_crop(self.folder, *names, region.crop, region.mask)
            pairs += [Pair(*names, noun) for noun in region.nouns]
        record = Record(tuple(pairs), mined.problem)
        write_text(self._record_path(index), json.dumps(record._asdict()))
        return record

    def read(self, index: int) -> Record:
        """Reads the record of a finished image.

        Raises:
            UserError: it cannot be read.
        """
        path = self._record_path(index)
        content = read_json(path)
        try:
            pairs = tuple(Pair(*map(str, row)) for row in content["pairs"])
            return Record(pairs, content["problem"])
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{one_line(path)} is no record of mined pairs: delete it and mine again"
            ) from error

    def records(self, indices: Sequence[int]) -> Iterator[Record]:
        """Yields the records of the finished images among these."""
        return (self.read(index) for index in indices if self.has(index))

    def write_list(self, records: Sequence[Record]) -> Path:
        """Writes the list of all pairs and returns its path.

        Raises:
            UserError: there is no pair.
        """
        pairs = [pair for record in records for pair in record.pairs]
        if not pairs:
            reasons = sorted({record.problem for record in records if record.problem})
            raise UserError(
                f"none of {len(records)} images gave a pair ({'; '.join(reasons)}): give other "
                "captions, or a proposer that finds masks in these images"
            )
        path = self.folder / LIST
        write_pairs(path, pairs)
        return path

    def _record_path(self, index: int) -> Path:
        return self.folder / "records" / f"{_place_of(index)}.json"


def _place_of(index: int) -> str:
    return f"{index // IMAGES_PER_FOLDER:03d}/{index:06d}"
