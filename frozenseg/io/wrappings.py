"""Containers and name prefixes that training programs put around a model's weights."""

import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)

# keys of a dictionary that hold the weights; the first one present counts
CONTAINERS = ("model", "state_dict", "model_state_dict", "model_state", "module", "weights", "net")
AVERAGED = ("model_ema", "ema_model", "state_dict_ema", "ema_state_dict", "ema", "ema_state")
MAX_CONTAINERS = 8  # one inside the other
# of all names: data parallel, torch.compile, Lightning; in any order
PREFIXES = ("module.", "_orig_mod.", "model.")
AVERAGED_PREFIXES = tuple(f"{name}." for name in AVERAGED)
# anywhere in a name, where only a part of the model was wrapped
INSIDE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
# of the loss and of PyTorch's weight averaging: their names may lack the prefix
BESIDE = ("n_averaged", "criterion.")


def unwrapped(content: Mapping[Any, Any]) -> dict[str, Any]:
    """Returns the dictionary of weights inside containers, without prefixes of wrappers.

    A moving average is used only if the ordinary weights are not in the file.
    """
    return _without_prefixes(_innermost(content))


def _innermost(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    for _ in range(MAX_CONTAINERS):
        known = [n for n in (*CONTAINERS, *AVERAGED) if isinstance(content.get(n), Mapping)]
        found = [name for name in known if content[name]] or known
        if not found:
            break
        if len(found) > 1 or found[0] in AVERAGED:
            logger.warning("the file holds %s: using %s", " and ".join(found), found[0])
        content = content[found[0]]
    return content


def _without_prefixes(state: Mapping[Any, Any]) -> dict[str, Any]:
    names = {name: _without_inner(str(name)) for name in state}
    names = _without_averages(names)
    while prefix := _common_prefix(names.values()):
        names = {name: short.removeprefix(prefix) for name, short in names.items()}
    shortened: dict[str, Any] = {}
    for name, short in names.items():
        if short != "n_averaged":
            shortened[str(name) if short in shortened else short] = state[name]
    return shortened


def _without_inner(name: str) -> str:
    for part in INSIDE:
        name = name.replace(part, "")
    return name


def _without_averages(names: dict[Any, str]) -> dict[Any, str]:
    """Drops a moving average that is stored beside the ordinary weights."""
    ordinary = {
        name: short for name, short in names.items() if not short.startswith(AVERAGED_PREFIXES)
    }
    has_weights = any(not short.startswith(BESIDE) for short in ordinary.values())
    return ordinary if has_weights else names


def _common_prefix(names: Any) -> str | None:
    weights = [name for name in names if not name.startswith(BESIDE)]
    for prefix in (*PREFIXES, *AVERAGED_PREFIXES):
        if weights and all(name.startswith(prefix) for name in weights):
            return prefix
    return None
