"""Fusion rules: from the logits of proposer and region classifier to class probabilities."""
