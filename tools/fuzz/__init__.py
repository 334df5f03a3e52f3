"""Random and hostile input for every entry point: ``python -m tools.fuzz --help``."""
