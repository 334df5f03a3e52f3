"""Proposers: from an image to masks and, where they have a classifier, class logits."""
