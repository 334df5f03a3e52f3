"""Preparations of public data sets: from the files of their makers to those that are read here.

    frozenseg datasets prepare coco

One module per data set; ``prepare`` does the work for some of its ``SPLITS``.
"""

from importlib import import_module
from types import ModuleType

from frozenseg.errors import UserError
from frozenseg.io.text import quoted

PREPARATIONS = ("ade20k", "ade20k_full", "coco", "pascal_context", "pascal_voc")


def preparation_of(name: str) -> ModuleType:
    """Returns the module of a preparation, which is imported when it is asked for.

    Args:
        name: one of ``PREPARATIONS``, or a registered data set that needs one of them.

    Raises:
        UserError: there is no such preparation.
    """
    if name not in PREPARATIONS:
        name = _needed_by(name)
    return import_module(f"{__name__}.{name}")


def _needed_by(dataset: str) -> str:
    from frozenseg.data.registry import dataset_spec

    command = dataset_spec(dataset).prepare if dataset.isidentifier() else None
    name = (command or "").rpartition(" ")[-1]
    if name not in PREPARATIONS:
        raise UserError(
            f"{quoted(dataset)} has no preparation here: names are {', '.join(PREPARATIONS)}, and "
            "`frozenseg datasets check` says what other data sets need"
        )
    return name
