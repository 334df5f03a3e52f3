"""Turns a configuration into objects.

Nothing outside this folder and ``cli/`` reads configuration keys.
"""
