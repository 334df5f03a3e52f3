"""Commands of the documentation exist, with the options and keys that they use."""

import re
from pathlib import Path

import pytest
import typer

from frozenseg.cli.main import app
from frozenseg.cli.train_net import build_parser
from frozenseg.config.keys import known_keys
from tests.fixtures.pages import ROOT, commands

OURS = typer.main.get_command(app)
FOUND = sorted({(page, tuple(words)) for page, words in commands()})
SCRIPTS_OF_COMMANDS = {
    "tools/reproduce.py": ["reproduce"],
    "datasets/prepare_NAME.py": ["datasets", "prepare"],
}
IDS = [f"{page}: {' '.join(words)[:60]}" for page, words in FOUND]


@pytest.mark.parametrize("words", [words for _, words in FOUND], ids=IDS)
def test_command_exists(words: tuple[str, ...]) -> None:
    program, *arguments = words
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert {word for word in arguments if "=" not in word} <= set(targets)
    elif program.endswith("frozenseg"):
        check_ours(arguments)
    else:
        check_python(arguments)


def check_ours(arguments: list[str]) -> None:
    command = OURS
    while arguments and hasattr(command, "commands") and not arguments[0].startswith("-"):
        name, *arguments = arguments
        named = [command.commands[each] for each in name.split("|") if each in command.commands]
        assert named, f"there is no command {name}"
        command = named[0]
    options = {each for parameter in command.params for each in parameter.opts}
    options |= {each for parameter in command.params for each in parameter.secondary_opts}
    options |= {"--help", "-h"}
    unknown = [option for option in used_options(arguments) if option not in options]
    assert not unknown, f"{command.name} has no {unknown}"
    check_keys(arguments)


def check_python(arguments: list[str]) -> None:
    script, *rest = arguments[1:] if arguments[0] == "-m" else arguments
    if script in SCRIPTS_OF_COMMANDS:
        return check_ours([*SCRIPTS_OF_COMMANDS[script], *rest])
    if script.endswith("train_net.py"):
        source = build_parser().format_help()
    elif script.endswith(".py"):
        source = source_of(script)
    elif script.startswith("tools."):
        source = source_of(script.replace(".", "/"))
    else:
        return  # another program, such as pytest
    unknown = [option for option in used_options(rest) if option not in source]
    assert not unknown, f"{script} has no {unknown}"
    check_keys(rest)


def source_of(script: str) -> str:
    """Returns the text of a script, or of all modules of a package."""
    path = ROOT / script
    files = [path] if path.suffix else [*path.glob("*.py"), *path.parent.glob(f"{path.name}.py")]
    assert files, f"there is no {script}"
    return "".join(file.read_text() for file in files)


def used_options(arguments: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in arguments if re.match(r"--?[a-z]", word)]


def check_keys(arguments: list[str]) -> None:
    """Checks the names of configuration keys, whether followed by '=' or by a value."""
    keys = set(known_keys())
    for word in arguments:
        name = word.partition("=")[0]
        if re.fullmatch(r"(MODEL|INPUT|SOLVER|TEST|DATASETS|DATALOADER)(\.[A-Z_0-9]+)+", name):
            assert name in keys, f"there is no key {name}"


def test_commands_are_found() -> None:
    pages = {Path(page).name for page, _ in FOUND}
    assert {"README.md", "training.md", "figures.md", "troubleshooting.md"} <= pages
