"""Requests to the web application, sent in this process: sound, odd, hostile and unfinished."""

import asyncio
import json
import logging
import math
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote, unquote

from tools.fuzz.case import Case, Entry, WrongResult
from tools.fuzz.entries.images import encoded, image_bytes
from tools.fuzz.entries.vocabulary import text
from tools.fuzz.mutate import ODD_TEXTS, ODD_VALUES, json_bytes, odd_value

BODY = "body"
PATHS = (
    "/", "/check", "/segment", "/examples/0.png", "/examples/99.png", "/examples/-1.png",
    "/examples/1" + "0" * 5000 + ".png", "/examples/x.png", "/static", "/static/",
    "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd",
    "/static/page.css%00", "/static/" + "a" * 5000, "/static/%ff%fe", "/%00", "/segment/",
    "//", "/segment%0d%0aX:%20y", "/\u202e", "/docs",
)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW")
TASKS = ("panoptic", "semantic", "instance", "depth", "", "panoptic\0", "\x1b[31m", "x" * 3000)
HEADERS = (
    ("content-length", "-1"), ("content-length", "9" * 5000), ("content-length", "x"),
    ("content-length", "\u0663"), ("content-length", "5"), ("content-type", "multipart/form-data"),
    ("content-type", "application/json"), ("content-encoding", "gzip"), ("cookie", "a" * 3000),
    ("transfer-encoding", "chunked"), ("range", "bytes=5-1"), ("range", "bytes=0-" + "9" * 30),
    ("if-modified-since", "yesterday"), ("if-none-match", '"'), ("host", "evil.example"),
    ("host", ""), ("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-origin"),
    ("origin", "null"), ("accept", "\xff"), ("x-forwarded-for", "\x1b[31m"),
)  # fmt: skip
HOSTS = (
    "127.0.0.1", "localhost", "::1", "", "256.1.1.1", "1.2.3.4", "127.0.0.1/8", "[::1]", "::g",
    "a" * 70 + ".invalid", "x" * 300, "\u202e.invalid", "a..b", "127.0.0.1\0", "\udc80",
)  # fmt: skip
WAITING = 2  # admissions; those that a request keeps would soon make the server busy


def _make(rng: Random) -> Case:
    if rng.random() < 0.05:
        port = rng.choice((0, -1, 65536, 1, 10**9))
        return Case("web", {"host": rng.choice(HOSTS), "port": port})
    body, is_image = _body(rng)
    arguments: dict[str, Any] = {
        "method": "POST" if rng.random() < 0.75 else rng.choice(METHODS),
        "path": rng.choice(("/segment", "/segment", "/check")),
        "query": _query(rng) if rng.random() < 0.9 else rng.choice(_ODD_QUERIES),
        "headers": [list(rng.choice(HEADERS)) for _ in range(rng.choice((0, 0, 1, 3)))],
        "repeat": 1,
        "chunk": rng.choice((None, None, 1, 100, 65536)),
        "leave": rng.choice((None,) * 6 + ("before", "upload", "answer")),
    }
    if rng.random() < 0.25 and not is_image:
        arguments["path"] = rng.choice(PATHS)
    if rng.random() < 0.04:
        arguments |= {"repeat": 300_000, "chunk": 65536}  # a body beyond the limit, of a few bytes
        body = b"\xff\xd8 much "
    return Case("web", arguments, {BODY: body})


def _body(rng: Random) -> tuple[bytes, bool]:
    roll = rng.random()
    if roll < 0.3:
        return encoded(rng), True
    if roll < 0.6:
        return image_bytes(rng), True
    if roll < 0.8:
        return text(rng).encode("utf-8", "surrogatepass"), False
    return json_bytes(rng, {"words": text(rng), "task": odd_value(rng)}), False


_ODD_QUERIES = ("", "&", "words", "words=%", "words=%ff", "words=a&words=b", "=" * 500, "a" * 9000)


def _query(rng: Random) -> str:
    words = rng.choice(
        (text(rng), "red circle; sand [stuff]", rng.choice(ODD_TEXTS), "; ".join(_many(rng)))
    )
    parts = {"words": words, "task": rng.choice((*TASKS[:3], *TASKS[:3], *TASKS))}
    if rng.random() < 0.1:
        parts[rng.choice(("alpha", "device", "model", "weights"))] = str(rng.choice(ODD_VALUES))
    return "&".join(f"{name}={quote(value, errors='replace')}" for name, value in parts.items())


def _many(rng: Random) -> list[str]:
    return [f"class {number}" for number in range(rng.choice((99, 101, 900)))]


