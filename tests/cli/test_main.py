"""The command as a whole: help, version, errors as sentences, exit statuses."""

import ast
import errno
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import typer
import yaml
from PIL import Image

import frozenseg
from frozenseg.cli.main import app
from frozenseg.config import model_names

SHIPPED = model_names()["shapes"].weights


def refused(done, *parts: str) -> None:
    assert done.exit_code == 2, done.output
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: "), done.stderr
    for part in parts:
        assert part in done.stderr


def test_version_is_the_package_version(run):
    done = run("--version")
    assert (done.exit_code, done.stdout) == (0, f"frozenseg {frozenseg.__version__}\n")


def test_help_names_every_command_and_imports_no_torch():
    code = (
        "import sys; from frozenseg.cli.main import app; assert 'torch' not in sys.modules; app()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True
    )
    for command in ("segment", "demo", "evaluate", "train", "doctor"):
        assert command in done.stdout


def every_command() -> list[str]:
    """The words of every command and every group of commands."""

    def below(command, words: tuple[str, ...]):
        yield " ".join(words)
        for name, child in getattr(command, "commands", {}).items():
            yield from below(child, (*words, name))

    return list(below(typer.main.get_command(app), ()))


def test_a_paragraph_of_help_flows_and_an_example_of_a_file_keeps_its_lines(run):
    lines = [line.strip() for line in run("datasets", "check", "--help").stdout.splitlines()]
    assert "player: [athlete, footballer] # synonyms" in lines
    long = [line.strip() for line in run("segment", "--help").stdout.splitlines()]
    start = next(place for place, line in enumerate(long) if line.startswith("For each"))
    assert all(len(line) > 50 for line in long[start : start + 2])


def test_the_help_of_check_has_every_key_of_a_data_set_file(run):
    from frozenseg.data.dataset_file import KEYS

    _, _, rest = run("datasets", "check", "--help").stdout.partition("'root':")
    example = textwrap.dedent(rest.partition("Example:")[0])
    assert set(yaml.safe_load(example)) == set(KEYS)


def test_no_text_for_users_names_a_file_that_a_wheel_lacks():
    repository_only = re.compile(r"\b(docs|tools)/|\btrain_net\.py|CONTRIBUTING")
    for path in Path(frozenseg.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        documentation = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and not (path.parent.name == "cli" and isinstance(node, ast.FunctionDef))  # help
            and ast.get_docstring(node)
        }
        texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
        for node in texts:
            if isinstance(node.value, str) and id(node) not in documentation:
                assert not repository_only.search(node.value), f"{path}:{node.lineno}"


@pytest.mark.parametrize("command", every_command())
def test_every_help_has_an_example_and_the_exit_statuses(run, command):
    help_text = " ".join(run(*command.split(), "--help").stdout.split())
    assert f"Example: frozenseg {command}".strip() in help_text
    assert "Exit status: 0 success;" in help_text and "2 a user error" in help_text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("frozenseg segm", "segment"),
        ("frozenseg datasets sh", "show"),
        ("frozenseg segment --model fcclip-rn50x6", "fcclip-rn50x64"),
        ("frozenseg segment --recur", "--recursive"),
    ],
)
def test_the_shell_completes_commands_options_and_models(words, expected):
    place = len(words.split()) - 1
    done = subprocess.run(
        [sys.executable, "-c", "from frozenseg.cli.main import main; main()"],
        env={
            "PATH": "",
            "COMP_WORDS": words,
            "COMP_CWORD": str(place),
            "_FROZENSEG_COMPLETE": "complete_bash",
        },
        capture_output=True,
        text=True,
    )
    assert expected in done.stdout.split(), done.stderr


def test_unknown_option_ends_with_2(run):
    assert run("segment", "--wrods", "cat").exit_code == 2


def test_unknown_configuration_key_names_the_nearest(run, picture, tmp_path):
    (tmp_path / "typo.yaml").write_text("MODEL:\n  SAM_NAMES: vit_b\n")
    done = run("segment", picture, "-w", "cat", "--model", tmp_path / "typo.yaml")
    refused(done, "MODEL.SAM_NAMES", "MODEL.SAM_NAME", "typo.yaml")


def test_missing_configuration_file(run, picture):
    refused(run("segment", picture, "-w", "cat", "--model", "gone.yaml"), "gone.yaml")


def test_missing_tower(run, picture, tmp_path, foreign_weights):
    config = tmp_path / "tower.yaml"
    config.write_text(
        "MODEL:\n  FROZEN_SEG:\n    CLIP_MODEL_NAME: RN50\n"
        f"    CLIP_PRETRAINED_WEIGHTS: {tmp_path}/clip.safetensors\n"
    )
    done = run("segment", picture, "-w", "cat", "--model", config, "--weights", SHIPPED)
    refused(done, "clip.safetensors")


def test_weights_of_another_architecture_are_refused_by_name_and_shape(
    run, picture, foreign_weights
):
    done = run("segment", picture, "-w", "cat", "--weights", foreign_weights)
    refused(done, "foreign.safetensors", "query_features.weight", "(11, 64)", "(30, 64)")


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), "/root/x"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space"),
    ],
)
def test_trouble_with_files_is_a_sentence(run, picture, monkeypatch, error, part):
    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(frozenseg, "load", load)
    refused(run("segment", picture, "-w", "cat"), part)


def test_a_bug_keeps_its_traceback(run, picture, monkeypatch):
    def load(*_: object, **__: object) -> None:
        raise ValueError("two and two")

    monkeypatch.setattr(frozenseg, "load", load)
    done = run("segment", picture, "-w", "cat")
    assert done.exit_code == 1
    assert isinstance(done.exception, ValueError)


def test_debug_shows_where_a_mistake_was_noticed(run, picture):
    done = run("--debug", "segment", picture, "-w", "cat; cat")
    assert isinstance(done.exception, frozenseg.errors.UserError)


def test_interrupt_ends_quietly_with_130(run, picture, monkeypatch):
    def load(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(frozenseg, "load", load)
    done = run("segment", picture, "-w", "cat")
    assert (done.exit_code, done.stdout, done.stderr) == (130, "", "")


def test_console_command_exits_with_2_and_one_line(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", "from frozenseg.cli.main import main; main()", "segment", "x.png"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stdout == "" and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_offline_names_the_file_to_fetch_instead_of_downloading(
    run, tmp_path, monkeypatch, foreign_weights
) -> None:
    monkeypatch.setenv("FROZENSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FROZENSEG_OFFLINE", "")
    image = tmp_path / "image.png"
    Image.new("RGB", (32, 32)).save(image)
    model = "fcclip_rn50.yaml"
    options = ("--model", model, "--weights", SHIPPED, "-o", tmp_path / "out")
    done = run("--offline", "segment", image, "-w", "cat", *options)
    assert done.exit_code == 2
    assert "offline" in done.stderr and "RN50" in done.stderr
    assert not (tmp_path / "out").exists()


def test_python_m_frozenseg_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "frozenseg", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"frozenseg {frozenseg.__version__}\n"
