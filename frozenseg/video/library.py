"""PyAV, the bindings of FFmpeg that read and write videos, and its errors as sentences."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from frozenseg.errors import UserError
from frozenseg.io.gates import reason_of
from frozenseg.runtime.extras import require


def pyav() -> ModuleType:
    """Imports PyAV; raises a ``UserError`` if it is not installed."""
    av = require("av", extra="video", purpose="video")
    # Errors are raised, not printed. The log is FFmpeg's, not PyAV's, which needs Python's lock:
    # a decoder freed while its threads report a damaged frame would wait for ever.
    av.logging.restore_default_callback()
    av.logging.set_libav_level(av.logging.PANIC)
    return av


@contextmanager
def one_sentence(problem: str, *, advice: str) -> Iterator[None]:
    """Turns errors of calls of PyAV inside the block into ``PROBLEM (reason): ADVICE``."""
    try:
        yield
    except (pyav().error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise UserError(f"{problem} ({reason}): {advice}") from error
