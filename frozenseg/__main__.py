"""``python -m frozenseg``: the ``frozenseg`` command."""

from frozenseg.cli.main import main

main()
