"""Scenes of the shapes world as a data set."""

import numpy as np
import torch

from frozenseg.data.shapes.scene import Painter, Scene
from frozenseg.data.shapes.words import Split, stuff_of, things_of
from frozenseg.structures import PanopticMap, Sample, Segment

_SIZES: dict[Split, int] = {"train": 10_000, "val": 200}
_SPLIT_SEEDS: dict[Split, int] = {"train": 1, "val": 2}
_MAX_THINGS = 7


class ShapesDataset:
    """Scenes drawn on demand, each determined by (split, index, seed); nothing is stored.

    Args:
        split: "train" shows seen classes only, "val" seen and unseen ones; class ids are those of
            ``shapes_vocabulary(split)``.
        size: How many scenes; None for 10,000 ("train") or 200 ("val").
        seed: Another seed gives other scenes.
        image_size: Side of the square images, up to 512. Things keep their size in pixels.
    """

    def __init__(
        self, split: Split, size: int | None = None, seed: int = 0, image_size: int = 256
    ) -> None:
        self.split: Split = split
        self.size = _SIZES[split] if size is None else size
        self.seed = seed
        self.image_size = image_size
        self.things, self.stuff = things_of(split), stuff_of(split)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.size:
            raise IndexError(f"scene {index} of {self.size}")
        return self._annotate(self._scene(index), index)

    def _scene(self, index: int) -> Scene:
        rng = np.random.default_rng((self.seed, _SPLIT_SEEDS[self.split], 0, index))
        num_stuff, num_things = int(rng.integers(2, 4)), int(rng.integers(3, _MAX_THINGS + 1))
        grounds = self._deal(len(self.stuff), index, 3)[:num_stuff]
        hand = self._deal(len(self.things), index, _MAX_THINGS)[:num_things]
        if rng.random() < 0.4:  # a second one of its kind
            hand = [*hand[:-1], hand[0]]
        stuff = tuple(self.stuff[card] for card in grounds)
        painter = Painter(rng=rng, size=self.image_size, stuff=stuff)
        for card in hand:
            painter.place(self.things[card])
        return painter.finish()

    def _deal(self, num_cards: int, index: int, count: int) -> list[int]:
        """Distinct cards for a scene; over all scenes every card occurs equally often."""
        round_, hand = divmod(index, num_cards // count)
        rng = np.random.default_rng((self.seed, _SPLIT_SEEDS[self.split], num_cards, round_))
        return rng.permutation(num_cards)[hand * count : (hand + 1) * count].tolist()

    def _annotate(self, scene: Scene, index: int) -> Sample:
        class_ids = [len(self.things) + self.stuff.index(name) for name in scene.stuff]
        class_ids += [self.things.index(thing) for thing in scene.things]
        areas = np.bincount(scene.labels.ravel(), minlength=len(class_ids))
        segments = tuple(
            Segment(
                id=label + 1, class_id=class_id, is_thing=label >= len(scene.stuff), area=int(area)
            )
            for label, (class_id, area) in enumerate(zip(class_ids, areas, strict=True))
        )
        return Sample(
            image=torch.from_numpy(scene.image).permute(2, 0, 1).contiguous(),
            image_id=index,
            file_name=f"shapes/{self.split}/{self.seed}/{index:06d}.png",
            panoptic=PanopticMap(torch.from_numpy((scene.labels + 1).astype(np.int32)), segments),
            semantic=torch.from_numpy(np.array(class_ids, dtype=np.int64)[scene.labels]),
        )
