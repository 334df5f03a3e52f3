"""FrozenSeg: panoptic, semantic and instance segmentation of any image with any list of words.

>>> import frozenseg
>>> segmenter = frozenseg.load("shapes")
>>> result = segmenter("scene.png", "red circle; striped blue star; grass [stuff]")
>>> result.draw().save("result.png")
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Unpack

    from fvcore.common.config import CfgNode

    from frozenseg.inference.call_options import CallOptions
    from frozenseg.inference.segmenter import Segmenter, VocabularyLike
    from frozenseg.video import VideoFrame

__version__ = "0.1.0"


def load(
    model: str | Path = "shapes",
    *,
    weights: str | Path | None = None,
    device: str | None = None,
    overrides: Sequence[str] = (),
) -> "Segmenter":
    """A segmenter with trained weights.

    Args:
        model: a name such as ``shapes`` (the miniature model that ships with the package) or
            ``frozenseg-convnext-large``, a folder with a configuration and weights, such as that
            of a training, or a YAML file. ``frozenseg.model_names()`` lists the names.
        weights: trained weights, ours or an official ``.pth``; by default those of the package or
            the folder, else those that the configuration names.
        device: ``cpu``, ``cuda`` ...; by default cuda where there is one.
        overrides: configuration keys and values by turns, which win over the file's.

    Raises:
        UserError: no such model or key, no weights, weights of another architecture, a tower that
            is not there.
    """
    cfg = model_config(model, weights=weights, device=device, overrides=overrides)

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
) -> "CfgNode":
    """Returns the configuration of ``load``.

    Args:
        model: as for ``load``.
        weights: as for ``load``.
        device: as for ``load``.
        over: further configuration files, applied in order.
        overrides: keys and values in turn, applied last.

    Raises:
        UserError: no such model, file of weights, or key.
    """
    from frozenseg.config import load_config
    from frozenseg.config.models import model_files
    from frozenseg.io.files import is_file, is_folder, no_weights_file, user_path

    files = model_files(model)
    path = None if weights is None else user_path(weights)
    if path is not None and not (is_file(path) or is_folder(path)):
        raise no_weights_file(path)  # here, before seconds of imports
    chosen = files.weights if weights is None else weights
    pairs = [] if chosen is None else ["MODEL.WEIGHTS", str(chosen)]
    pairs += [] if device is None else ["MODEL.DEVICE", device]
    return load_config(files.config, [*pairs, *overrides], over=over)
