"""Captioned scenes as files: what people would write about them, in COCO's format."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from frozenseg.data.shapes.scene import Scene, random_scene
from frozenseg.io.files import atomic_write
from frozenseg.io.writing import write_text

CAPTIONS, IMAGES = "captions.json", "images"


def caption_of(scene: Scene) -> str:
    """Names all that a scene shows: "A red ring and a dotted blue star on sand and water."."""
    names = dict.fromkeys(thing.name for thing in scene.things)
    things = [f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names]
    subject = _listed(things) or "nothing"
    return f"{subject[0].upper()}{subject[1:]} on {_listed(list(scene.stuff))}."


def write_captioned_scenes(folder: Path, count: int, *, seed: int = 0) -> Path:
    """Writes scenes of any things and grounds with one caption each, as ``frozenseg mine`` reads.

    Args:
        folder: gets ``captions.json`` and, in ``images/``, PNG files; existing images are kept.
        count: number of scenes.
        seed: scene ``n`` is determined by ``(seed, n)``.

    Returns:
        The path of the captions, which are written last.
    """
    images, annotations = [], []
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        scene = random_scene(np.random.default_rng((seed, number)))
        name = f"{number:06d}.png"
        if not (folder / IMAGES / name).exists():
            with atomic_write(folder / IMAGES / name) as part:
                Image.fromarray(scene.image).save(part, format="PNG")
        images.append({"id": number, "file_name": name})
        annotations.append({"id": number, "image_id": number, "caption": caption_of(scene)})
    content = {"images": images, "annotations": annotations}
    write_text(folder / CAPTIONS, json.dumps(content, indent=1) + "\n")
    return folder / CAPTIONS


def _listed(words: list[str]) -> str:
    """Joins words as in a sentence."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
