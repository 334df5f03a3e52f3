"""FrozenSeg: panoptic, semantic and instance segmentation of any image with any list of words.

>>> import frozenseg
>>> segmenter = frozenseg.load("shapes")
>>> result = segmenter("scene.png", "red circle; striped blue star; grass [stuff]")
>>> result.draw().save("result.png")
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fvcore.common.config import CfgNode

    from frozenseg.inference.segmenter import Segmenter

__version__ = "0.1.0"

# models that ship with the package: configuration, trained weights
BUILTIN_MODELS = {
    "shapes": (
        "shapes/frozenseg.yaml",
        Path(__file__).parent / "weights" / "shapes" / "head.safetensors",
    )
}


def load(
    model: str | Path = "shapes",
    *,
    weights: str | Path | None = None,
    device: str | None = None,
    overrides: Sequence[str] = (),
) -> "Segmenter":
    """A segmenter with trained weights.

    Args:
        model: ``shapes`` (the miniature model that ships with the package), or a configuration
            file.
        weights: trained weights, ours or an official ``.pth``; by default those that the
            configuration names.
        device: ``cpu``, ``cuda`` ...; by default cuda where there is one.
        overrides: configuration keys and values by turns, which win over the file's.

    Raises:
        UserError: no such model or key, weights of another architecture, a tower that is not there.
    """
    from frozenseg.builders.segmenter import build_segmenter

    return build_segmenter(model_config(model, weights=weights, device=device, overrides=overrides))


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
    """
    from frozenseg.config import load_config

    config, shipped = BUILTIN_MODELS.get(str(model), (model, None))
    weights = weights or shipped
    chosen = [] if weights is None else ["MODEL.WEIGHTS", str(weights)]
    chosen += [] if device is None else ["MODEL.DEVICE", device]
    return load_config(config, [*chosen, *overrides], over=over)
