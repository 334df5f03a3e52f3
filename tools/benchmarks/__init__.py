"""Measurements of single stages, each beside a baseline."""
