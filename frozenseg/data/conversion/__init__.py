"""Annotations of other tools converted to COCO's instance format."""
