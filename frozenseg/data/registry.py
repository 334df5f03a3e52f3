"""Names of data sets: the paper's, those registered from Python, and data set files."""

import difflib
from pathlib import Path

from frozenseg.data import specs
from frozenseg.data.dataset_file import is_dataset_file, read_dataset_file
from frozenseg.data.specs import DatasetSpec
from frozenseg.errors import UserError

_registered: dict[str, DatasetSpec] = {}


def register_dataset(source: str | Path | DatasetSpec) -> str:
    """Makes own data known under its name in this process.

    The name then works like those of the paper's data sets. The path of a data set file works
    everywhere without this call, and in other processes too.

    Args:
        source: a data set file, or a record.

    Returns:
        The name.

    Raises:
        UserError: the file is wrong, or another data set has this name.
    """
    spec = source if isinstance(source, DatasetSpec) else read_dataset_file(Path(source))
    if spec.name in _builtin() or _registered.get(spec.name, spec) != spec:
        raise UserError(f"another data set has the name '{spec.name}': choose another name")
    _registered[spec.name] = spec
    return spec.name


def dataset_spec(name: str) -> DatasetSpec:
    """The record of a registered name, or of a data set file.

    Raises:
        UserError: no data set has this name; the nearest ones are given. Or the file is wrong.
    """
    if not isinstance(name, str):
        raise UserError(f"a data set is named by text, got {name!r}: give a name or a YAML file")
    known = _builtin() | _registered
    if name in known:
        return known[name]
    if is_dataset_file(name):
        return read_dataset_file(Path(name).expanduser())
    near = [each for each in known if name.lower() in each] or difflib.get_close_matches(
        name, known, n=1, cutoff=0.4
    )
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(
        f"no data set is registered as {name[:200]}: {hint}`frozenseg datasets list` has all; for "
        "own data give a YAML file, see `frozenseg datasets check --help`"
    )


def _builtin() -> dict[str, DatasetSpec]:
    return {spec.name: spec for spec in specs.SPECS}
