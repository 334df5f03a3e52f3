"""Parameter counts of a model, part by part."""

from typing import NamedTuple, cast

from torch import nn

from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.modeling.maskformer.maskformer import MaskFormer
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.towers.clip import ClipModel, ClipTower
from frozenseg.towers.map_crops import MapCrops

Groups = dict[str, list[nn.Module]]
CLIP_IMAGES = "CLIP image encoder"
TITLES = {"region_classifier.adapter.": "mask adapter", "text_transfer.network.": "text transfer"}


class Size(NamedTuple):
    """Parameters of one part of a model; what is shared counts once, where it comes first."""

    part: str
    trained: int
    frozen: int
    stored: int = 0  # trained before, and read from the file of weights


def summarize(
    model: FrozenSeg | SegmentationModel, *, clip_from_weights: bool = False
) -> list[Size]:
    """Returns the sizes of all parts, the whole model's last.

    The text encoder is told apart from CLIP's image encoder: it runs once per vocabulary, and the
    paper's counts leave it out (Table 6).

    Args:
        model: FrozenSeg's proposer, which holds all parts of the system, or any system.
        clip_from_weights: the region classifier's image encoder was trained; its file has it.
    """
    counted: set[int] = set()
    groups = _groups_of(model) if isinstance(model, FrozenSeg) else _groups_of_system(model)
    sizes = [_size(part, modules, counted) for part, modules in groups.items()]
    if clip_from_weights:
        sizes = [_from_weights(size) for size in sizes]
    sizes = [size for size in sizes if size.trained or size.frozen or size.stored]
    return [*sizes, Size("all", *(sum(column) for column in list(zip(*sizes, strict=True))[1:]))]


def _from_weights(size: Size) -> Size:
    if not size.part.startswith(CLIP_IMAGES):
        return size
    return Size(size.part, size.trained, 0, size.frozen)


def _groups_of_system(model: SegmentationModel) -> Groups:
    own = "" if model.region_text_encoder is None else " of regions"
    clip = getattr(model.region_classifier, "clip", None)
    clip = clip.tower if isinstance(clip, MapCrops) else clip
    groups = _groups_of_proposer(model)
    if isinstance(clip, ClipModel):
        prompts = getattr(clip, "mask_prompts", None)
        groups |= {
            f"{CLIP_IMAGES}{own}": [clip.model.visual],
            "mask prompts": [] if prompts is None else [nn.ParameterList([prompts])],
            f"CLIP text encoder{own}": [clip],
        }
    members = {TITLES.get(prefix, prefix): [m] for prefix, m in model.trained_members.items()}
    return {**groups, **members, "CLIP of the proposer": [model]}


def _groups_of_proposer(model: SegmentationModel) -> Groups:
    proposer = model.proposer
    if isinstance(proposer, FrozenSeg):
        return _groups_of(proposer)
    if isinstance(proposer, MaskFormer):
        return {
            "backbone": [cast(nn.Module, proposer.backbone)],
            "pixel decoder": [proposer.pixel_decoder],
            "transformer decoder": [proposer.transformer_decoder],
            "no-object embedding": [proposer],
        }
    return {"proposer": [cast(nn.Module, proposer)]}


def _groups_of(model: FrozenSeg) -> Groups:
    clip = model.backbone
    assert isinstance(clip, ClipTower), "the backbone of the published models is CLIP's"
    return {
        CLIP_IMAGES: [clip.model.visual],
        "CLIP text encoder": [clip],
        "SAM image encoder": [] if model.sam is None else [model.sam.model.image_encoder],
        "SAM prompts and masks": [] if model.sam is None else [model.sam],
        "pixel decoder": [model.pixel_decoder],
        "transformer decoder": [model.transformer_decoder],
        "void embedding and scale": [model],
    }


def _size(part: str, modules: list[nn.Module], counted: set[int]) -> Size:
    """Returns the parameters of the modules that are not yet in ``counted``."""
    trained = frozen = 0
    for parameter in (parameter for module in modules for parameter in module.parameters()):
        if id(parameter) in counted:
            continue
        counted.add(id(parameter))
        trained += parameter.numel() if parameter.requires_grad else 0
        frozen += 0 if parameter.requires_grad else parameter.numel()
    return Size(part, trained, frozen)
