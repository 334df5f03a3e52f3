"""Libraries that only one feature needs: the package's extras, imported on demand."""

from importlib import import_module
from types import ModuleType

from frozenseg.errors import UserError


def require(name: str, *, extra: str, purpose: str) -> ModuleType:
    """Imports a library of an extra.

    Args:
        name: of the module, which is also the name of its package.
        extra: of this package.
        purpose: the feature that needs it, for the message.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UserError(
            f"{purpose} needs the package {name}, which is not installed: "
            f"pip install 'frozenseg[{extra}]'"
        ) from error
