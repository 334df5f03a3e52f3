"""The segments of one image as a table."""

from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from frozenseg.inference.segmentation import NamedSegment, Segmentation


def segments_table(found: "Segmentation") -> Table:
    """One row per segment; of instances, only those that the drawing shows."""
    table = Table()
    table.add_column("name")
    table.add_column("kind")
    for heading in ("score", "pixels", "share"):
        table.add_column(heading, justify="right")
    num_pixels = found.image.shape[0] * found.image.shape[1]
    for each in shown_segments(found):
        table.add_row(
            escape(each.name),
            "thing" if each.is_thing else "stuff",
            score_text(each.score),
            f"{each.area:,}",
            f"{each.area / num_pixels:.1%}",
        )
    return table


def segments_text(found: "Segmentation") -> str:
    """The table and the summary as plain text."""
    out = StringIO()
    Console(file=out, width=100, color_system=None).print(segments_table(found))
    return "\n".join([*(line.rstrip() for line in out.getvalue().splitlines()), summary(found)])


def shown_segments(found: "Segmentation") -> "list[NamedSegment]":
    """All segments; of instances, those with a score of at least ``shown_score``."""
    return [
        each
        for each in found.segments
        if found.instances is None or each.score >= found.shown_score
    ]


def score_text(score: float) -> str:
    """Two decimals; a dash for NaN."""
    return "-" if score != score else f"{score:.2f}"


def summary(found: "Segmentation") -> str:
    """The number of segments, and what the table does not show."""
    shown = len(shown_segments(found))
    text = f"{shown} segment{'' if shown == 1 else 's'}"
    if found.panoptic is not None:
        return f"{text}; {(found.id_map == 0).mean():.1%} of the image is unlabelled"
    hidden = len(found) - shown
    return f"{text}; {hidden} more with lower scores" if hidden else text
