"""Building a model whose weights are loaded next, without drawing random ones first."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode


def initialized(wanted: bool) -> AbstractContextManager:
    """Returns a context in which modules draw their parameters, or leave the memory unwritten.

    Drawing the 351 M weights of a CLIP takes longer than reading them. The system provides memory
    when it is first written, so unwritten parameters cost nothing; load all of them afterwards.
    Buffers get their values in both cases: some are in no file of weights.
    """
    return nullcontext() if wanted else _Uninitialized()


class _Uninitialized(TorchFunctionMode):
    """Skips every operator that writes to a parameter."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        changed = args[0] if args else next(iter(kwargs.values()), None)
        name = getattr(func, "__name__", "")
        if isinstance(changed, nn.Parameter) and _is_in_place(name):
            return changed
        return func(*args, **kwargs)


def _is_in_place(name: str) -> bool:
    """Returns True for ``normal_`` and its like, not for ``__get__``."""
    return name.endswith("_") and not name.endswith("__")
