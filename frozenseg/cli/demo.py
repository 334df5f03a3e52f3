"""``frozenseg demo``: drawn scenes segmented with words, as a picture and a table."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from frozenseg.cli.console import console, errors
from frozenseg.cli.segment import shown_score

if TYPE_CHECKING:
    from PIL.Image import Image

    from frozenseg.inference.segmentation import Segmentation

SCENES = (19, 28, 42)  # of the validation split: several unseen words in each
NOTE = (
    "This is the miniature model that ships with the package, in the synthetic shapes world: "
    "it shows that the method works, not how well the full model segments photographs. "
    "'frozenseg evaluate' measures it on 200 such scenes."
)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path(
        "output/demo"
    ),
) -> None:
    """Segment a few drawn scenes with the shipped model, also with words it never trained on.

    Example: frozenseg demo
    """
    from frozenseg import load
    from frozenseg.data.shapes import ShapesDataset, shapes_vocabulary

    with errors.status("drawing scenes, loading the model"):
        scenes = ShapesDataset("val")
        samples = [scenes[index] for index in SCENES]
        segmenter = load("shapes")
    vocabulary = shapes_vocabulary("val")
    with errors.status("segmenting"):
        results = segmenter.batch([sample.image for sample in samples], vocabulary)
    seen = vocabulary.seen_by(segmenter.training)
    write_demo(output, results, seen)
    console.print(found_table(results, seen))
    console.print(
        f"[bold]picture[/]  {output / 'demo.png'}\n[bold]segments[/] {output / 'demo.json'}"
    )
    console.print(NOTE)


def write_demo(folder: Path, results: Sequence["Segmentation"], seen: Sequence[bool]) -> None:
    """Writes each scene, one picture of all with their segments, and the segments as JSON."""
    from PIL import Image

    from frozenseg.io.files import atomic_write

    scenes = []
    for number, found in enumerate(results, start=1):
        with atomic_write(folder / f"scene_{number}.png") as part:
            Image.fromarray(found.image).save(part, format="PNG")
        scenes.append({"file_name": f"scene_{number}.png", **with_seen(found.to_coco(), seen)})
    with atomic_write(folder / "demo.png") as part:
        demo_picture(results, seen).save(part, format="PNG")
    with atomic_write(folder / "demo.json") as part:
        text = json.dumps({"note": NOTE, "scenes": scenes}, indent=1, allow_nan=False)
        part.write_text(text + "\n", encoding="utf-8")


def demo_picture(results: Sequence["Segmentation"], seen: Sequence[bool]) -> "Image":
    """A row per scene: the image, and the same with its segments; unseen words carry a star."""
    from frozenseg.visualization import draw_panoptic, enlarged, side_by_side, stacked

    rows = []
    for found in results:
        names = [
            name if known else f"{name} *" for name, known in zip(found.names, seen, strict=True)
        ]
        titles = () if rows else ("image", "panoptic  (* never seen in training)")
        assert found.panoptic is not None, "the demo asks for panoptic results"
        picture = draw_panoptic(found.image, found.panoptic, names)
        rows.append(side_by_side([enlarged(found.image), picture], titles))
    return stacked(rows)


def with_seen(record: dict, seen: Sequence[bool]) -> dict:
    """The record of an image, each of its segments saying whether training showed its class."""
    segments = [
        {**segment, "seen_in_training": seen[segment["category_id"]]}
        for segment in record["segments_info"]
    ]
    return {**record, "segments_info": segments}


def found_table(results: Sequence["Segmentation"], seen: Sequence[bool]) -> Table:
    """A row per segment, scene by scene."""
    table = Table(title=f"what was found, among {len(seen)} words", title_justify="left")
    for column in ("scene", "name", "seen in training?"):
        table.add_column(column)
    for column in ("score", "pixels"):
        table.add_column(column, justify="right")
    for number, found in enumerate(results, start=1):
        for place, each in enumerate(found.segments, start=1):
            known = "yes" if seen[each.class_id] else "[bold yellow]no[/]"
            cells = (escape(each.name), known, shown_score(each.score), f"{each.area:,}")
            end = place == len(found.segments)
            table.add_row(str(number) if place == 1 else "", *cells, end_section=end)
    return table
