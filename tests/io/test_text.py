import pytest

from frozenseg.io.text import markup, one_line, quoted, shown


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("plain words", "plain words"),
        ("Straße, 猫, é", "Straße, 猫, é"),
        ("miss\x1b]0;PWN\x07a.png", "miss\\x1b]0;PWN\\x07a.png"),
        ("\x9b31mred", "\\x9b31mred"),
        ("cat\u202egnp.exe", "cat\\u202egnp.exe"),
        ("lone \ud800", "lone \\ud800"),
        ("two\nlines", "two\\x0alines"),
        ("a\u200cb", "a\u200cb"),
    ],
)
def test_control_characters_are_written_out(text: str, printed: str) -> None:
    assert shown(text) == printed


def test_line_ends_can_be_kept() -> None:
    assert shown("a\n\x1b", keep="\n") == "a\n\\x1b"


def test_one_line_joins_whitespace() -> None:
    assert one_line(" a\n  b\x1b ") == "a b\\x1b"


@pytest.mark.parametrize("value", ["x" * 10_000, ["y" * 500] * 500, {"k": "v" * 9999}, 10**4000])
def test_at_most_200_characters_of_a_value_are_quoted(value: object) -> None:
    assert len(quoted(value)) <= 203


def test_a_short_value_is_quoted_whole() -> None:
    assert quoted("many") == "'many'"


def test_markup_prints_brackets_and_control_characters_as_they_are(capsys) -> None:
    from rich.console import Console

    Console(width=80).print(markup("[bold]x[/bold]\x1b[1m"))
    assert capsys.readouterr().out == "[bold]x[/bold]\\x1b[1m\n"
