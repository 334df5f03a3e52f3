"""The page of a model: its HTML, complete before any script runs, so that nothing jumps."""

from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader

import frozenseg

if TYPE_CHECKING:
    from frozenseg.web.service import Service

TASKS = {
    "panoptic": "each pixel belongs to one thing or stuff",
    "semantic": "each pixel has a class",
    "instance": "things only, which may overlap",
}


def render_page(service: "Service") -> bytes:
    """The page as UTF-8 HTML; ``settings`` of its template is what the scripts read."""
    limits = service.limits
    environment = Environment(autoescape=True, loader=PackageLoader("frozenseg.web", "templates"))
    html = environment.get_template("page.html").render(
        model=service.name,
        miniature=service.miniature,
        tasks={task: text for task, text in TASKS.items() if task in service.tasks},
        examples=service.examples,
        limits=limits,
        version=frozenseg.__version__,
        settings={
            "uploadBytes": limits.upload_bytes,
            "examples": [example.words for example in service.examples],
        },
    )
    return html.encode("utf-8")
