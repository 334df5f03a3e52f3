"""SAM masks on disk: one safetensors file per image, named by a hash of the image's pixels.

A file holds the low-resolution logits in fixed point, as compressed differences along rows, with
the predicted IoU, stability, box and area of each mask, the origin of the masks (image, SAM,
settings) and a digest. Fifty masks of a 500 x 375 image take about 1 MB instead of 37 MB.
"""

import hashlib
import json
import logging
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frozenseg.errors import UserError
from frozenseg.io.gates import parser_gate
from frozenseg.io.safetensors_files import read_safetensors, write_safetensors
from frozenseg.io.text import cut, shown
from frozenseg.io.writing import optional_file
from frozenseg.sam_masks.generator import MaskSettings, MaskSource, SamMasks

logger = logging.getLogger(__name__)

FORMAT = "frozenseg-sam-masks-2"
STEP = 1 / 128  # of stored logits: the error of a mask's probability is below 0.001
LIMIT = 10.0  # of stored logits: sigmoid(-10) is 0.00005
MAX_SQUARE = 8192  # pixels; SAM's input has 1024
MEASURES = ("predicted_iou", "stability", "boxes", "areas")


class MaskCache:
    """A folder of SAM masks, all created by one SAM with the same settings.

    Args:
        folder: is created when the first masks are written.
        sam_name: name of the SAM; masks of another one are refused.
        settings: of the generator; masks with other settings are refused.
        sam_fingerprint: of SAM's weights, if known. None: all files must agree with the first one
            that is read.
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
        """Returns True if there is a file for a (3, H, W) uint8 image."""
        return self._path(image_hash(image)).is_file()

    def read(self, image: Tensor) -> SamMasks | None:
        """Returns the masks of a (3, H, W) uint8 image; None if their file is missing or damaged.

        Raises:
            UserError: the file is of another image, SAM or settings.
        """
        digest = image_hash(image)
        path = self._path(digest)
        if not path.is_file():
            return None
        try:
            tensors, about = _read(path)
        except UserError as error:
            return _warn_of_damage(error)
        self._check(about, {**self._expected(image), "image": digest}, path)
        try:
            with parser_gate(path, expected="a file of SAM masks", advice="delete it"):
                return _decoded(tensors, about, max_masks=self.settings.max_masks)
        except UserError as error:
            return _warn_of_damage(error)

    def write(self, image: Tensor, masks: SamMasks, *, sam_fingerprint: str) -> None:
        """Stores the masks of an image.

        Args:
            image: (3, H, W) uint8.
            masks: its masks.
            sam_fingerprint: of the weights of the SAM that created them.

        Raises:
            UserError: the file cannot be written.
        """
        about = {
            **self._expected(image),
            "image": image_hash(image),
            "sam_fingerprint": sam_fingerprint,
            "low_res_size": list(masks.low_res_logits.shape[-2:]),
            "square": masks.square,
            "stride": masks.stride,
        }
        tensors = {name: getattr(masks, name) for name in MEASURES}
        tensors["logits"] = packed_logits(masks.low_res_logits)
        write_safetensors(tensors, self._path(about["image"]), {"about": json.dumps(about)})

    def _expected(self, image: Tensor) -> dict[str, Any]:
        size = list(image.shape[-2:])
        expected = {"format": FORMAT, "sam": self.sam_name, "image_size": size}
        return {**expected, **asdict(self.settings)}

    def _check(self, about: dict[str, Any], expected: dict[str, Any], path: Path) -> None:
        fingerprint = self.sam_fingerprint or about.get("sam_fingerprint")
        for name, value in {**expected, "sam_fingerprint": fingerprint}.items():
            found = about.get(name)
            if found != value:
                raise UserError(
                    f"{path} does not match: its {name} is {cut(shown(found))}, not {value}; "
                    "choose another MODEL.MASK_ENSEMBLE.CACHE, or delete it and run "
                    "`frozenseg sam-masks`"
                )
        self.sam_fingerprint = fingerprint

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest}.safetensors"


class CachedMasks:
    """SAM masks from the cache; missing ones are created and stored.

    New masks are returned with the precision of a file, so results do not depend on the cache.

    Args:
        cache: the folder of masks.
        build: loads SAM when the first image is not in the cache; returns the source of its masks
            and the fingerprint of its weights.
    """

    def __init__(self, cache: MaskCache, build: Callable[[], tuple[MaskSource, str]]) -> None:
        self.cache, self.build = cache, build
        self._generate: MaskSource | None = None

    def __call__(self, image: Tensor) -> SamMasks:
        """Returns the masks of a (3, H, W) uint8 image; a full disk is only a warning.

        Raises:
            UserError: the stored masks are of another SAM or settings, or SAM cannot be loaded.
        """
        found = self.cache.read(image)
        if found is not None:
            return found
        masks = self._create(image)
        with optional_file("the cache of SAM masks"):
            self.cache.write(image, masks, sam_fingerprint=self._fingerprint)
        return as_stored(masks)

    def complete(self, image: Tensor) -> bool:
        """Makes sure that the masks of an image are stored; returns True if they were created.

        Raises:
            UserError: as for a call, and if the masks cannot be written.
        """
        if self.cache.read(image) is not None:
            return False
        masks = self._create(image)
        self.cache.write(image, masks, sam_fingerprint=self._fingerprint)
        return True

    def _create(self, image: Tensor) -> SamMasks:
        if self._generate is None:
            logger.info("%s does not hold all masks: loading SAM", self.cache.folder)
            self._generate, self._fingerprint = self.build()
        return self._generate(image)


def image_hash(image: Tensor) -> str:
    """Returns a hash of size and pixels of a (3, H, W) uint8 image."""
    if image.dtype != torch.uint8:
        raise ValueError(f"masks are stored for uint8 images, not {image.dtype}")
    digest = hashlib.blake2b(repr(tuple(image.shape)).encode(), digest_size=16)
    digest.update(image.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def as_stored(masks: SamMasks) -> SamMasks:
    """Returns the masks as a file would give them: on the CPU, logits in steps of ``STEP``."""
    measures = {name: getattr(masks, name).cpu() for name in MEASURES}
    logits = _from_fixed_point(_fixed_point(masks.low_res_logits))
    return replace(masks, low_res_logits=logits, **measures)


def packed_logits(logits: Tensor) -> Tensor:
    """Compresses (P, h, w) logits to a row of bytes; the sign of each logit is preserved."""
    steps = np.diff(_fixed_point(logits), axis=-1, prepend=np.int16(0))
    planes = steps.astype("<i2").reshape(-1, 1).view(np.uint8).T  # low bytes, then high bytes
    return torch.frombuffer(bytearray(zlib.compress(planes.tobytes())), dtype=torch.uint8)


def unpacked_logits(packed: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Decompresses the logits of ``packed_logits`` to float32.

    Args:
        packed: bytes.
        shape: (P, h, w) of the logits.

    Raises:
        ValueError, zlib.error: the bytes do not hold exactly this many logits.
    """
    expected = 2 * shape[0] * shape[1] * shape[2]
    inflater = zlib.decompressobj()
    content = inflater.decompress(packed.numpy().tobytes(), expected + 1)
    if len(content) != expected or not inflater.eof:
        raise ValueError(f"the logits do not have the size {shape}")
    planes = np.frombuffer(content, dtype=np.uint8)
    steps = np.ascontiguousarray(planes.reshape(2, -1).T).view("<i2").reshape(shape)
    return _from_fixed_point(np.cumsum(steps, axis=-1, dtype=np.int16))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the tensors of a file and the origin of the masks.

    Raises:
        UserError: the file is damaged.
    """
    tensors, notes = read_safetensors(path)
    with parser_gate(path, expected="a file of SAM masks", advice="delete it"):
        about = dict(json.loads(notes["about"]))
        return {name: tensors[name] for name in (*MEASURES, "logits")}, about


def _warn_of_damage(error: UserError) -> None:
    logger.warning("these masks are created again: %s", error)


def _decoded(
    tensors: Mapping[str, Tensor], about: Mapping[str, Any], *, max_masks: int
) -> SamMasks:
    """Checks the sizes of a file's content and decompresses it.

    Raises:
        ValueError: a size is out of range or does not match the others.
    """
    square, stride = int(about["square"]), int(about["stride"])
    height, width = map(int, about["low_res_size"])
    count = len(tensors["areas"])
    if not (0 < stride <= square <= MAX_SQUARE and count <= max_masks):
        raise ValueError(f"it has {count} masks of a square of {square} with stride {stride}")
    if not 0 < min(height, width) <= max(height, width) <= square // stride + 1:
        raise ValueError(f"its logits have the size {height} x {width}")
    for name in MEASURES:
        shape = (count, 4) if name == "boxes" else (count,)
        if tuple(tensors[name].shape) != shape:
            raise ValueError(f"its {name} have the shape {tuple(tensors[name].shape)}, not {shape}")
    return SamMasks(
        unpacked_logits(tensors["logits"], (count, height, width)),
        *(tensors[name] for name in MEASURES),
        image_size=tuple(about["image_size"]),
        square=square,
        stride=stride,
    )


def _fixed_point(logits: Tensor) -> np.ndarray:
    clipped = logits.float().cpu().numpy().clip(-LIMIT, LIMIT)
    return np.floor(clipped / STEP).astype(np.int16)


def _from_fixed_point(fixed: np.ndarray) -> Tensor:
    return torch.from_numpy((fixed.astype(np.float32) + 0.5) * STEP)  # the middle of the step
