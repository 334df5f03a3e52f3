import hashlib
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from frozenseg.errors import UserError
from frozenseg.io.downloads import Published, is_offline, obtain, sha256_of

CONTENT = bytes(range(256)) * 20_000  # more than one chunk


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FROZENSEG_OFFLINE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


class QuietHandler(SimpleHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Published]:
    """A file that a server of this machine offers."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sam.pth").write_bytes(CONTENT)
    QuietHandler.asked = []
    handler = partial(QuietHandler, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/sam.pth"
        yield Published(url, hashlib.sha256(CONTENT).hexdigest())
        server.shutdown()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_a_file_is_fetched_once_and_checked(published: Published, tmp_path: Path) -> None:
    path = obtain(published, tmp_path / "cache", setting="SAM_WEIGHTS")
    assert path.read_bytes() == CONTENT
    assert obtain(published, tmp_path / "cache", setting="SAM_WEIGHTS") == path
    assert QuietHandler.asked == ["/sam.pth"]
    assert names(tmp_path / "cache") == {"sam.pth"}


def test_a_download_with_a_wrong_hash_is_kept_aside(published: Published, tmp_path: Path) -> None:
    wrong = published._replace(sha256="0" * 64)
    with pytest.raises(UserError, match=r"is kept as .*wrong-hash.* and not used"):
        obtain(wrong, tmp_path / "cache", setting="SAM_WEIGHTS")
    (aside,) = names(tmp_path / "cache")
    assert aside == f"sam.pth.wrong-hash-{hashlib.sha256(CONTENT).hexdigest()[:8]}"
    assert (tmp_path / "cache" / aside).read_bytes() == CONTENT


def test_a_damaged_file_in_the_cache_is_kept_aside_and_fetched_again_next_time(published, tmp_path):
    path = obtain(published, tmp_path, setting="SAM_WEIGHTS")
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match="run again to download it again"):
        obtain(published, tmp_path, setting="SAM_WEIGHTS")
    assert not path.exists()
    assert obtain(published, tmp_path, setting="SAM_WEIGHTS").read_bytes() == CONTENT


def test_a_broken_connection_leaves_nothing_behind(published, tmp_path, monkeypatch) -> None:
    def break_off(*_: object) -> None:
        raise ConnectionResetError("connection reset by peer")

    monkeypatch.setattr("frozenseg.io.downloads.hashlib.sha256", break_off)
    with pytest.raises(UserError, match="connection reset by peer"):
        obtain(published, tmp_path / "cache", setting="SAM_WEIGHTS")
    assert names(tmp_path / "cache") == set()


def test_without_a_network_the_sentence_names_file_place_and_setting(tmp_path: Path) -> None:
    nowhere = Published("http://127.0.0.1:9/sam.pth", "0" * 64)
    with pytest.raises(UserError) as raised:
        obtain(nowhere, tmp_path, setting="MODEL.SAM_WEIGHTS")
    for part in ("http://127.0.0.1:9/sam.pth", str(tmp_path / "sam.pth"), "MODEL.SAM_WEIGHTS"):
        assert part in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("switch", ["FROZENSEG_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_asks_nobody_but_takes_what_is_there(published, tmp_path, monkeypatch, switch):
    monkeypatch.setenv(switch, "1")
    assert is_offline()
    with pytest.raises(UserError, match="downloads are switched off"):
        obtain(published, tmp_path, setting="SAM_WEIGHTS")
    assert QuietHandler.asked == []
    (tmp_path / "sam.pth").write_bytes(CONTENT)
    assert obtain(published, tmp_path, setting="SAM_WEIGHTS").read_bytes() == CONTENT


def test_processes_that_start_together_fetch_once(published: Published, tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=obtain, args=(published, tmp_path), kwargs={"setting": "S"})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert QuietHandler.asked == ["/sam.pth"]
    assert sha256_of(tmp_path / "sam.pth") == published.sha256
    assert os.stat(tmp_path / "sam.pth").st_mode & 0o044
