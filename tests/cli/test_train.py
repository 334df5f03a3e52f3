"""``frozenseg train``: the same command as ``train_net.py``, with fewer words."""

from pathlib import Path

import pytest

from frozenseg.cli import train_net as command


@pytest.fixture
def parsed(monkeypatch) -> list:
    """What reaches the engine's own parser."""
    options = []

    def main(arguments: list[str]) -> int:
        options.append(command.build_parser().parse_args(arguments))
        return 75

    monkeypatch.setattr(command, "main", main)
    return options


def test_words_become_the_engines_options(run, parsed, tmp_path):
    run(
        *("train", "shapes", "--resume", "--num-gpus", 2, "-o", tmp_path),
        *("SOLVER.MAX_ITER", 10, "SEED", 1),
    )
    (options,) = parsed
    assert Path(options.config_file).name == "frozenseg.yaml"
    assert (options.engine, options.resume, options.num_gpus) == ("native", True, 2)
    assert options.output == str(tmp_path)
    assert options.opts == ["SOLVER.MAX_ITER", "10", "SEED", "1"]


def test_exit_status_is_the_engines(run, parsed, tmp_path):
    own = tmp_path / "my.yaml"
    own.touch()
    assert run("train", own).exit_code == 75
    assert parsed[0].config_file == str(own) and parsed[0].output is None


def test_unknown_key_ends_with_2_and_names_the_nearest(run):
    done = run("train", "shapes", "SOLVER.MAX_ITERS", 3)
    assert done.exit_code == 2
    assert "SOLVER.MAX_ITER" in done.stderr and done.stderr.count("\n") == 1


def test_missing_configuration_ends_with_2(run):
    done = run("train", "gone.yaml")
    assert done.exit_code == 2
    assert "gone.yaml" in done.stderr and done.stderr.count("\n") == 1
