"""PASCAL-Context: label maps of 59 and of 459 classes.

    python datasets/prepare_pascal_context.py

``frozenseg datasets prepare pascal_context`` does the same.
"""

import sys

from frozenseg.data.preparation.pascal_context import main

if __name__ == "__main__":
    sys.exit(main())
