"""Reads samples in worker processes; errors name the file that was bad."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from torch.utils.data import Dataset

from frozenseg.errors import UserError
from frozenseg.structures import Sample

logger = logging.getLogger(__name__)

Key = TypeVar("Key")
Item = TypeVar("Item")


class Samples(Protocol):
    """A data set by index."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Sample: ...


class BadSample(NamedTuple):
    """Takes the place of a sample that could not be read."""

    reason: str  # one sentence that names the file


class Attempts(Dataset[Item | BadSample], Generic[Key, Item]):
    """Reads items by key; a ``UserError`` becomes a ``BadSample``, other errors name the key.

    An exception in a worker reaches the main process only as the text of its traceback, a value
    unchanged.
    """

    def __init__(self, read: Callable[[Key], Item]) -> None:
        self.read = read

    def __getitem__(self, key: Key) -> Item | BadSample:
        try:
            return self.read(key)
        except UserError as error:
            return BadSample(str(error))
        except Exception as error:
            raise RuntimeError(f"sample {key} could not be read: {error}") from error


def without_bad(
    items: Iterable[Item | BadSample], *, skip_bad: bool, skipped: list[str] | None = None
) -> list[Item]:
    """Returns the items that could be read, in order.

    Args:
        items: with a ``BadSample`` for each that could not.
        skip_bad: log the others and leave them out.
        skipped: gets their reasons appended.

    Raises:
        UserError: an item could not be read, and ``skip_bad`` is off.
    """
    good: list[Item] = []
    for item in items:
        if not isinstance(item, BadSample):
            good.append(item)
        elif skip_bad:
            logger.warning("skipped: %s", item.reason)
            if skipped is not None:
                skipped.append(item.reason)
        else:
            raise UserError(item.reason)
    return good


def as_list(items: Sequence[Item]) -> list[Item]:
    """Collates a batch as the list of its items."""
    return list(items)
