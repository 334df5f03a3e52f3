"""From a name to samples: readers are opened, and what is missing is reported."""

from collections.abc import Collection
from pathlib import Path

from frozenseg.data.pillow import image_endings
from frozenseg.data.readers.instances import InstanceReader
from frozenseg.data.readers.label_maps import LabelMapReader
from frozenseg.data.readers.panoptic import PanopticReader
from frozenseg.data.readers.samples import DatasetSamples, ImageList, Readers
from frozenseg.data.registry import dataset_spec
from frozenseg.data.specs import DatasetSpec, Task, data_root
from frozenseg.errors import UserError
from frozenseg.io.paths import listed_files


def open_dataset(
    name: str,
    *,
    root: Path | None = None,
    tasks: Collection[Task] | None = None,
    skip_bad: bool = False,
) -> DatasetSamples:
    """The samples of a data set, in the order of its own lists.

    Args:
        name: a registered name, or a data set file.
        root: the folder of all data sets; None: ``$DETECTRON2_DATASETS``, or ``datasets``.
        tasks: only annotations of these are read and must exist; None: all that are evaluated.
        skip_bad: leave out entries with a fault, and images of which a file is missing; they are
            listed in ``skipped``.

    Raises:
        UserError: the name is unknown, or files are missing or broken.
    """
    spec, root = dataset_spec(name), data_root() if root is None else root
    tasks = spec.tasks if tasks is None else tasks
    panoptic = panoptic_reader(spec, root, collect=skip_bad)
    needs_objects = "instance" in tasks or panoptic is None
    instances = instance_reader(spec, root, collect=skip_bad) if needs_objects else None
    return assemble(
        spec, root, panoptic=panoptic, instances=instances, tasks=tasks, skip_bad=skip_bad
    )


def assemble(
    spec: DatasetSpec,
    root: Path,
    *,
    panoptic: PanopticReader | None,
    instances: InstanceReader | None,
    tasks: Collection[Task],
    skip_bad: bool,
) -> DatasetSamples:
    """Samples from open readers; the first of them lists the images.

    Args:
        spec: the data set.
        root: the folder of all data sets.
        panoptic, instances: None if there is no such annotation, or it is not wanted.
        tasks: whose annotations a sample must have.
        skip_bad: leave out images of which a file is missing.

    Raises:
        UserError: files are missing.
    """
    wants_map = (
        "panoptic" in tasks
        or ("instance" in tasks and spec.instances is None)
        or ("semantic" in tasks and spec.scoring == "cityscapes")  # its objects, for iIoU
        or ("semantic" in tasks and spec.semantic is None)
    )
    wants_labels = "semantic" in tasks or ("panoptic" in tasks and panoptic is None)
    labels = semantic_reader(spec, root)
    readers = Readers(
        panoptic=panoptic if wants_map else None,
        semantic=labels if wants_labels else None,
        instances=instances if tasks else None,
        instance_ids=spec.instance_ids if "instance" in tasks else None,
        covered_stuff=labels if spec.covered_stuff and wants_map else None,
    )
    return DatasetSamples(
        root=root,
        images=_image_list(spec, root, instances if panoptic is None else panoptic),
        readers=readers,
        wanted=tasks,
        is_thing=spec.class_list.vocabulary.is_thing,
        ignore_label=spec.ignore_label,
        skip_bad=skip_bad,
    )


def panoptic_reader(
    spec: DatasetSpec, root: Path, *, collect: bool = False
) -> PanopticReader | None:
    if spec.panoptic is None:
        return None
    return PanopticReader(spec.panoptic, root=root, classes=spec.class_list, collect=collect)


def semantic_reader(spec: DatasetSpec, root: Path) -> LabelMapReader | None:
    if spec.semantic is None:
        return None
    return LabelMapReader(spec.semantic, root=root, class_ids=spec.class_list.class_ids())


def instance_reader(
    spec: DatasetSpec, root: Path, *, collect: bool = False
) -> InstanceReader | None:
    if spec.instances is None:
        return None
    return InstanceReader(spec.instances, root=root, classes=spec.class_list, collect=collect)


def listed_names(spec: DatasetSpec, root: Path) -> list[str]:
    """The name of every image, sorted, of a data set that comes without a list of images.

    Names are stems that have an image or a label map, or, where the image path ends in the braces,
    image files with their endings.

    Raises:
        UserError: there is none.
    """
    if spec.images.endswith("{}"):
        return _image_names(root / spec.images[: -len("/{}")])
    paths = [spec.images] if spec.semantic is None else [spec.images, spec.semantic.path]
    stems = set().union(*(stems_below(root, path) for path in paths))
    if not stems:
        made = f", then run: {spec.prepare}" if spec.prepare else ""
        page = f": get it from {spec.page}{made}" if spec.page else ": check the data set file"
        raise UserError(f"no file like {root / paths[-1].replace('{}', '*')}{page}")
    return sorted(stems)


def stems_below(root: Path, path: str) -> set[str]:
    """Returns the values of ``{}`` in existing files of one folder; temporary files are ignored."""
    before, after = path.split("{}")
    folder, _, start = before.rpartition("/")
    base = root / folder
    return {
        str(file.relative_to(base)).removeprefix(start).removesuffix(after)
        for file in listed_files(base, f"{start}*{after}")
    }


def _image_list(
    spec: DatasetSpec, root: Path, index: PanopticReader | InstanceReader | None
) -> ImageList:
    names = listed_names(spec, root) if index is None else index.stems
    stems = names
    if spec.images.endswith("{}"):  # names have their endings
        stems = [str(Path(name).with_suffix("")) for name in names]
    if index is None and len(set(stems)) < len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise UserError(f"two images are called {twice} in {root / spec.images}: rename one")
    ids = stems if index is None else index.image_ids
    return ImageList(path=spec.images, ids=ids, names=names, stems=stems, exif=spec.exif)


def _image_names(folder: Path) -> list[str]:
    files = listed_files(folder, "**/*")
    names = [
        path.relative_to(folder).as_posix()
        for path in files
        if path.suffix.lower() in image_endings()
    ]
    if not names:
        raise UserError(f"no image in {folder}: check 'images' of the data set file")
    return names
