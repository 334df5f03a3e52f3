"""Headers of every response, and the refusal of requests that other web sites send."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the address holds class names
    "X-Content-Type-Options": "nosniff",
}
_OWN_REQUESTS = (None, "same-origin", "none")  # None: not a browser


class Guard:
    """Lets the page load nothing but its own files, and lets no other site use the model.

    A web site that a visitor has open could otherwise send work to a server on the loopback
    address. Browsers mark such requests in a header that scripts cannot change.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        site = Headers(scope=scope).get("sec-fetch-site")
        foreign = scope["method"] != "GET" and site not in _OWN_REQUESTS

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        sentence = "requests of other web sites are refused: open the page itself"
        app = JSONResponse({"error": sentence}, 403) if foreign else self.app
        await app(scope, receive, send_guarded)
