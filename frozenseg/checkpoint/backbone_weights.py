"""Weights that a backbone of MaskFormer starts training from."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import timm
from torch import Tensor, nn

from frozenseg.errors import UserError
from frozenseg.io.weight_files import describe_differences, read_weights

logger = logging.getLogger(__name__)

KEY = "MODEL.BACKBONE.WEIGHTS"
# of a classifier, or computed: no part of the backbone
PASSED_OVER = re.compile(
    r"(head|norm|fc|stem\.fc)\..*|.*\.(relative_position_index|attn_mask|num_batches_tracked)"
)
OUTPUT_NORM = re.compile(r"norm\d\..*")  # not in any published classifier


def load_backbone(backbone: nn.Module, source: str) -> None:
    """Loads the weights of an image classifier.

    Swin's output norms, which a classifier does not have, stay as they are.

    Args:
        backbone: ``SwinTransformer`` or ``DeepLabResNet``.
        source: a file with Swin's official names, timm's names, or those of Detectron2's DeepLab
            ResNet; or the name of a Swin that timm downloads.

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
    if Path(source).expanduser().is_file():
        return read_weights(source).tensors
    if source.partition(".")[0] not in timm.list_models("swin_*"):
        raise UserError(
            f"{KEY} is {source[:200]!r}, neither a file nor a Swin of timm: give a path, or a name "
            "like swin_base_patch4_window12_384.ms_in22k"
        )
    try:
        return timm.create_model(source, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(
            f"{KEY}: timm could not get {source} ({reason}): check the connection or give a file"
        ) from error
