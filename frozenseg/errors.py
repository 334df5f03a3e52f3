"""Errors that a user can cause and fix: commands print one sentence and exit with status 2."""


class UserError(ValueError):
    """One sentence: the file or key, what was expected, what was found, and the next step."""


class ConfigError(UserError):
    """An unknown key, a value that is not allowed, or a configuration file that is not readable."""
