"""Checks of configuration values that builders share."""

from frozenseg.config import ConfigError


def check_choice(key: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raises a ``ConfigError`` that names ``key`` unless its value is one of ``allowed``."""
    if value not in allowed:
        choices = " or ".join(repr(choice) for choice in allowed)
        raise ConfigError(f"{key} is {value!r}: set it to {choices}")
