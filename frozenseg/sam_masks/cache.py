"""SAM's masks on the disk: one safetensors file per image, named by the image's pixels.

A file holds the low-resolution logits in fixed point, as differences along rows, deflated; beside
them each mask's predicted IoU, stability, box and area, and what they were made of: image, SAM,
settings. Fifty masks of a 500 x 375 image take about one megabyte instead of 37.
"""

import hashlib
import json
import logging
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write
from frozenseg.sam_masks.generator import MaskSettings, MaskSource, SamMasks

logger = logging.getLogger(__name__)

FORMAT = "frozenseg-sam-masks-1"
STEP = 1 / 128  # of stored logits: a mask's probability is off by less than 0.001
LIMIT = 10.0  # beyond it a pixel is as good as certain: sigmoid(-10) is 0.00005
MEASURES = ("predicted_iou", "stability", "boxes", "areas")


class MaskCache:
    """A folder of SAM's masks, all made by one SAM with the same settings.

    Args:
        sam_name: whose masks; a file that another one made is refused.
        sam_fingerprint: of its weights, where they are at hand. Without it all files must agree
            with the first one that is read.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sam_name: str,
        settings: MaskSettings,
        sam_fingerprint: str | None = None,
    ) -> None:
        self.folder, self.sam_name, self.settings = folder, sam_name, settings
        self.sam_fingerprint = sam_fingerprint

    def has(self, image: Tensor) -> bool:
        """Whether there is a file for a (3, H, W) uint8 image."""
        return self._path(image_hash(image)).is_file()

    def read(self, image: Tensor) -> SamMasks | None:
        """The masks of an image; None if there are none of it.

        Raises:
            UserError: the file is damaged, or of another image, SAM or settings.
        """
        digest = image_hash(image)
        path = self._path(digest)
        if not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {})["about"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self._check(about, {**self._expected(image), "image": digest}, path)
            return _unpacked(tensors, about)
        except (SafetensorError, KeyError, ValueError, zlib.error) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"{path} is damaged ({error}): delete it and run `frozenseg sam-masks` again"
            ) from error

    def write(self, image: Tensor, masks: SamMasks, *, sam_fingerprint: str) -> None:
        """Keeps the masks of an image."""
        about = {
            **self._expected(image),
            "image": image_hash(image),
            "sam_fingerprint": sam_fingerprint,
            "low_res_size": list(masks.low_res_logits.shape[-2:]),
            "square": masks.square,
            "stride": masks.stride,
        }
        tensors = {name: getattr(masks, name).cpu().contiguous() for name in MEASURES}
        tensors["logits"] = packed_logits(masks.low_res_logits)
        with atomic_write(self._path(about["image"])) as part:
            save_file(tensors, part, {"about": json.dumps(about)})

    def _expected(self, image: Tensor) -> dict[str, Any]:
        size = list(image.shape[-2:])
        expected = {"format": FORMAT, "sam": self.sam_name, "image_size": size}
        return {**expected, **asdict(self.settings)}

    def _check(self, about: dict[str, Any], expected: dict[str, Any], path: Path) -> None:
        expected = {**expected, "sam_fingerprint": self.sam_fingerprint or about["sam_fingerprint"]}
        for name, value in expected.items():
            if about[name] != value:
                raise UserError(
                    f"{path} does not fit: its {name} is {about[name]}, not {value}; choose "
                    "another MODEL.MASK_ENSEMBLE.CACHE, or delete it and run `frozenseg sam-masks`"
                )
        self.sam_fingerprint = about["sam_fingerprint"]

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest}.safetensors"


class CachedMasks:
    """Masks from the cache; those that are not there are made, and kept for the next time.

    What is made is given as it would be read, so that a result does not depend on which it was.

    Args:
        build: loads SAM, the first time that an image is not in the cache: its masks' source, and
            the fingerprint of its weights.
    """

    def __init__(self, cache: MaskCache, build: Callable[[], tuple[MaskSource, str]]) -> None:
        self.cache, self.build = cache, build
        self._generate: MaskSource | None = None

    def __call__(self, image: Tensor) -> SamMasks:
        found = self.cache.read(image)
        return self._make(image) if found is None else found

    def _make(self, image: Tensor) -> SamMasks:
        if self._generate is None:
            logger.info("%s does not hold all masks: loading SAM", self.cache.folder)
            self._generate, self._fingerprint = self.build()
        masks = self._generate(image)
        self.cache.write(image, masks, sam_fingerprint=self._fingerprint)
        kept = self.cache.read(image)
        assert kept is not None, "the file was just written"
        return kept


def image_hash(image: Tensor) -> str:
    """A name for a (3, H, W) uint8 image: the same for the same pixels, wherever they lie."""
    if image.dtype != torch.uint8:
        raise ValueError(f"masks are kept for uint8 images, not {image.dtype}")
    digest = hashlib.blake2b(repr(tuple(image.shape)).encode(), digest_size=16)
    digest.update(image.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def packed_logits(logits: Tensor) -> Tensor:
    """(P, h, w) logits as a row of bytes; each keeps its sign."""
    clipped = logits.float().cpu().numpy().clip(-LIMIT, LIMIT)
    fixed = np.floor(clipped / STEP).astype(np.int16)
    steps = np.diff(fixed, axis=-1, prepend=np.int16(0))
    planes = steps.astype("<i2").reshape(-1, 1).view(np.uint8).T  # low bytes, then high ones
    return torch.frombuffer(bytearray(zlib.compress(planes.tobytes())), dtype=torch.uint8)


def unpacked_logits(packed: Tensor, size: tuple[int, int]) -> Tensor:
    """What ``packed_logits`` made of (P, h, w) logits of this ``size``, in float32."""
    planes = np.frombuffer(zlib.decompress(packed.numpy().tobytes()), dtype=np.uint8)
    steps = np.ascontiguousarray(planes.reshape(2, -1).T).view("<i2").reshape(-1, *size)
    fixed = np.cumsum(steps, axis=-1, dtype=np.int16)
    return torch.from_numpy((fixed.astype(np.float32) + 0.5) * STEP)  # the middle of its step


def _unpacked(tensors: dict[str, Tensor], about: dict[str, Any]) -> SamMasks:
    height, width = about["low_res_size"]
    return SamMasks(
        unpacked_logits(tensors["logits"], (height, width)),
        *(tensors[name] for name in MEASURES),
        image_size=tuple(about["image_size"]),
        square=about["square"],
        stride=about["stride"],
    )
