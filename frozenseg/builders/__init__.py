"""Turns a configuration into objects.

Nothing outside this folder and ``cli/`` reads configuration keys.
"""

from frozenseg.runtime.light_imports import import_without_compiler

import_without_compiler("open_clip", "segment_anything")  # before any module imports them itself
