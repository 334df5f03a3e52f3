"""ADE20K (847 classes): images of at most 512 pixels on the short side, and their label maps.

    python datasets/prepare_ade20k_full.py

``frozenseg datasets prepare ade20k_full`` does the same.
"""

import sys

from frozenseg.data.preparation.ade20k_full import main

if __name__ == "__main__":
    sys.exit(main())
