"""Weights in and out: published towers by name, official checkpoints, our own files."""
