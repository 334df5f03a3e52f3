import json
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy import ndimage
from torch import Tensor

from frozenseg.errors import UserError
from frozenseg.io.safetensors_files import write_safetensors
from frozenseg.sam_masks.cache import (
    LIMIT,
    STEP,
    CachedMasks,
    MaskCache,
    as_stored,
    image_hash,
    packed_logits,
    unpacked_logits,
)
from frozenseg.sam_masks.generator import PER_MASK, MaskSettings, SamMasks

SETTINGS = MaskSettings(points_per_side=8)


def some_image(seed: int = 0, size: tuple[int, int] = (30, 40)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8)


def some_masks(count: int = 3, size: tuple[int, int] = (30, 40)) -> SamMasks:
    return SamMasks(
        low_res_logits=torch.randn(count, 49, 64) * 6,
        predicted_iou=torch.rand(count),
        stability=torch.rand(count),
        boxes=torch.randint(30, (count, 4)),
        areas=torch.randint(900, (count,)),
        image_size=size,
        square=256,
        stride=4,
    )


def cache(folder: Path, **changes: object) -> MaskCache:
    return MaskCache(folder, **({"sam_name": "vit_h", "settings": SETTINGS} | changes))


def kept(folder: Path, masks: SamMasks | None = None) -> MaskCache:
    """A cache that holds the masks of ``some_image()``."""
    made = cache(folder)
    made.write(some_image(), some_masks() if masks is None else masks, sam_fingerprint="abc")
    return made


def test_masks_come_back_with_their_measures(tmp_path: Path):
    masks = some_masks()
    found = kept(tmp_path, masks).read(some_image())
    for name in PER_MASK[1:]:
        assert torch.equal(getattr(found, name), getattr(masks, name))
    clipped = masks.low_res_logits.clamp(-LIMIT, LIMIT)
    assert (found.low_res_logits - clipped).abs().max() <= STEP / 2 + 1e-5
    assert (found.image_size, found.square, found.stride) == ((30, 40), 256, 4)
    assert found.logits().shape == (3, 30, 40)


def test_every_logit_keeps_its_side_of_zero():
    logits = torch.tensor([[[-1e-6, 1e-6, -0.004, 0.004, -300.0, 300.0]]])
    stored = unpacked_logits(packed_logits(logits), (1, 1, 6))
    assert torch.equal(stored > 0, logits > 0)


def test_an_image_without_masks_is_kept_too(tmp_path: Path):
    found = kept(tmp_path, some_masks(0)).read(some_image())
    assert len(found) == 0 and found.boxes.shape == (0, 4)


def test_an_image_never_seen_has_no_masks(tmp_path: Path):
    filled = kept(tmp_path)
    assert filled.has(some_image()) and not filled.has(some_image(1))
    assert filled.read(some_image(1)) is None


def test_the_name_of_an_image_is_that_of_its_pixels_and_size():
    image = some_image(size=(4, 6))
    assert image_hash(image) == image_hash(image.clone())
    assert image_hash(image) != image_hash(image.reshape(3, 6, 4))
    changed = image.clone()
    changed[2, 3, 5] += 1
    assert image_hash(image) != image_hash(changed)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sam_name": "vit_b"}, "sam is vit_h, not vit_b"),
        ({"settings": MaskSettings(points_per_side=16)}, "points_per_side is 8, not 16"),
        ({"settings": MaskSettings(points_per_side=8, iou_threshold=0.5)}, "iou_threshold is 0.8"),
        ({"sam_fingerprint": "xyz"}, "sam_fingerprint is abc, not xyz"),
    ],
)
def test_masks_made_otherwise_are_refused(tmp_path: Path, changes: dict, words: str):
    kept(tmp_path)
    with pytest.raises(UserError, match=words) as caught:
        cache(tmp_path, **changes).read(some_image())
    assert f"{image_hash(some_image())}.safetensors" in str(caught.value)


def test_masks_under_another_images_name_are_refused(tmp_path: Path):
    filled = kept(tmp_path)
    other = some_image(1)
    path = tmp_path / f"{image_hash(some_image())}.safetensors"
    path.rename(tmp_path / f"{image_hash(other)}.safetensors")
    with pytest.raises(UserError, match="its image is"):
        filled.read(other)


def test_masks_of_two_sams_of_one_name_do_not_mix(tmp_path: Path):
    filled = kept(tmp_path)
    filled.write(some_image(1), some_masks(), sam_fingerprint="def")
    reader = cache(tmp_path)
    reader.read(some_image())
    with pytest.raises(UserError, match="sam_fingerprint is def, not abc"):
        reader.read(some_image(1))


