"""Checks of configuration values."""

from collections.abc import Collection

from frozenseg.errors import ConfigError
from frozenseg.io.text import quoted


def expect(key: str, value: object, allowed: Collection[object]) -> None:
    """Refuses a value that is not among the allowed ones.

    Raises:
        ConfigError: the key, the value and the allowed values are named.
    """
    if value not in allowed:
        choices = " or ".join(str(choice) for choice in allowed)
        raise ConfigError(f"{key} is {quoted(value)}: set it to {choices}")
