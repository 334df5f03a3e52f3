"""How large a model is, part by part."""

from typing import NamedTuple

from torch import nn

from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.towers.clip import ClipTower


class Size(NamedTuple):
    """Parameters of one part of a model; what is shared counts once, where it comes first."""

    part: str
    trained: int
    frozen: int


def summarize(model: FrozenSeg) -> list[Size]:
    """The sizes of all parts, the whole model's last.

    The text encoder is told apart from CLIP's image encoder: it runs once per vocabulary, and the
    paper's counts leave it out (Table 6).
    """
    clip = model.backbone
    assert isinstance(clip, ClipTower), "the backbone of the published models is CLIP's"
    groups = {
        "CLIP image encoder": [clip.model.visual],
        "CLIP text encoder": [clip],
        "SAM image encoder": [] if model.sam is None else [model.sam.model.image_encoder],
        "SAM prompts and masks": [] if model.sam is None else [model.sam],
        "pixel decoder": [model.pixel_decoder],
        "transformer decoder": [model.transformer_decoder],
        "void embedding and scale": [model],
    }
    counted: set[int] = set()
    sizes = [_size(part, modules, counted) for part, modules in groups.items()]
    sizes = [size for size in sizes if size.trained or size.frozen]
    whole = Size("all", sum(size.trained for size in sizes), sum(size.frozen for size in sizes))
    return [*sizes, whole]


def _size(part: str, modules: list[nn.Module], counted: set[int]) -> Size:
    """What the modules hold that is not yet ``counted``."""
    trained = frozen = 0
    for parameter in (parameter for module in modules for parameter in module.parameters()):
        if id(parameter) in counted:
            continue
        counted.add(id(parameter))
        trained += parameter.numel() if parameter.requires_grad else 0
        frozen += 0 if parameter.requires_grad else parameter.numel()
    return Size(part, trained, frozen)
