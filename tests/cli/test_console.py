"""The terminal: names from files and users are shown, never interpreted."""

import io
import logging

from rich.table import Table

from frozenseg.cli import console
from frozenseg.cli.console import SafeConsole, ShownFormatter, accept_any_text, say_error
from frozenseg.io.text import markup

EVIL = "a\x1b]0;PWN\x07[bold]b\u202e.png"
SHOWN = "a\\x1b]0;PWN"


def test_a_console_shows_control_characters_in_text_and_tables() -> None:
    file = io.StringIO()
    safe = SafeConsole(file=file, width=200, force_terminal=True, color_system=None)
    safe.print(markup(EVIL))
    safe.print(EVIL, markup=False)
    table = Table("name")
    table.add_row(markup(EVIL))
    safe.print(table)
    written = file.getvalue()
    assert written.count(SHOWN) == 3 and written.count("[bold]b\\u202e.png") == 3
    assert "\x1b]0" not in written and "\x07" not in written


def test_an_error_is_one_line_without_control_characters(capsys) -> None:
    say_error(f"no image\n {EVIL}")
    written = capsys.readouterr().err
    assert written.splitlines()[-1].endswith(f"no image {SHOWN}\\x07[bold]b\\u202e.png")


def test_log_messages_show_control_characters() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 0, "cut: %s", (EVIL,), None)
    assert "\x1b" not in ShownFormatter("%(message)s").format(record)


def test_a_terminal_of_ascii_gets_every_text(monkeypatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(console.sys, "stdout", stream)
    accept_any_text()
    stream.write("猫")
    stream.flush()
    assert stream.buffer.getvalue() == b"\\u732b"


def test_a_command_shows_a_hostile_name(run) -> None:
    done = run("vocabulary", "show", "x\x1b[31m; [red]y")
    assert "\x1b[31m" not in done.output and "x\\x1b[31m" in done.output and "[red]y" in done.output
