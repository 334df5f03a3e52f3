"""A result as plain values for the browser, which draws, filters and exports it by itself."""

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frozenseg.visualization.palette import class_color

if TYPE_CHECKING:
    from frozenseg.inference.segmentation import Segmentation

_JPEG_QUALITY = 92


def result_record(found: "Segmentation", seen: Sequence[bool]) -> dict[str, Any]:
    """``to_coco`` with RLE masks, the image, and of each segment its colour and if it is seen.

    Args:
        found: the result.
        seen: by class id, True for classes of the training data.
    """
    record: dict[str, Any] = found.to_coco(rle=True)
    for segment in record["segments_info"]:
        class_id = segment["category_id"]
        colors = found.vocabulary.colors
        segment["color"] = list(class_color(class_id) if colors is None else colors[class_id])
        segment["seen"] = seen[class_id]
    record["image"] = _data_url(found.image)
    record["shown_score"] = 0 if found.instances is None else found.shown_score
    return record


def _data_url(pixels: NDArray[np.uint8]) -> str:
    content = BytesIO()
    Image.fromarray(pixels).save(content, format="JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
