"""Mistakes that a user can make and mend; the command line prints them as one sentence and exits with 2."""


class UserError(ValueError):
    """One sentence: what file or key, what was expected, what came, and the next step."""
