"""``frozenseg doctor``: reports what is installed, and fails if a check fails."""

import sys
from importlib import metadata

import pytest
import torch

from frozenseg.cli import doctor
from frozenseg.cli.doctor import Finding, State, examine
from frozenseg.ops import ms_deform_attn


def line_with(text: str, word: str) -> str:
    return next(line for line in text.splitlines() if word in line)


@pytest.mark.usefixtures("loaded")
def test_names_python_torch_the_kernel_and_the_caches_state(run, monkeypatch, tmp_path):
    monkeypatch.setenv("FROZENSEG_CACHE", str(tmp_path / "cache"))
    done = run("doctor")
    assert done.exit_code == 0, done.output
    assert metadata.version("torch") in line_with(done.stdout, " torch ")
    assert ms_deform_attn.implementation("cpu") in done.stdout.replace("\n", " ")
    assert "can be written" in " ".join(done.stdout.split())
    assert "all checks passed" in done.stdout
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("difference", [0.5, float("nan")])
def test_kernel_that_disagrees_fails(run, monkeypatch, difference):
    monkeypatch.setattr(ms_deform_attn, "agrees_with_reference", lambda _: difference)
    done = run("doctor")
    assert done.exit_code == 1
    assert "failed" in line_with(done.stdout, "attention on cpu")
    assert f"{1 + torch.cuda.is_available()} checks failed" in done.stdout


def test_model_that_does_not_load_fails_and_says_why(run, monkeypatch):
    def load(*_: object, **__: object) -> None:
        raise FileNotFoundError("no head.safetensors")

    monkeypatch.setattr("frozenseg.load", load)
    done = run("doctor")
    assert done.exit_code == 1
    assert "no head.safetensors" in line_with(done.stdout, "failed")


@pytest.mark.usefixtures("loaded")
def test_a_cache_that_cannot_be_written_is_a_note(run, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FROZENSEG_CACHE", str(tmp_path / "file" / "cache"))
    done = run("doctor")
    assert done.exit_code == 0
    assert "nothing is kept between runs" in " ".join(done.stdout.split())


def test_missing_and_outdated_packages_fail(monkeypatch):
    needs = ["no-such-package>=1", "torch>=99", "pillow>=1", 'gradio>=5; extra == "web"']
    monkeypatch.setattr(metadata, "requires", lambda _: needs)
    found = {each.what: each for each in examine("packages", doctor.python_and_packages)}
    assert set(found) == {"Python", "no-such-package", "torch", "pillow"}
    assert found["no-such-package"].state is State.failed
    assert "pip install 'no-such-package>=1'" in found["no-such-package"].text
    assert found["torch"].state is State.failed and ">=99" in found["torch"].text
    assert found["pillow"].state is State.ok


def test_a_detectron2_that_was_not_installed_by_pip_is_ok(monkeypatch, tmp_path):
    package = tmp_path / "detectron2" / "__init__.py"
    package.parent.mkdir()
    package.touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "detectron2", raising=False)
    (found,) = examine("Detectron2", doctor.detectron2)
    assert found == Finding("Detectron2", State.ok, f"imported from {package}")


def test_findings_before_a_failure_are_kept():
    def check():
        yield Finding("first", State.ok, "fine")
        raise RuntimeError("then\nit broke")

    assert examine("both", check) == [
        Finding("first", State.ok, "fine"),
        Finding("both", State.failed, "then it broke"),
    ]
