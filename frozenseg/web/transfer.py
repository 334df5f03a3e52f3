"""Bodies of requests within their limits, streamed answers, and errors as one sentence."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, aclosing, suppress

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from frozenseg.errors import UserError
from frozenseg.web.line import BusyError

_RETRY_SECONDS = 5
_DRAINED_BYTES, _DRAIN_SECONDS = 64 << 20, 30
_SIZE_DIGITS = 18  # of a length that is converted at all


async def read_body(request: Request, most: int, *, what: str) -> bytes:
    """The body of a request.

    Args:
        request: the request.
        most: bytes.
        what: the body, as the error names it.

    Raises:
        UserError: it has more bytes.
    """
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > most:
            raise UserError(f"{what} has more than {most / 2**20:.3g} MB: make it smaller")
    return bytes(content)


class HeldStream(StreamingResponse):
    """Streams lines, and releases what it holds when the visitor has them or is gone.

    Args:
        lines: of the answer; closed at the end.
        held: what is released.
    """

    media_type = "application/x-ndjson"

    def __init__(self, lines: AsyncGenerator[str, None], *, held: ExitStack) -> None:
        super().__init__(lines, headers={"X-Accel-Buffering": "no"})  # nginx must not collect them
        self._lines, self._held = lines, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            async with aclosing(self._lines):
                await super().__call__(scope, receive, send)


def json_line(**values: object) -> str:
    """A JSON object on one line."""
    return json.dumps(values, allow_nan=False) + "\n"


async def _refused(request: Request, error: Exception) -> Response:
    return await _sentence(request, str(error), 400)


async def _busy(request: Request, _error: Exception) -> Response:
    sentence = "the server is busy, its line of images is full: try again in a few seconds"
    return await _sentence(request, sentence, 503, {"Retry-After": str(_RETRY_SECONDS)})


async def _too_slow(request: Request, _error: Exception) -> Response:
    return await _sentence(request, "the upload took too long: give a smaller image", 408)


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "the handler of these"
    sentence = "the server has no such address, or another method for it: open the page itself"
    return await _sentence(request, sentence, error.status_code, error.headers)


async def _sentence(
    request: Request, sentence: str, status: int, headers: Mapping[str, str] | None = None
) -> Response:
    await _drain(request)
    return JSONResponse({"error": sentence}, status, headers)


async def _drain(request: Request) -> None:
    """Reads the rest of a body: browsers do not read an answer while they still send."""
    size = request.headers.get("content-length", "")
    if not size.isdecimal() or len(size) > _SIZE_DIGITS or int(size) > _DRAINED_BYTES:
        return
    with suppress(RuntimeError, TimeoutError, ClientDisconnect):  # already read, too slow, gone
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in request.stream():
                pass


ERROR_HANDLERS = {
    UserError: _refused,
    HTTPException: _unknown,
    BusyError: _busy,
    TimeoutError: _too_slow,
    ClientDisconnect: _gone,
}
