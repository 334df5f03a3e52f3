"""PASCAL VOC 2012: label maps with and without a background class.

    python datasets/prepare_pascal_voc.py

``frozenseg datasets prepare pascal_voc`` does the same.
"""

import sys

from frozenseg.data.preparation.pascal_voc import main

if __name__ == "__main__":
    sys.exit(main())
