"""FrozenSeg: panoptic, semantic and instance segmentation of any image with any list of words.

>>> import frozenseg
>>> segmenter = frozenseg.load("shapes")
>>> result = segmenter("scene.png", "red circle; striped blue star; grass [stuff]")
>>> result.draw().save("result.png")
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from frozenseg.runtime.garbage import collector_paused

if TYPE_CHECKING:
    from typing import Unpack

    from fvcore.common.config import CfgNode

    from frozenseg.inference.call_options import CallOptions
    from frozenseg.inference.segmenter import Segmenter, VocabularyLike
    from frozenseg.video import VideoFrame

__version__ = "0.1.0"


@collector_paused()
def load(
    model: str | Path = "shapes",
    *,
    weights: str | Path | None = None,
    device: str | None = None,
    overrides: Sequence[str] = (),
    revision: str | None = None,
) -> "Segmenter":
    """Returns a segmenter with trained weights.

    Args:
        model: a name such as ``shapes`` (the miniature model that ships with the package) or
            ``frozenseg-convnext-large``, a folder with a configuration and weights, such as that
            of a training, a YAML file, or a repository on the Hugging Face hub
            (``owner/name``). ``frozenseg.model_names()`` lists the names.
        weights: trained weights, ours or an official ``.pth``; by default those of the package or
            the folder, else those that the configuration names.
        device: ``cpu``, ``cuda`` ...; by default cuda if available.
        overrides: alternating configuration keys and values, which override the file's.
        revision: commit, branch or tag of the repository.

    Raises:
        UserError: no such model or key, no weights, weights of another architecture, or a
            missing tower.
    """
    cfg = model_config(
        model, weights=weights, device=device, overrides=overrides, revision=revision
    )

    from frozenseg.builders.model import has_trained_parts
    from frozenseg.builders.segmenter import build_segmenter
    from frozenseg.config.models import without_weights

    if not cfg.MODEL.WEIGHTS and has_trained_parts(cfg):
        raise without_weights(model)
    return build_segmenter(cfg)


def segment_video(
    source: str | Path | int,
    vocabulary: "VocabularyLike",
    *,
    segmenter: "Segmenter | None" = None,
    **options: "Unpack[CallOptions]",
) -> "Iterator[VideoFrame]":
    """Iterates over the segmented frames of a video (extra ``video``).

    >>> for frame in frozenseg.segment_video("clip.mp4", "cat; grass [stuff]", segmenter=model):
    ...     frame.result.save("frames", f"{frame.index:06d}")

    Args:
        source: a file, or the number of a camera.
        vocabulary: as for ``segmenter(image, vocabulary)``.
        segmenter: what ``load`` returned; None: the miniature model.
        options: as for ``segmenter(image, vocabulary)``.

    Raises:
        UserError: no video, a damaged frame, or what the segmenter raises.
    """
    from frozenseg.video import segment_video

    return segment_video(source, vocabulary, segmenter=segmenter or load(), **options)


def from_pretrained(
    folder_or_repository: str | Path, *, revision: str | None = None, device: str | None = None
) -> "Segmenter":
    """Loads a folder written by ``save_pretrained``, or a repository on the hub.

    Args:
        folder_or_repository: a folder, or ``owner/name``.
        revision: commit, branch or tag of the repository.
        device: as for ``load``.

    Raises:
        UserError: as for ``load``.
    """
    return load(folder_or_repository, revision=revision, device=device)


def save_pretrained(
    folder: str | Path,
    model: str | Path = "shapes",
    *,
    weights: str | Path | None = None,
    licence: str = "",
    metrics: Mapping[str, float] | None = None,
) -> list[Path]:
    """Writes a trained model as ``config.json``, ``model.safetensors`` and a model card.

    The files contain the names of the training classes, but not the towers, which they name.

    Args:
        folder: is created if it does not exist.
        model: as for ``load``.
        weights: as for ``load``.
        licence: licence of the trained weights, for the card.
        metrics: measured values, for the card.

    Raises:
        UserError: the weights do not fit, or a file cannot be written.
    """
    from frozenseg.builders import pretrained
    from frozenseg.io.files import user_path

    cfg = model_config(model, weights=weights)
    return pretrained.save_pretrained(cfg, user_path(folder), licence=licence, metrics=metrics)


def push_to_hub(folder: str | Path, repository: str, *, private: bool = False) -> str:
    """Uploads a folder written by ``save_pretrained``; returns the address of the commit.

    Args:
        folder: what ``save_pretrained`` wrote.
        repository: ``owner/name``; is created if it does not exist.
        private: whether a new repository is private.
    """
    from frozenseg.builders import pretrained
    from frozenseg.io.files import user_path

    return pretrained.push_to_hub(user_path(folder), repository, private=private)


def model_names() -> list[str]:
    """The names that ``load`` knows; only ``shapes`` ships with weights."""
    from frozenseg.config.models import model_names

    return list(model_names())


def model_config(
    model: str | Path,
    *,
    weights: str | Path | None = None,
    device: str | None = None,
    over: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    revision: str | None = None,
) -> "CfgNode":
    """Returns the configuration of ``load``.

    Args:
        model: as for ``load``.
        weights: as for ``load``.
        device: as for ``load``.
        over: further configuration files, applied in order.
        overrides: keys and values in turn, applied last.
        revision: as for ``load``.

    Raises:
        UserError: no such model, file of weights, or key.
    """
    from frozenseg.config import load_config
    from frozenseg.config.models import model_files
    from frozenseg.io.files import is_file, is_folder, no_weights_file, user_path

    files = model_files(model, revision=revision)
    path = None if weights is None else user_path(weights)
    if path is not None and not (is_file(path) or is_folder(path)):
        raise no_weights_file(path)  # here, before seconds of imports
    chosen = files.weights if weights is None else weights
    pairs = [] if chosen is None else ["MODEL.WEIGHTS", str(chosen)]
    pairs += [] if device is None else ["MODEL.DEVICE", device]
    return load_config(files.config, [*pairs, *overrides], over=over)
