"""One set of keys and defaults for both engines."""

from detectron2.config import CfgNode, get_cfg
from fvcore.common.config import CfgNode as PlainNode

from frozenseg.config import check_config, default_config
from frozenseg.detectron2.weights import PREFIX
from frozenseg.runtime.devices import choose_device


def add_frozenseg_config(cfg: CfgNode) -> None:
    """Adds this project's keys to Detectron2's; shared keys take this project's default."""
    _take_over(cfg, default_config())
    _resolve_device(cfg)


def detectron2_config(cfg: PlainNode) -> CfgNode:
    """Returns a configuration of ``frozenseg.config.load_config`` with Detectron2's keys, frozen.

    ``load_config`` is better than Detectron2's ``merge_from_file``: it suggests the nearest known
    key, and ``MODEL.WEIGHTS`` may have any format (see ``WeightsHandler``).
    """
    complete = get_cfg()
    _take_over(complete, cfg)
    _resolve_device(complete)
    weights = cfg.MODEL.WEIGHTS
    if weights and not weights.startswith(PREFIX) and "://" not in weights:
        complete.MODEL.WEIGHTS = PREFIX + weights
    complete.freeze()
    return complete


def check_part_names(cfg: CfgNode) -> None:
    """Checks all values, names of parts included: official files name parts of other models.

    Raises:
        ConfigError: a value that is not allowed; the key is named.
    """
    check_config(cfg)


def _take_over(cfg: CfgNode, values: PlainNode) -> None:
    for key, value in values.items():
        if not isinstance(value, PlainNode):
            cfg[key] = value
            continue
        if key not in cfg:
            cfg[key] = CfgNode()
        _take_over(cfg[key], value)


def _resolve_device(cfg: CfgNode) -> None:
    """Replaces "auto", which PyTorch does not know."""
    cfg.MODEL.DEVICE = str(choose_device(cfg.MODEL.DEVICE))