@pytest.mark.parametrize(
    "damage", ["cut", "flipped bit", "no masks", "not zlib", "bomb", "other sizes", "too many"]
)
def test_masks_of_a_damaged_file_are_created_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
):
    filled = kept(tmp_path)
    path = next(tmp_path.glob("*.safetensors"))
    with safe_open(path, "pt") as file:
        about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    notes = json.loads(about["about"])
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-7])
    elif damage == "flipped bit":
        content = bytearray(path.read_bytes())
        content[-20] ^= 4
        path.write_bytes(content)
    else:
        if damage == "no masks":
            tensors = {"x": torch.zeros(1)}
        elif damage == "not zlib":
            tensors["logits"] = torch.zeros(9, dtype=torch.uint8)
        elif damage == "bomb":
            inflated = zlib.compress(bytes(50_000_000))
            tensors["logits"] = torch.frombuffer(bytearray(inflated), dtype=torch.uint8)
        elif damage == "other sizes":
            notes["low_res_size"] = [1 << 30, 1 << 30]
        else:
            tensors |= {name: torch.zeros(51, 4)[:, 0] for name in ("areas", "stability")}
        write_safetensors(tensors, path, {"about": json.dumps(notes)})
    masks = some_masks()
    source = CachedMasks(filled, lambda: (lambda _: masks, "abc"))
    assert torch.equal(source(some_image()).areas, masks.areas)
    assert path.name in caplog.text and "these masks are created again" in caplog.text
    assert torch.equal(filled.read(some_image()).areas, masks.areas)


def test_the_file_says_what_it_was_made_of(tmp_path: Path):
    kept(tmp_path)
    with safe_open(next(tmp_path.glob("*.safetensors")), "pt") as file:
        about = json.loads(file.metadata()["about"])
    assert about["sam"] == "vit_h" and about["sam_fingerprint"] == "abc"
    assert about["image"] == image_hash(some_image()) and about["image_size"] == [30, 40]
    assert about["points_per_side"] == 8 and about["stability_threshold"] == 0.7


def test_sam_is_loaded_once_and_only_for_images_that_are_not_there(tmp_path: Path):
    loads, made = [], []

    def generate(image: Tensor) -> SamMasks:
        made.append(image_hash(image))
        return some_masks()

    def build():
        loads.append(1)
        return generate, "abc"

    source = CachedMasks(kept(tmp_path), build)
    source(some_image())
    assert not loads
    first, again = source(some_image(1)), source(some_image(1))
    source(some_image(2))
    assert len(loads) == 1 and made == [image_hash(some_image(1)), image_hash(some_image(2))]
    assert torch.equal(first.low_res_logits, again.low_res_logits)


def test_a_full_disk_is_a_warning_unless_the_files_are_what_is_wanted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise UserError("No space left on device")

    monkeypatch.setattr("frozenseg.sam_masks.cache.write_safetensors", full)
    masks = some_masks()
    source = CachedMasks(cache(tmp_path), lambda: (lambda _: masks, "abc"))
    found = source(some_image())
    assert (found.low_res_logits - masks.low_res_logits.clamp(-LIMIT, LIMIT)).abs().max() <= STEP
    assert "the cache of SAM masks: not written, the run continues (No space" in caplog.text
    with pytest.raises(UserError, match="No space left"):
        source.complete(some_image())


def test_masks_just_made_are_those_that_a_file_gives(tmp_path: Path):
    masks = some_masks()
    stored, found = as_stored(masks), kept(tmp_path, masks).read(some_image())
    assert all(torch.equal(getattr(stored, name), getattr(found, name)) for name in PER_MASK)


def test_masks_of_a_photograph_take_less_than_a_tenth_of_what_floats_take():
    """Blobs with soft edges and grain, as SAM's logits are, for 500 x 375 pixels."""
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(10):
        noise = ndimage.gaussian_filter(rng.standard_normal((193, 256)), rng.uniform(8, 30))
        inside = noise > np.quantile(noise, rng.uniform(0.5, 0.97))
        far = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
        grain = ndimage.gaussian_filter(rng.standard_normal((193, 256)), 1.0)
        masks.append(12 * np.tanh(far / 4) - 3 + 3 * grain)
    packed = packed_logits(torch.from_numpy(np.stack(masks)))
    assert len(packed) < 10 * 500 * 375 * 4 / 10


def test_logits_are_inflated_to_their_stated_size_only():
    bomb = torch.frombuffer(bytearray(zlib.compress(bytes(100_000_000))), dtype=torch.uint8)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="do not have the size"):
            unpacked_logits(bomb, (3, 49, 64))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