@cache
def _service() -> Any:
    import frozenseg
    from frozenseg.web.limits import DEFAULT_LIMITS
    from frozenseg.web.service import Service
    from tools.fuzz.entries.configuration import SMALL

    limits = DEFAULT_LIMITS._replace(waiting=WAITING, upload_seconds=5)
    segmenter = frozenseg.load("shapes", overrides=SMALL)
    return Service(segmenter, name="shapes", miniature=True, limits=limits)


@cache
def _app() -> Any:
    from frozenseg.web.app import build_app

    logging.getLogger("frozenseg.web").setLevel(logging.CRITICAL)
    return build_app(_service(), hosts=("127.0.0.1",))


def _run(arguments: Any, folder: Path) -> None:
    if "host" in arguments:
        from frozenseg.web.server import bind

        bind(arguments["host"], arguments["port"]).close()
        return
    content = (folder / BODY).read_bytes() * arguments["repeat"]
    answer = asyncio.run(_asked(arguments, content))
    if arguments["leave"] is None:
        _check(answer, arguments)
    # neither a model that was interrupted nor an admission that was kept
    after = asyncio.run(_asked(SOUND, b"no image"))
    if after.status != 400:
        raise WrongResult(f"the next visitor gets the status {after.status}")


SOUND = {
    "method": "POST", "path": "/segment", "query": "words=sand", "headers": [], "chunk": None,
    "leave": None,
}  # fmt: skip


class _Answer:
    """The status, the headers and the body of a response."""

    def __init__(self) -> None:
        self.status, self.headers, self.content = 0, dict[str, str](), b""

    def add(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            pairs = message["headers"]
            self.headers = {name.decode().lower(): value.decode("latin-1") for name, value in pairs}
        elif message["type"] == "http.response.body":
            self.content += message.get("body", b"")


async def _asked(arguments: Any, content: bytes) -> _Answer:
    """Calls the application as a server does; a visitor may leave at any time."""
    answer, leave = _Answer(), arguments["leave"]
    size = arguments["chunk"] or max(len(content), 1)
    size = max(size, math.ceil(len(content) / 2000))
    parts = [content[start : start + size] for start in range(0, len(content), size)] or [b""]
    messages = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, 1)
    ]
    if leave in ("before", "upload"):
        messages = messages[: 0 if leave == "before" else len(messages) // 2]
        messages.append({"type": "http.disconnect"})
    waiting = asyncio.Event()

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        if leave is None:
            await waiting.wait()  # until the answer is complete
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if leave is not None and answer.status:
            raise OSError("the visitor is gone")
        answer.add(message)

    try:
        await _app()(_scope(arguments, len(content)), receive, send)
    except Exception:
        if leave is None:
            raise
    return answer


def _scope(arguments: Any, size: int) -> dict[str, Any]:
    path, headers = arguments["path"], {"host": "127.0.0.1", "content-length": str(size)}
    headers |= dict(arguments["headers"])
    plain = path.encode("utf-8", "surrogatepass")
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "method": arguments["method"], "scheme": "http", "path": unquote(path),
        "raw_path": plain, "root_path": "",
        "query_string": arguments["query"].encode("latin-1", "replace"),
        "headers": [(k.encode(), v.encode("utf-8", "replace")) for k, v in headers.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip


def _check(answer: _Answer, arguments: Any) -> None:
    """A status that is not the server's fault, and a sentence where it is an error's."""
    if not 200 <= answer.status < 500 and answer.status != 503:
        raise WrongResult(f"the status is {answer.status}")
    body = answer.content.decode("utf-8", "replace")
    if "Traceback" in body or "content-security-policy" not in answer.headers:
        raise WrongResult("a traceback, or no security headers")
    if answer.status >= 400 and arguments["method"] != "HEAD":
        _check_sentence(body, answer)
    if answer.headers.get("content-type", "").startswith("application/x-ndjson"):
        _check_lines(body)
    if "root:" in body or "def build_app" in body:
        raise WrongResult("a file outside the static folder is served", kind="escape")


def _check_sentence(body: str, answer: _Answer) -> None:
    if body == "Invalid host header":  # of Starlette
        return
    try:
        sentence = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError) as error:
        raise WrongResult(f"no sentence with the status {answer.status}: {body[:80]!r}") from error
    if not sentence or "\n" in sentence or len(sentence) > 1000:
        raise WrongResult(f"the status {answer.status} comes with {sentence[:80]!r}")


def _check_lines(body: str) -> None:
    from frozenseg.web.app import FAILURE

    *places, last = [json.loads(line) for line in body.splitlines()]
    if not all("place" in each for each in places) or last.keys().isdisjoint(("result", "error")):
        raise WrongResult(f"the last line has {sorted(last)}")
    if last.get("error") == FAILURE:
        raise WrongResult("the model fails on an image")


ENTRIES = (Entry("web", _make, _run, 2.0),)
