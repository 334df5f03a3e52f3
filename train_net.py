#!/usr/bin/env python
"""Train or evaluate FrozenSeg from a YAML file, with or without Detectron2.

python train_net.py --config-file configs/shapes/frozenseg.yaml
python train_net.py --config-file configs/shapes/frozenseg.yaml --eval-only MODEL.WEIGHTS FILE
python train_net.py --help
"""

import sys

from frozenseg.runtime.signals import exit_on_signal

if __name__ == "__main__":
    with exit_on_signal():
        from frozenseg.cli.train_net import main  # takes seconds

        sys.exit(main())
