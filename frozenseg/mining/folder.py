"""The folder of mined pairs: crops, a record per finished image, and the list of all pairs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from frozenseg.data.pairs import Pair, check_names, write_crop, write_pairs
from frozenseg.errors import UserError
from frozenseg.io.gates import parser_gate
from frozenseg.io.records import read_record, sound_record, write_record
from frozenseg.io.text import one_line, quoted
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
            write_record(path, settings)
            return
        stored = read_record(path)
        for key in sorted(stored.keys() | settings.keys()):
            if stored.get(key) != settings.get(key):
                raise UserError(
                    f"{one_line(self.folder)} holds pairs mined with {key} "
                    f"{quoted(stored.get(key))}, not {quoted(settings.get(key))}: choose another "
                    "--output, or mine with the stored settings"
                )

    def has(self, index: int) -> bool:
        """Returns True if the image with this index is finished and its record is sound."""
        return self.read(index) is not None

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
        write_record(self._record_path(index), record._asdict())
        return record

    def read(self, index: int) -> Record | None:
        """Returns the record of a finished image; None if there is none, or a damaged one."""
        path = self._record_path(index)
        content = sound_record(path)
        return None if content is None else _record_of(content, path)

    def records(self, indices: Sequence[int]) -> Iterator[Record]:
        """Yields the records of the finished images among these."""
        return (record for record in map(self.read, indices) if record is not None)

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


def _record_of(content: Mapping[str, Any], path: Path) -> Record:
    """Checks what a record of another origin may hold, although its digest is right."""
    with parser_gate(path, expected="a record of mined pairs", advice="delete it and mine again"):
        record = Record(tuple(Pair(*map(str, row)) for row in content["pairs"]), content["problem"])
    for pair in record.pairs:
        check_names(pair, path.parents[2], source=path)
    return record


def _place_of(index: int) -> str:
    return f"{index // IMAGES_PER_FOLDER:03d}/{index:06d}"
