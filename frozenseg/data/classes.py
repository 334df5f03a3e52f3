"""The classes of a data set: their ids and names in annotation files, and their synonyms."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from frozenseg.vocabulary.vocabulary import Vocabulary, builtin_vocabulary, class_table


@dataclass(frozen=True)
class ClassList:
    """Classes in order; all fields have one entry per class.

    Args:
        vocabulary: synonyms, thing flags and colours.
        ids: in annotation files.
        names: in annotation files.
    """

    vocabulary: Vocabulary
    ids: tuple[int, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def class_ids(self, *, contiguous: bool = False) -> dict[int, int]:
        """Class by id; ``contiguous`` is for files that number categories as the classes are."""
        return {index if contiguous else each: index for index, each in enumerate(self.ids)}

    def subset(self, keep: Sequence[bool]) -> "ClassList":
        """The classes that are flagged, in order."""
        rows = [row for row, kept in enumerate(keep) if kept]
        return ClassList(
            self.vocabulary.subset(keep),
            tuple(self.ids[row] for row in rows),
            tuple(self.names[row] for row in rows),
        )


@cache
def builtin_classes(name: str) -> ClassList:
    """A class list of the package.

    Raises:
        UserError: no list has this name.
    """
    vocabulary, rows = builtin_vocabulary(name), class_table(name)
    return ClassList(
        vocabulary, tuple(row.dataset_id for row in rows), tuple(row.name for row in rows)
    )
