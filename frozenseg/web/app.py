"""The web application: routes, and the stream that tells a visitor the place in line.

``POST segment`` answers with one JSON object per line: ``place`` and ``seconds`` (an estimate)
while others are ahead, ``place`` 0 once the model runs, then ``result`` or ``error``.
Nothing of a visitor is kept, in memory or on disk.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import TypeVar

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from frozenseg.errors import UserError
from frozenseg.io.text import quoted
from frozenseg.vocabulary.vocabulary import Vocabulary
from frozenseg.web.guard import Guard
from frozenseg.web.line import Line
from frozenseg.web.page import render_page
from frozenseg.web.service import Service
from frozenseg.web.transfer import ERROR_HANDLERS, HeldStream, json_line, read_body
from frozenseg.web.uploads import Upload, read_upload

logger = logging.getLogger(__name__)

STATIC = Path(__file__).with_name("static")
FAILURE = "the model failed on this image: the server's log says why"

_Value = TypeVar("_Value")


def build_app(service: Service, *, hosts: Sequence[str] = ("*",)) -> Starlette:
    """Returns the application of a model's page, for any ASGI server with one process.

    Args:
        service: the model.
        hosts: names under which browsers may address the server; ``*`` is any.
    """
    handlers = _Handlers(service)
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    return Starlette(
        routes=handlers.routes(),
        middleware=[Middleware(Guard), trusted],
        exception_handlers=ERROR_HANDLERS,
        lifespan=handlers.lifespan,
    )


class _Handlers:
    """The requests that the page makes; model and decoder have one thread each."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.line = Line(service.limits.waiting)
        self.page = render_page(service)
        self.examples = {str(index): each for index, each in enumerate(service.examples)}
        self.model = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.decoder = ThreadPoolExecutor(1, thread_name_prefix="decoder")

    def routes(self) -> list[Route | Mount]:
        return [
            Route("/", self.show_page),
            Route("/examples/{index}.png", self.show_example),
            Route("/check", self.check, methods=["POST"]),
            Route("/segment", self.segment, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        yield
        for threads in (self.model, self.decoder):
            threads.shutdown(wait=False, cancel_futures=True)

    async def show_page(self, _request: Request) -> Response:
        return Response(self.page, media_type="text/html")

    async def show_example(self, request: Request) -> Response:
        index = request.path_params["index"]  # text: numbers of any length may come
        if (example := self.examples.get(index)) is None:
            raise UserError(f"there is no example {quoted(index)}: open the page again")
        return Response(example.png, media_type="image/png")

    async def check(self, request: Request) -> Response:
        most = 4 * self.service.limits.characters  # a character has up to four bytes
        content = await read_body(request, most, what="the class names")
        return JSONResponse(self.service.check(content.decode("utf-8", errors="replace")))

    async def segment(self, request: Request) -> Response:
        """Admits a visitor, reads the image, and answers with the lines of ``_segmentation``."""
        limits = self.service.limits
        task = request.query_params.get("task", "panoptic")
        vocabulary = self.service.read(request.query_params.get("words", ""))
        self.service.check_task(task)
        with ExitStack() as held:
            held.enter_context(self.line.admission())
            async with asyncio.timeout(limits.upload_seconds):
                content = await read_body(request, limits.upload_bytes, what="the image")
            upload = await _in(self.decoder, read_upload, content, limits)
            lines = self._segmentation(upload, vocabulary, task)
            return HeldStream(lines, held=held.pop_all())

    async def _segmentation(
        self, upload: Upload, vocabulary: Vocabulary, task: str
    ) -> AsyncGenerator[str, None]:
        """The lines of an answer; closing it leaves the line of visitors."""
        async with aclosing(self.line.places()) as places:
            async for place in places:
                yield json_line(place=place, seconds=round(self.service.seconds * (place + 1), 1))
                if not place:
                    break
            try:
                segment = self.service.segment
                yield json_line(result=await _in(self.model, segment, upload, vocabulary, task))
            except UserError as error:
                yield json_line(error=str(error))
            except Exception:
                logger.exception("an image could not be segmented")
                yield json_line(error=FAILURE)


async def _in(
    threads: ThreadPoolExecutor, function: Callable[..., _Value], *arguments: object
) -> _Value:
    """Runs a function on a thread; a call that has not begun is dropped with its visitor."""
    return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)
