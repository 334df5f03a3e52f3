"""Models as graphs of standard operators, for programs without this package."""
