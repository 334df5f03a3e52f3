"""Out of memory, on the processor or a GPU, as one sentence; PyTorch is not imported."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frozenseg.errors import UserError
from frozenseg.io.text import one_line

SMALLER = "make it smaller, lower INPUT.MIN_SIZE_TEST, or ask for one task and fewer classes"
ADVICE = "make images or batches smaller, or use a machine with more of it"
# PyTorch raises a RuntimeError with one of these, and the libraries below it others
_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


class OutOfMemory(UserError):
    """There is not enough memory for one image, or for a run."""


def is_out_of_memory(error: BaseException) -> bool:
    """Returns True for errors of Python, NumPy, Pillow and PyTorch when memory is exhausted."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


@contextmanager
def memory_gate(what: str | Path, *, advice: str = SMALLER) -> Iterator[None]:
    """Turns exhausted memory inside the block into one sentence; other errors pass unchanged.

    Args:
        what: the image, or the work.
        advice: what to do next.

    Raises:
        OutOfMemory: there was not enough memory. What the block had allocated is free by then.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    else:
        return
    # out of the handler, which keeps the frames that hold the memory
    raise OutOfMemory(f"{one_line(what)} does not fit in memory: {advice}")
