"""Segmentations as objects of other libraries, which are imported when they are asked for."""

from typing import TYPE_CHECKING

import numpy as np

from frozenseg.runtime.extras import require

if TYPE_CHECKING:
    from pandas import DataFrame
    from supervision import Detections

    from frozenseg.inference.segmentation import Segmentation


def data_frame(found: "Segmentation") -> "DataFrame":
    """One row per segment; see :meth:`Segmentation.to_pandas`."""
    pandas = require("pandas", extra="pandas", purpose="to_pandas()")
    columns = ("id", "name", "class_id", "is_thing", "score", "area")
    table = pandas.DataFrame(
        [[getattr(segment, column) for column in columns] for segment in found.segments],
        columns=columns,
    )
    for place, column in enumerate(("x0", "y0", "x1", "y1")):
        table[column] = found.boxes[:, place]
    return table


def detections(found: "Segmentation") -> "Detections":
    """All segments; see :meth:`Segmentation.to_supervision`."""
    supervision = require("supervision", extra="supervision", purpose="to_supervision()")
    return supervision.Detections(
        xyxy=found.boxes.astype(np.float32),
        mask=found.masks,
        confidence=None if np.isnan(found.scores).any() else found.scores,
        class_id=np.array([segment.class_id for segment in found.segments], dtype=np.int64),
        data={"class_name": np.array(found.names, dtype=np.str_)},
    )
