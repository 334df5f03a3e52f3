"""What a registered data set's name stands for: its vocabulary."""

from frozenseg.config import ConfigError
from frozenseg.data.shapes import shapes_vocabulary
from frozenseg.vocabulary.vocabulary import Vocabulary, builtin_vocabulary

SHAPES = {"shapes_train": "train", "shapes_val": "val"}
BUILTIN = {
    "coco_2017_train_panoptic": "coco_panoptic",
    "openvocab_coco_2017_train_panoptic_with_sem_seg": "coco_panoptic",
}


def dataset_vocabulary(name: str) -> Vocabulary:
    """The classes of a registered data set."""
    if name in SHAPES:
        return shapes_vocabulary(SHAPES[name])
    if name in BUILTIN:
        return builtin_vocabulary(BUILTIN[name])
    known = ", ".join((*SHAPES, *BUILTIN))
    raise ConfigError(f"no data set is registered as {name}: choose one of {known}")
