#!/usr/bin/env python
"""Trains or evaluates FrozenSeg from a YAML file, on Detectron2 or without it.

python train_net.py --config-file configs/shapes/frozenseg.yaml
python train_net.py --config-file configs/shapes/frozenseg.yaml --eval-only MODEL.WEIGHTS FILE
python train_net.py --help
"""

import sys

from frozenseg.engine.stop import leaving_on_request

if __name__ == "__main__":
    with leaving_on_request():
        from frozenseg.engine.command import main  # takes seconds

        sys.exit(main())
