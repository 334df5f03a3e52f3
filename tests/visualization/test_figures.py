"""Parts of figures: grids, bars, clusters, and frames where two segmentations differ."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from frozenseg.analysis.clusters import cluster_maps, draw_clusters, k_means
from frozenseg.structures import PanopticMap, Segment
from frozenseg.visualization import draw_semantic, grid
from frozenseg.visualization.bars import draw_bars
from frozenseg.visualization.comparison import class_ids_of, comparison_row
from frozenseg.visualization.highlight_boxes import differing_boxes, with_box
from frozenseg.visualization.palette import class_color
from frozenseg.vocabulary import parse_vocabulary


def filled(width: int, height: int, color: str) -> Image.Image:
    return Image.new("RGB", (width, height), color)


class TestGrid:
    def test_columns_are_equally_wide_and_rows_as_high_as_their_pictures(self) -> None:
        rows = [
            [filled(100, 50, "red"), filled(200, 100, "lime")],
            [filled(100, 200, "blue"), filled(50, 100, "blue")],
        ]
        sheet = grid(rows, ["", ""], width=64)
        pixels = np.asarray(sheet)
        widths = [(pixels == color).all(axis=-1).any(axis=0).sum() for color in COLORS]
        heights = [(pixels == color).all(axis=-1).any(axis=1).sum() for color in COLORS]
        assert widths == [64, 64, 128]
        assert heights == [32, 32, 128]

    def test_a_long_title_stays_over_its_column(self) -> None:
        pictures = [filled(64, 64, "white"), filled(64, 64, "white")]
        sheet = np.asarray(grid([pictures], ["", "a title of many words " * 4], width=64))
        inked = np.flatnonzero((sheet < 250).all(axis=-1).any(axis=0))
        assert inked.size and inked.min() >= 64


COLORS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)], dtype=np.uint8)


def test_bars_are_as_high_as_their_values() -> None:
    scores = {"one": {"PQ": 40.0, "mIoU": 0.0}, "two": {"PQ": 100.0, "mIoU": 80.0}}
    pixels = np.asarray(draw_bars(scores, title="title"))[170:]  # under the legend
    heights = [
        (pixels == np.array(class_color(index))).all(axis=-1).sum(axis=0) for index in range(2)
    ]
    full = heights[1].max()
    assert heights[0].max() == pytest.approx(0.4 * full, abs=3)
    assert sorted(set(heights[1]) - {0})[0] == pytest.approx(0.8 * full, abs=3)


class TestDifferingBoxes:
    def maps(self) -> tuple[np.ndarray, np.ndarray]:
        first = np.zeros((100, 200), dtype=np.int64)
        first[10:30, 20:60] = 1
        second = first.copy()
        second[10:30, 20:60] = 2
        return first, second

    def test_a_changed_segment_is_framed_with_a_margin(self) -> None:
        assert differing_boxes(*self.maps()) == [(18.5, 8.5, 61.5, 31.5)]

    def test_equal_maps_have_none_and_outlines_count_for_nothing(self) -> None:
        first, _ = self.maps()
        assert differing_boxes(first, first) == []
        moved = first.copy()
        moved[10:30, 60] = 1
        assert differing_boxes(first, moved) == []

    def test_neighbours_with_other_classes_are_places_of_their_own(self) -> None:
        first, second = self.maps()
        second[60:90, 60:120] = 3
        second[60:90, 120:150] = 4
        boxes = differing_boxes(first, second)
        assert [box[0] for box in boxes] == [58.5, 118.5, 18.5]
        assert differing_boxes(first, second, most=1) == boxes[:1]

    def test_most_of_the_image_is_no_place(self) -> None:
        first = np.zeros((100, 200), dtype=np.int64)
        assert differing_boxes(first, first + 1) == []


def test_a_frame_is_white_where_the_box_ends() -> None:
    framed = np.asarray(with_box(filled(400, 200, "red"), (10, 20, 50, 60), (100, 200)))
    assert framed[40:120, 20:100].min(axis=-1).max() == 255
    outside = framed.copy()
    outside[40:120, 20:100] = (255, 0, 0)
    assert (outside == (255, 0, 0)).all()
    assert (framed[60:100, 40:80] == (255, 0, 0)).all()


def test_pixels_of_no_segment_have_no_class() -> None:
    ids = torch.tensor([[1, 1, 2], [0, 0, 2]], dtype=torch.int32)
    shown = PanopticMap(ids, (Segment(1, 7, True), Segment(2, 3, False)))
    assert class_ids_of(shown).tolist() == [[7, 7, 3], [-1, -1, 3]]


def test_maps_are_beside_the_image_and_their_difference_is_framed_in_all() -> None:
    image = torch.full((3, 96, 96), 128, dtype=torch.uint8)
    words = parse_vocabulary(["cat", "dog", "grass [stuff]"])
    first = torch.full((96, 96), 2)
    first[20:50, 20:50] = 0
    second = first.clone()
    second[20:50, 20:50] = 1
    plain = comparison_row(image, [first, second, first], words, boxes=False)
    framed = comparison_row(image, [first, second, first], words, boxes=True)
    assert len(plain) == len(framed) == 4
    assert plain[1].tobytes() == plain[3].tobytes() != plain[2].tobytes()
    drawn = draw_semantic(image.permute(1, 2, 0).numpy(), first, words.names)
    assert plain[1].tobytes() == drawn.tobytes()
    assert all(a.tobytes() != b.tobytes() for a, b in zip(plain, framed, strict=True))


class TestClusters:
    def test_groups_of_points_are_found_the_largest_first(self) -> None:
        centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
        truth = torch.tensor([0] * 5 + [1] * 9 + [2] * 7)
        points = centres[truth] + 0.1 * torch.randn(21, 2)
        found = k_means(points, 3)
        assert found.tolist() == [2] * 5 + [0] * 9 + [1] * 7

    def test_a_cluster_means_the_same_in_all_images(self) -> None:
        black, white = torch.zeros(3, 32, 32), torch.full((3, 32, 32), 255.0)
        half = torch.cat([black[..., :16], white[..., 16:]], dim=-1)
        maps = cluster_maps(CoarseTower(), [black, half], 2)
        assert maps[0].tolist() == [[0, 0], [0, 0]]
        assert maps[1].tolist() == [[0, 1], [0, 1]]

    def test_cells_cover_the_picture_in_the_colours_of_their_clusters(self) -> None:
        picture = draw_clusters(
            torch.zeros(3, 40, 80, dtype=torch.uint8), torch.tensor([[0, 1], [2, 0]])
        )
        quarter = picture.width // 4, picture.height // 4
        places = [(1, 1), (3, 1), (1, 3), (3, 3)]
        found = [picture.getpixel((x * quarter[0], y * quarter[1])) for x, y in places]
        assert found == [class_color(index) for index in (0, 1, 2, 0)]


class CoarseTower:
    """Means of 16 x 16 pixels."""

    def normalize(self, images: list[Tensor], size: tuple[int, int]) -> Tensor:
        return torch.stack(images)

    def __call__(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images, 16)
