"""AdamW with the recipe's parameter groups; clips the whole model's gradient inside the step."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

NORM_LAYERS = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
)
POSITION_TABLES = ("relative_position_bias_table", "absolute_pos_embed")  # never decay


class ClippedAdamW(torch.optim.AdamW):
    """AdamW that first clips the gradient of all parameters together.

    A gradient that is not finite changes nothing, neither weights nor moments; this is decided on
    the device, so that the host need not wait. ``grad_norm`` (scalar tensor) is the last step's
    norm before clipping.

    Args:
        clip_norm: the largest norm of the whole gradient; ``None`` leaves it as it is.
        norm_type: of the norm, 2 for Euclidean.
    """

    grad_norm: Tensor | None = None

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        clip_norm: float | None = 0.01,
        norm_type: float = 2.0,
    ) -> None:
        super().__init__(groups, fused=True)
        self.clip_norm, self.norm_type = clip_norm, norm_type

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self.grad_norm = get_total_norm(gradients, self.norm_type)
        if self.clip_norm is not None:
            # one that is not finite is left as it is, so that a report can say where it broke
            known = self.grad_norm.nan_to_num(nan=0.0, posinf=0.0)
            clip_grads_with_norm_(parameters, self.clip_norm, known)
        # the fused kernel reads this and leaves weights and moments as they are where it holds 1
        self.grad_scale, self.found_inf = None, (~self.grad_norm.isfinite()).float()
        return super().step(closure)


def build_optimizer(
    model: nn.Module,
    *,
    base_lr: float = 1e-4,
    weight_decay: float = 0.05,
    weight_decay_norm: float = 0.0,
    weight_decay_embed: float = 0.0,
    backbone_multiplier: float = 0.1,
    clip_norm: float | None = 0.01,
    norm_type: float = 2.0,
) -> ClippedAdamW:
    """The recipe's optimizer over all trainable parameters, in as few groups as they need.

    Norm layers take ``weight_decay_norm``, embedding modules ``weight_decay_embed``, position
    tables no decay; modules with "backbone" in their name learn ``backbone_multiplier`` times as
    fast. Everything else decays, biases and plain parameters too. Every group remembers its
    undecayed rate as ``initial_lr``.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for owner in _owned_parameters(model):
        lr = base_lr * (backbone_multiplier if "backbone" in owner.module_name else 1.0)
        decay = _decay_of(
            owner, default=weight_decay, norm=weight_decay_norm, embed=weight_decay_embed
        )
        groups.setdefault((lr, decay), []).append(owner.parameter)
    return ClippedAdamW(
        [
            {"params": parameters, "lr": lr, "initial_lr": lr, "weight_decay": decay}
            for (lr, decay), parameters in groups.items()
        ],
        clip_norm=clip_norm,
        norm_type=norm_type,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group learns at ``factor`` times its initial rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def moments_by_name(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimizer's memory by ``<kind>/<parameter name>``: independent of the groups."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{kind}/{names[parameter]}": value
        for parameter, memory in optimizer.state.items()
        for kind, value in memory.items()
    }


def load_moments(
    optimizer: torch.optim.Optimizer, model: nn.Module, moments: Mapping[str, Tensor]
) -> None:
    """Takes over what ``moments_by_name`` gave; parameters that it does not name start afresh."""
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for key, value in moments.items():
        kind, _, name = key.partition("/")
        parameter = parameters[name]
        optimizer.state[parameter][kind] = value.to(parameter.device, copy=True)


class _Owned(NamedTuple):
    module_name: str
    module: nn.Module
    parameter_name: str
    parameter: nn.Parameter


def _owned_parameters(model: nn.Module) -> Iterator[_Owned]:
    """Trainable parameters with the module that holds them; a shared one once."""
    seen: set[nn.Parameter] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                yield _Owned(module_name, module, name, parameter)


def _decay_of(owned: _Owned, *, default: float, norm: float, embed: float) -> float:
    if any(table in owned.parameter_name for table in POSITION_TABLES):
        return 0.0
    if isinstance(owned.module, NORM_LAYERS):
        return norm
    return embed if isinstance(owned.module, nn.Embedding) else default
