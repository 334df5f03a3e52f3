"""Weights that a backbone of MaskFormer starts training from."""

import logging
import re
from collections.abc import Mapping

import timm
from torch import Tensor, nn

from frozenseg.errors import UserError
from frozenseg.io.downloads import MissingFile
from frozenseg.io.files import is_file, user_path
from frozenseg.io.hub import hub_file
from frozenseg.io.text import quoted
from frozenseg.io.weight_files import describe_differences, read_weights

logger = logging.getLogger(__name__)

KEY = "MODEL.BACKBONE.WEIGHTS"
# of a classifier, or computed: no part of the backbone
PASSED_OVER = re.compile(
    r"(head|norm|fc|stem\.fc)\..*|.*\.(relative_position_index|attn_mask|num_batches_tracked)"
)
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
OUTPUT_NORM = re.compile(r"norm\d\..*")  # not in any published classifier


def load_backbone(backbone: nn.Module, source: str) -> None:
    """Loads the weights of an image classifier.

    Swin's output norms, which a classifier does not have, stay as they are.

    Args:
        backbone: ``SwinTransformer`` or ``DeepLabResNet``.
        source: a file with Swin's official names, timm's names, or those of Detectron2's DeepLab
            ResNet; or the name of a Swin of timm, also pinned: ``name@COMMIT``.

    Raises:
        UserError: the file cannot be read, the name is unknown, or the weights do not fit.
    """
    state = backbone_names(_read(source))
    own = backbone.state_dict()
    wanted = {name: own[name] for name in own if name in state or not OUTPUT_NORM.fullmatch(name)}
    differences = describe_differences(wanted, state)
    if differences:
        raise UserError(
            f"{KEY}: {source} does not fit the backbone: {differences}; choose weights of the "
            "configured sizes"
        )
    backbone.load_state_dict(state, strict=False)
    logger.info("%s: %d weights of the backbone", source, len(state))


def backbone_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns weights of a classifier under our names, without its head.

    timm counts the step between two stages as part of the second, Swin's authors and we as part of
    the first.
    """
    kept = {name: value for name, value in state.items() if not PASSED_OVER.fullmatch(name)}
    is_timms = any(name.startswith("layers.3.downsample.") for name in kept)
    return {_before(name) if is_timms else name: value for name, value in kept.items()}


def _before(name: str) -> str:
    found = re.fullmatch(r"layers\.(\d+)\.(downsample\..+)", name)
    return f"layers.{int(found[1]) - 1}.{found[2]}" if found else name


def _read(source: str) -> Mapping[str, Tensor]:
    if is_file(user_path(source)):
        return read_weights(source).tensors
    name, _, revision = source.partition("@")
    repository = _repository(name)
    if repository is None:
        raise UserError(
            f"{KEY} is {quoted(source)}, neither a file nor a Swin of timm: give a path, or a name "
            "like swin_base_patch4_window12_384.ms_in22k"
        )
    try:
        return read_weights(hub_file(repository, HUB_FILES, revision=revision or None)).tensors
    except MissingFile as error:
        raise error.located("", KEY) from error


def _repository(name: str) -> str | None:
    """Returns the repository of a Swin's weights; None for other names."""
    if name.partition(".")[0] not in timm.list_models("swin_*"):
        return None
    try:
        published = timm.get_pretrained_cfg(name)
    except RuntimeError:  # there is no such tag
        return None
    return published and published.hf_hub_id
