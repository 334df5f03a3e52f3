"""``frozenseg demo``: synthetic scenes segmented by class names, as a drawing and a table."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from frozenseg.cli.console import console, errors, print_line
from frozenseg.cli.options import OutputFolder

if TYPE_CHECKING:
    from PIL.Image import Image

    from frozenseg.inference.segmentation import Segmentation

SCENES = (19, 28, 42)  # of the validation split; each contains several unseen classes
NOTE = (
    "This is the miniature model that ships with the package, in the synthetic shapes world: "
    "it shows that the method works, not how well the full model segments photographs. "
    "'frozenseg evaluate' measures it on 200 such scenes."
)


def demo(output: OutputFolder = Path("output/demo")) -> None:
    """Segment a few synthetic scenes with the shipped model, including classes unseen in training.

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
    print_line(f"drawing:  {output / 'demo.png'}")
    print_line(f"segments: {output / 'demo.json'}")
    console.print(NOTE)


def write_demo(folder: Path, results: Sequence["Segmentation"], seen: Sequence[bool]) -> None:
    """Writes each scene, one drawing of all results, and the segments as JSON."""
    from PIL import Image

    from frozenseg.io.files import atomic_write

    scenes = []
    for number, found in enumerate(results, start=1):
        with atomic_write(folder / f"scene_{number}.png") as part:
            Image.fromarray(found.image).save(part, format="PNG")
        scenes.append({"file_name": f"scene_{number}.png", **with_seen(found.to_coco(), seen)})
    with atomic_write(folder / "demo.png") as part:
        demo_drawing(results, seen).save(part, format="PNG")
    with atomic_write(folder / "demo.json") as part:
        text = json.dumps({"note": NOTE, "scenes": scenes}, indent=1, allow_nan=False)
        part.write_text(text + "\n", encoding="utf-8")


def demo_drawing(results: Sequence["Segmentation"], seen: Sequence[bool]) -> "Image":
    """One row per scene, the image beside its segments; unseen classes are marked with a star."""
    from frozenseg.visualization import draw_panoptic, enlarged, side_by_side, stacked

    rows = []
    for found in results:
        classes = zip(found.vocabulary.names, seen, strict=True)
        names = [name if is_seen else f"{name} *" for name, is_seen in classes]
        titles = () if rows else ("image", "panoptic  (* never seen in training)")
        assert found.panoptic is not None, "the demo asks for panoptic results"
        drawing = draw_panoptic(found.image, found.panoptic, names)
        rows.append(side_by_side([enlarged(found.image), drawing], titles))
    return stacked(rows)


def with_seen(record: dict, seen: Sequence[bool]) -> dict:
    """Adds to each segment of a record if its class was seen in training."""
    segments = [
        {**segment, "seen_in_training": seen[segment["category_id"]]}
        for segment in record["segments_info"]
    ]
    return {**record, "segments_info": segments}


def found_table(results: Sequence["Segmentation"], seen: Sequence[bool]) -> Table:
    """One row per segment, grouped by scene."""
    from frozenseg.inference.segments_table import score_text

    table = Table(title=f"segments found, {len(seen)} classes", title_justify="left")
    for column in ("scene", "name", "seen in training?"):
        table.add_column(column)
    for column in ("score", "pixels"):
        table.add_column(column, justify="right")
    for number, found in enumerate(results, start=1):
        for place, each in enumerate(found.segments, start=1):
            known = "yes" if seen[each.class_id] else "[bold yellow]no[/]"
            cells = (escape(each.name), known, score_text(each.score), f"{each.area:,}")
            end = place == len(found.segments)
            table.add_row(str(number) if place == 1 else "", *cells, end_section=end)
    return table
