"""The report of mining: numbers of pairs and nouns, and a picture of samples."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from frozenseg.data.images import read_image
from frozenseg.data.pairs import Pair
from frozenseg.mining.folder import Record
from frozenseg.visualization.layout import side_by_side, stacked

SAMPLES, PER_ROW = 24, 6


class MiningReport(NamedTuple):
    """Counts of one mining."""

    images: int
    images_without_pair: dict[str, int]  # by reason
    pairs: int
    crops: int
    nouns: dict[str, int]  # all of them with their numbers of pairs, the most frequent first


def summarize(records: Sequence[Record]) -> MiningReport:
    """Returns the counts of these images."""
    pairs = [pair for record in records for pair in record.pairs]
    return MiningReport(
        images=len(records),
        images_without_pair=dict(Counter(each.problem for each in records if each.problem)),
        pairs=len(pairs),
        crops=len({pair.filepath for pair in pairs}),
        nouns=dict(Counter(pair.title for pair in pairs).most_common()),
    )


def draw_samples(folder: Path, pairs: Sequence[Pair], *, seed: int = 0) -> Image.Image:
    """Draws the crops of up to 24 random pairs under their nouns.

    Args:
        folder: of the pairs.
        pairs: at least one.
        seed: of the choice.
    """
    chosen = random.Random(seed).sample(list(pairs), min(SAMPLES, len(pairs)))
    rows = [chosen[start : start + PER_ROW] for start in range(0, len(chosen), PER_ROW)]
    return stacked(
        [
            side_by_side([_picture(folder / pair.filepath) for pair in row], [p.title for p in row])
            for row in rows
        ]
    )


def _picture(path: Path) -> Image.Image:
    picture = Image.fromarray(read_image(path).permute(1, 2, 0).numpy())
    return picture.resize((224, 224))  # towers of other sizes are drawn alike
