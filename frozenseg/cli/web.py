"""``frozenseg web``: the model in a browser."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from frozenseg.cli.console import print_line, say_warning
from frozenseg.cli.options import ModelOptions, grouped
from frozenseg.errors import UserError

NEEDED = ("jinja2", "starlette", "uvicorn")


@grouped
def web(
    model: ModelOptions,
    host: Annotated[
        str,
        typer.Option(help="Address to serve on; the default is reachable from this machine only."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 picks a free one.", min=0, max=65535)] = 7860,
    waiting: Annotated[
        int, typer.Option(help="Images in line before the server answers that it is busy.", min=1)
    ] = 40,
) -> None:
    """Serve a page that segments images with any class names, until Ctrl-C.

    Needs the extra 'web': pip install 'frozenseg[web]'. Images and class names are not stored.

    Example: frozenseg web --port 8000
    """
    if any(find_spec(name) is None for name in NEEDED):
        raise UserError(
            f"the web page needs {', '.join(NEEDED)}, not all of which are installed: "
            "pip install 'frozenseg[web]'"
        )
    from frozenseg.web.server import LOOPBACK_NAMES, address_of, bind, is_loopback, serve

    with bind(host, port) as listener:
        if not is_loopback(host):
            say_warning(
                f"anyone who reaches {host}:{port} can use the page, without a password and "
                "without encryption: put a reverse proxy in front of it"
            )
        segmenter = model.load()

        from frozenseg.web.app import build_app
        from frozenseg.web.limits import DEFAULT_LIMITS
        from frozenseg.web.service import Service

        service = Service(
            segmenter,
            name=Path(model.model).name,
            miniature=model.model == "shapes",
            limits=DEFAULT_LIMITS._replace(waiting=waiting),
        )
        app = build_app(service, hosts=LOOPBACK_NAMES if is_loopback(host) else ("*",))
        print_line(f"serving {model.model} at {address_of(listener)} (Ctrl-C stops it)")
        serve(app, listener)
