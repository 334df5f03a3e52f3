"""Small JSON files that the project writes for itself, with a digest of their content."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frozenseg.errors import UserError
from frozenseg.io.digest import DIGEST, check_digest, digest_of
from frozenseg.io.documents import read_json
from frozenseg.io.text import one_line
from frozenseg.io.writing import write_text

logger = logging.getLogger(__name__)


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON values with their digest, atomically.

    Args:
        path: of the file.
        content: JSON values by name; none is called ``sha256``.

    Raises:
        UserError: the file cannot be written.
    """
    digest = digest_of({}, _as_notes(content))
    write_text(path, json.dumps({**content, DIGEST: digest}, indent=1) + "\n")


def read_record(path: Path) -> dict[str, Any]:
    """Returns the values that ``write_record`` wrote.

    Raises:
        UserError: the file cannot be read or is damaged.
    """
    content = read_json(path)
    stored = content.pop(DIGEST, "")
    check_digest({}, {**_as_notes(content), DIGEST: stored}, source=one_line(path))
    return content


def sound_record(path: Path) -> dict[str, Any] | None:
    """Returns the values of a record; None, after a warning if it is damaged, if it must be made.

    Args:
        path: of a file of ``write_record``, which need not exist.
    """
    if not path.exists():
        return None
    try:
        return read_record(path)
    except UserError as error:
        logger.warning("%s; it is rebuilt", error)
        return None


def _as_notes(content: Mapping[str, Any]) -> dict[str, str]:
    return {"content": json.dumps(content, sort_keys=True)}
