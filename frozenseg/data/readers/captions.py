"""Captioned images in COCO's format (``captions_train2017.json``)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from frozenseg.data.annotations.faults import BadEntry, Faults
from frozenseg.data.annotations.fields import as_entry, file_name, identity, text
from frozenseg.data.readers.files import load_json, read_image_entries
from frozenseg.errors import UserError


class CaptionedImage(NamedTuple):
    """An image file and what people wrote about it."""

    file_name: str  # relative to the folder of the images
    captions: tuple[str, ...]


def read_captions(path: Path, *, per_image: int | None = None) -> list[CaptionedImage]:
    """Reads a caption file; images come in its order, each with its captions in theirs.

    Args:
        path: a JSON file with the lists ``images`` and ``annotations``.
        per_image: number of captions to keep of each image, the first ones; None: all.

    Raises:
        UserError: the file is missing or broken, or no image has a caption.
    """
    content, faults = load_json(path, lists=("images", "annotations")), Faults(path)
    images = read_image_entries(content, faults)
    names = {}
    for image_id, entry in images.items():
        with faults.entry(f"image {image_id!r}"):
            names[image_id] = file_name(entry, "file_name")
    captions = _captions_by_image(content, names, faults)
    found = [
        CaptionedImage(names[image_id], tuple(captions[image_id][:per_image]))
        for image_id in names
        if captions[image_id]
    ]
    if not found:
        raise UserError(f"{path} has no caption of any of its images: give another caption file")
    return found


def _captions_by_image(
    content: Mapping[str, Any], names: Mapping[int | str, str], faults: Faults
) -> dict[int | str, list[str]]:
    captions: dict[int | str, list[str]] = {image_id: [] for image_id in names}
    for place, annotation in enumerate(content["annotations"]):
        with faults.entry(f"annotations[{place}]"):
            entry = as_entry(annotation)
            image_id = identity(entry, "image_id")
            if image_id not in captions:
                raise BadEntry(f"has the image_id {image_id!r}, which is not an image of the file")
            captions[image_id].append(" ".join(text(entry, "caption").split()))
    return captions
