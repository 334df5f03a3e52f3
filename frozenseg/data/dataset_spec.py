"""The record of a data set: where it is, and how it is evaluated."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from frozenseg.data.classes import ClassList, builtin_classes
from frozenseg.data.readers.instances import InstanceFile
from frozenseg.data.readers.label_maps import LabelMaps
from frozenseg.data.readers.panoptic import PanopticFiles
from frozenseg.data.readers.samples import Exif, Task

Scoring = Literal["coco", "cityscapes", "lvis"]
Part = Literal["images", "panoptic", "semantic", "instances"]


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A split of a data set, built in or from a file: where it is, and how it is evaluated.

    Paths are below the data root if they are not absolute.

    Args:
        name: official FrozenSeg's registered name, or the user's.
        title: for people.
        vocabulary: the built-in class list, or "" where ``classes`` are given.
        classes: of own data; None: those of ``vocabulary``.
        unseen: names of the classes that count as unseen and are not trained on; None: those that
            the training data lacks.
        images: path of one image, with ``{}`` for its name.
        panoptic, semantic, instances: the annotations that there are.
        instance_ids: path of one map of Cityscapes' object numbers, with ``{}`` for the stem.
        covered_stuff: areas of stuff segments are pixel counts of the semantic label maps, because
            the official annotation counts pixels that objects cover (ADE20K).
        tasks: what is evaluated. Annotations that a task lacks are made from the others.
        scoring: whose rules instances are scored by; Cityscapes scores label maps its own way too.
        num_images: known total; None: unknown.
        short_side, long_side: of the image at test, pixels; None: the configuration's.
        object_threshold: least score of a panoptic segment.
        trained_on_things: seen classes are those of COCO's things alone, as official evaluation has
            it where a data set registers no stuff.
        exif: see ``ImageList``.
        source: the data set file of own data.
        page: where to get it.
        image_page: where to get the images, if elsewhere.
        prepare: the command that makes what the download lacks.
        prepared: what it makes.
    """

    name: str
    title: str
    vocabulary: str = ""
    classes: ClassList | None = None
    unseen: tuple[str, ...] | None = None
    images: str
    panoptic: PanopticFiles | None = None
    semantic: LabelMaps | None = None
    instances: InstanceFile | None = None
    instance_ids: str | None = None
    covered_stuff: bool = False
    tasks: tuple[Task, ...]
    scoring: Scoring = "coco"
    num_images: int | None = None
    short_side: int | None = 800
    long_side: int | None = 1333
    object_threshold: float = 0.0
    trained_on_things: bool = False
    exif: Exif = "apply"
    source: Path | None = None
    page: str = ""
    image_page: str | None = None
    prepare: str | None = None
    prepared: tuple[Part, ...] = ()

    @property
    def class_list(self) -> ClassList:
        """The classes in order."""
        return builtin_classes(self.vocabulary) if self.classes is None else self.classes

    @property
    def ignore_label(self) -> int:
        """The label of unlabelled pixels in samples."""
        if self.semantic is not None:
            return self.semantic.ignore_label
        return 255 if len(self.class_list) <= 255 else 65535

    @property
    def is_seen(self) -> tuple[bool, ...]:
        """True for each class that ``unseen`` does not list."""
        return tuple(name not in (self.unseen or ()) for name in self.class_list.names)
