"""ADE20K (150 classes): semantic, instance and panoptic annotation for evaluation.

    python datasets/prepare_ade20k.py

``frozenseg datasets prepare ade20k`` does the same.
"""

import sys

from frozenseg.data.preparation.ade20k import main

if __name__ == "__main__":
    sys.exit(main())
