"""AdamW with the recipe's parameter groups; each step clips the gradient of the whole model."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from frozenseg.errors import UserError
from frozenseg.io.text import quoted

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
POSITION_TABLES = ("relative_position_bias_table", "absolute_pos_embed")  # no weight decay


class NamedParameters(Protocol):
    """A model, as far as its parameters have names."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...


class ClippedAdamW(torch.optim.AdamW):
    """AdamW that first clips the gradient norm over all parameters.

    A gradient that is not finite changes neither weights nor moments; the device decides this, so
    the host does not wait. ``grad_norm`` (scalar tensor) is the norm before clipping in the last
    step.

    Args:
        groups: parameter groups of ``torch.optim.AdamW``.
        clip_norm: maximum norm of the whole gradient; None: no clipping.
        norm_type: 2 for the Euclidean norm.
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
            # a gradient that is not finite stays unchanged, so that the report can locate it
            known = self.grad_norm.nan_to_num(nan=0.0, posinf=0.0)
            clip_grads_with_norm_(parameters, self.clip_norm, known)
        # the fused kernel reads this flag and skips the update if it is 1
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
    """Returns the recipe's optimizer over all trainable parameters, in as few groups as possible.

    Everything decays by ``weight_decay``, biases included, except norm layers, embeddings and
    position tables (no decay). Each group stores its initial rate as ``initial_lr``.

    Args:
        model: its trainable parameters are optimized.
        base_lr: learning rate before the schedule.
        weight_decay: of all other parameters.
        weight_decay_norm: of norm layers.
        weight_decay_embed: of embedding modules.
        backbone_multiplier: factor of the rate of modules with "backbone" in their name.
        clip_norm, norm_type: see ``ClippedAdamW``.
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
    """Sets the rate of every group to ``factor`` times its initial rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def moments_by_name(optimizer: torch.optim.Optimizer, model: NamedParameters) -> dict[str, Tensor]:
    """Returns the optimizer's moments by ``<kind>/<parameter name>``, independent of the groups."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{kind}/{names[parameter]}": value
        for parameter, memory in optimizer.state.items()
        for kind, value in memory.items()
    }


def load_moments(
    optimizer: torch.optim.Optimizer, model: NamedParameters, moments: Mapping[str, Tensor]
) -> None:
    """Restores the moments of ``moments_by_name``; parameters without an entry start at zero.

    Raises:
        UserError: a parameter is unknown, or its moment has another shape.
    """
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for key, value in moments.items():
        kind, _, name = key.partition("/")
        parameter = parameters.get(name)
        if parameter is None or value.shape not in ((), parameter.shape):
            raise UserError(
                f"the checkpoint has an optimizer state {quoted(key)} of shape "
                f"{tuple(value.shape)} that fits no parameter: resume with the configuration of "
                "the run"
            )
        optimizer.state[parameter][kind] = value.to(parameter.device, copy=True)


class _Owned(NamedTuple):
    module_name: str
    module: nn.Module
    parameter_name: str
    parameter: nn.Parameter


def _owned_parameters(model: nn.Module) -> Iterator[_Owned]:
    """Yields trainable parameters with their module; a shared parameter only once."""
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
