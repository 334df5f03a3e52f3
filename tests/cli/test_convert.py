"""``frozenseg convert``: mistakes that would leave a file in another format than its name says."""

from pathlib import Path

import pytest

HEAD = Path(__file__).parents[2] / "frozenseg" / "weights" / "shapes" / "head.safetensors"


@pytest.mark.parametrize(
    ("output", "options"), [("head.pth", ()), ("head.safetensors", ("--to", "official"))]
)
def test_an_ending_of_the_other_format_is_refused(run, tmp_path, output, options) -> None:
    done = run("convert", HEAD, tmp_path / output, "--config", "shapes", *options)
    assert done.exit_code == 2
    assert "--to own writes .safetensors files, and --to official .pth files" in done.stderr
    assert not list(tmp_path.iterdir())


def test_our_own_format_may_have_another_ending(run, tmp_path) -> None:
    done = run("convert", HEAD, tmp_path / "head.bin", "--config", "shapes")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "head.bin").stat().st_size > 1_000_000
