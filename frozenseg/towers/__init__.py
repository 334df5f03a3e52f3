"""The frozen CLIP and SAM encoders ("towers") and loading them by name."""
