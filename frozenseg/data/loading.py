"""Reading samples in worker processes without losing sight of which file was bad."""

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
    """Stands for a sample that could not be read."""

    reason: str  # one sentence that names the file


class Attempts(Dataset[Item | BadSample], Generic[Key, Item]):
    """What ``read`` gives for a key; a user's mistake becomes a value, anything else names the key.

    An exception raised in a worker reaches the main process as a traceback in words; a value as it
    is.
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
    """The items that could be read, in order.

    Raises:
        UserError: one could not, and ``skip_bad`` is off; otherwise it is logged, and the reason
            added to ``skipped``.
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
    """Keeps a batch as the items that it consists of."""
    return list(items)
