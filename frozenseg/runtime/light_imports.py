"""Imports of other libraries without torch's compiler, which this package seldom runs."""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

_COMPILER, _UTILS = "torch._dynamo", "torch._dynamo.utils"


def import_without_compiler(*names: str) -> None:
    """Imports modules, but not ``torch._dynamo``, although they import it themselves.

    torchvision and timm import it to decorate a few functions, which takes about 2 seconds of a
    cold start. Meanwhile placeholders answer the two calls that are made at import; any other
    access loads the real module. Afterwards ``torch.compile`` finds the real compiler as usual.
    """
    if _COMPILER not in sys.modules:
        sys.modules[_COMPILER] = _Placeholder(_COMPILER, disable=_undecorated)
        sys.modules[_UTILS] = _Placeholder(_UTILS, is_compile_supported=_is_compile_supported)
    try:
        for name in names:
            import_module(name)
    finally:
        _remove_placeholders()


class _Placeholder(ModuleType):
    def __init__(self, name: str, **known: Callable[..., Any]) -> None:
        super().__init__(name)
        self.__dict__.update(known)

    def __getattr__(self, attribute: str) -> Any:
        imports_submodule = attribute == "__path__" and self.__name__ == _COMPILER
        if attribute.startswith("__") and not imports_submodule:  # ``inspect`` asks every module
            raise AttributeError(attribute)
        _remove_placeholders()
        return getattr(import_module(self.__name__), attribute)


def _remove_placeholders() -> None:
    for name in (_COMPILER, _UTILS):
        if isinstance(sys.modules.get(name), _Placeholder):
            del sys.modules[name]


def _undecorated(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
    """Replaces ``torch._dynamo.disable``, which keeps a function from being compiled."""
    return (lambda decorated: decorated) if function is None else function


def _is_compile_supported(device_type: str) -> bool:
    return import_module(_UTILS).is_compile_supported(device_type)
