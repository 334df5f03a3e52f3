"""Captioned scenes: the sentence, the files, and that mining reads them."""

from pathlib import Path

import numpy as np
from PIL import Image

from frozenseg.data.readers.captions import read_captions
from frozenseg.data.shapes.captions import caption_of, write_captioned_scenes
from frozenseg.data.shapes.scene import Scene, random_scene
from frozenseg.data.shapes.words import Thing
from frozenseg.mining.nouns import find_phrases


def scene(*things: Thing, stuff: tuple[str, ...]) -> Scene:
    return Scene(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.int64), stuff, things)


def test_a_caption_names_each_thing_once_and_then_the_grounds() -> None:
    ring, star = Thing("ring", "orange", "plain"), Thing("star", "blue", "dotted")
    shown = scene(ring, star, ring, stuff=("sand", "water"))
    assert caption_of(shown) == "An orange ring and a dotted blue star on sand and water."
    assert caption_of(scene(stuff=("sky",))) == "Nothing on sky."


def test_mining_finds_all_names_of_a_random_scene_in_its_caption() -> None:
    for seed in range(3):
        shown = random_scene(np.random.default_rng(seed))
        names = [*dict.fromkeys(thing.name for thing in shown.things), *shown.stuff]
        assert find_phrases(caption_of(shown)) == names


def test_scenes_are_written_with_captions_and_kept(tmp_path: Path) -> None:
    captions = write_captioned_scenes(tmp_path, 2, seed=3)
    found = read_captions(captions)
    assert [each.file_name for each in found] == ["000000.png", "000001.png"]
    expected = random_scene(np.random.default_rng((3, 1)))
    second = tmp_path / "images" / "000001.png"
    assert np.array_equal(np.asarray(Image.open(second)), expected.image)
    assert found[1].captions == (caption_of(expected),)
    before = second.stat().st_mtime_ns
    assert len(read_captions(write_captioned_scenes(tmp_path, 3, seed=3))) == 3
    assert second.stat().st_mtime_ns == before
