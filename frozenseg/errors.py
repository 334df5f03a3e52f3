"""Mistakes that a user can make and mend: commands print them as one sentence and exit with 2."""


class UserError(ValueError):
    """One sentence: what file or key, what was expected, what came, and the next step."""
