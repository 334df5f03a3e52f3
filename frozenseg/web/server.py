"""Serves the page on one address until it is stopped."""

import socket
from contextlib import suppress
from ipaddress import ip_address

import uvicorn
from starlette.applications import Starlette

from frozenseg.errors import UserError
from frozenseg.io.gates import reason_of
from frozenseg.io.text import one_line

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_CONNECTIONS = 512  # more get a bare 503
_GOODBYE_SECONDS = 2


def bind(host: str, port: int) -> socket.socket:
    """Opens an address, before the seconds in which a model is loaded; port 0 is any free one.

    Raises:
        UserError: the address does not exist here, or is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, TypeError, ValueError) as error:  # also of odd names
        raise UserError(
            f"port {port} of {one_line(host)} cannot be opened ({reason_of(error)}): choose "
            "another --port or --host"
        ) from error


def is_loopback(host: str) -> bool:
    """Returns True for an address that only this machine reaches."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def address_of(listener: socket.socket) -> str:
    """The URL of an open address."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def serve(app: Starlette, listener: socket.socket) -> None:
    """Serves until Ctrl-C or SIGTERM; the answers under way get two seconds."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # addresses hold class names
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GOODBYE_SECONDS,
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
