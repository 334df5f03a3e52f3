"""COCO: semantic label maps from the panoptic annotation.

    python datasets/prepare_coco.py

``frozenseg datasets prepare coco`` does the same.
"""

import sys

from frozenseg.data.preparation.coco import main

if __name__ == "__main__":
    sys.exit(main())
