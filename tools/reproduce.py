"""Measures a table of the paper and prints it beside the paper's values.

    python tools/reproduce.py table4 --world shapes

``frozenseg reproduce`` does the same.
"""

import sys

from frozenseg.cli.main import app

if __name__ == "__main__":
    app(["reproduce", *sys.argv[1:]], prog_name="frozenseg")
