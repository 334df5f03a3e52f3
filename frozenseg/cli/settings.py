"""``--set KEY=VALUE``: configuration keys, where a command's arguments are images."""

from collections.abc import Sequence
from typing import Annotated

import typer

from frozenseg.errors import UserError

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A configuration key of the model to change.",
        show_default=False,
    ),
]


def key_values(settings: Sequence[str]) -> list[str]:
    """``KEY=VALUE`` as the configuration takes them, one after the other."""
    pairs = []
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting} has no value: write KEY=VALUE")
        pairs += [key, value]
    return pairs
