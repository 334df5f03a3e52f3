"""Tables of the shapes world whose rows need commands to run first, with several seeds.

Every step is a public command and is skipped once its file exists.
"""

import logging
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from frozenseg.cli.reproduction.measuring import Metrics, measured
from frozenseg.cli.reproduction.paper import Column
from frozenseg.config import load_config

logger = logging.getLogger(__name__)

DATASET = "shapes_val"

Rows = Mapping[str, list[str]]  # a configuration, then its keys and values, by the row's title


class SeededTable(NamedTuple):
    """A table whose rows come from one folder, and from one seed where they are trained."""

    caption: str
    folder: str
    rows: Callable[[Path, int], Rows]
    columns: tuple[Column, ...]
    overrides: tuple[str, ...] = ()
    seeds_matter: bool = True


def measure(
    table: SeededTable,
    seeds: Sequence[int],
    output: Path,
    *,
    overrides: Sequence[str] = (),
    limit: int | None = None,
) -> dict[str, list[Metrics]]:
    """Makes what the rows need and evaluates them; one result per seed by row title.

    A row that no seed changes has one result.

    Args:
        table: the table.
        seeds: of the trainings.
        output: everything is stored below it.
        overrides: configuration keys and values for every row.
        limit: evaluate only the first images.
    """
    folder = output / table.folder
    found: dict[str, list[Metrics]] = {}
    before: Rows = {}
    for seed in seeds if table.seeds_matter else seeds[:1]:
        rows = table.rows(folder, seed)
        for title, (config, *keys) in rows.items():
            if rows[title] == before.get(title):
                continue
            logger.info("%s, seed %d", title, seed)
            cfg = load_config(config, [*table.overrides, *keys, *overrides])
            report = measured(cfg, DATASET, folder / "scores" / str(seed), limit=limit)
            found.setdefault(title, []).append(report)
        before = rows
    return found


def made(path: Path, make: Callable[[], None]) -> Path:
    """Returns a file, which is made first unless it exists."""
    if not path.exists():
        make()
    return path


def frozenseg(*arguments: object) -> None:
    """Runs a command.

    Raises:
        SystemExit: it was stopped or failed; with its exit status.
    """
    logger.info("frozenseg %s", " ".join(map(str, arguments)))
    command = [sys.executable, "-m", "frozenseg", *map(str, arguments)]
    status = subprocess.run(command, check=False).returncode
    if status:
        raise SystemExit(status)
