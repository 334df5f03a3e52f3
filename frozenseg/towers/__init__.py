"""The frozen CLIP and SAM encoders ("towers") and loading them by name."""

from frozenseg.runtime.light_imports import import_without_compiler

import_without_compiler("open_clip", "segment_anything")  # before any module of this folder does
