"""``frozenseg web``: where it listens, what it warns of, what it needs."""

import socket

import pytest

import frozenseg.cli.web
from frozenseg.inference.segmenter import Segmenter


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were served; nothing is."""
    addresses: list[str] = []
    monkeypatch.setattr(
        "frozenseg.web.server.serve",
        lambda _app, listener: addresses.append(listener.getsockname()[0]),
    )
    return addresses


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, small_system) -> None:
    """A model of random weights in place of the shipped one."""
    from frozenseg.data.shapes import shapes_vocabulary
    from frozenseg.inference.outputs import OutputSettings

    segmenter = Segmenter(
        model=small_system(), training=shapes_vocabulary("train"), settings=OutputSettings()
    )
    monkeypatch.setattr(frozenseg, "load", lambda *_, **__: segmenter)


def test_the_page_is_served_on_the_loopback_address_by_default(run, served, model) -> None:
    done = run("web", "--port", 0)
    assert done.exit_code == 0, done.stderr
    assert served == ["127.0.0.1"]
    assert "http://127.0.0.1:" in done.stdout
    assert "warning" not in done.stderr


def test_another_host_comes_with_a_warning(run, served, model) -> None:
    done = run("web", "--port", 0, "--host", "0.0.0.0")
    assert served == ["0.0.0.0"]
    assert "without a password" in done.stderr


def test_a_port_in_use_is_one_sentence_before_the_model_is_loaded(
    run, served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozenseg, "load", lambda *_, **__: pytest.fail("loaded"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("web", "--port", taken.getsockname()[1])
    assert done.exit_code == 2
    assert "cannot be opened" in done.stderr and "choose another --port" in done.stderr


@pytest.mark.parametrize("host", ["not a host", "256.1.1.1", "h" * 300])
def test_an_address_that_does_not_exist_is_one_sentence(run, served, host: str) -> None:
    done = run("web", "--host", host)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1 and "--host" in done.stderr


def test_a_missing_extra_names_the_pip_command(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozenseg.cli.web, "find_spec", lambda _name: None)
    done = run("web")
    assert done.exit_code == 2
    assert "pip install 'frozenseg[web]'" in done.stderr
