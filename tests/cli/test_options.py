"""Options as dataclasses: Typer sees each field, the command gets the filled dataclass."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from frozenseg.cli.options import grouped, key_values
from frozenseg.errors import UserError


@dataclass(frozen=True)
class Size:
    height: Annotated[int, typer.Option("--height", "-y", help="In pixels.")] = 4
    width: int = 5


def command() -> tuple[typer.Typer, list[object]]:
    app, received = typer.Typer(), []

    @app.command()
    @grouped
    def draw(size: Size, name: str, *, loud: bool = False) -> None:
        """Draws something."""
        received.extend([size, name, loud])

    return app, received


def test_fields_become_options_of_the_command() -> None:
    app, received = command()
    done = CliRunner().invoke(app, ["sun", "-y", "7", "--loud"])
    assert done.exit_code == 0, done.output
    assert received == [Size(7, 5), "sun", True]
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert "--width" in shown and "In pixels." in shown and "Draws something." in shown


def test_settings_become_keys_and_values() -> None:
    assert key_values(["A.B=1", "C=x=y"]) == ["A.B", "1", "C", "x=y"]
    assert key_values(None) == []
    with pytest.raises(UserError, match="--set A has no value"):
        key_values(["A"])
