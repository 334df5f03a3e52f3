"""Validation of annotation files: every value is checked before it is used."""
