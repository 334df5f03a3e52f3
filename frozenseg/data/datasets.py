"""From a registered name to samples, and what stands in the way."""

from collections.abc import Collection
from pathlib import Path

from frozenseg.data.readers.instances import InstanceReader
from frozenseg.data.readers.label_maps import LabelMapReader
from frozenseg.data.readers.panoptic import PanopticReader
from frozenseg.data.readers.samples import DatasetSamples
from frozenseg.data.specs import DatasetSpec, Task, data_root, dataset_spec
from frozenseg.errors import UserError
from frozenseg.vocabulary.class_tables import class_table
from frozenseg.vocabulary.vocabulary import builtin_vocabulary


def open_dataset(
    name: str,
    *,
    root: Path | None = None,
    tasks: Collection[Task] | None = None,
    skip_bad: bool = False,
) -> DatasetSamples:
    """The samples of a registered data set, in the order of its own lists.

    Args:
        root: the folder of all data sets; None: ``$DETECTRON2_DATASETS``, or ``datasets``.
        tasks: annotations of these alone are read and must be there; None: all that are evaluated.
        skip_bad: leave out images of which a file is missing; they are listed in ``skipped``.

    Raises:
        UserError: the name is unknown, or files are missing or broken.
    """
    spec, root = dataset_spec(name), data_root() if root is None else root
    tasks = spec.tasks if tasks is None else tasks
    panoptic = panoptic_reader(spec, root)
    instances = instance_reader(spec, root) if "instance" in tasks else None
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
    """Samples from readers that are open: the first one there is says which images there are."""
    index = panoptic or instances
    ids, stems = (index.image_ids, index.stems) if index else (listed_stems(spec, root),) * 2
    wants_map = (
        "panoptic" in tasks
        or ("instance" in tasks and spec.instances is None)
        or ("semantic" in tasks and spec.scoring == "cityscapes")  # its objects, for iIoU
    )
    return DatasetSamples(
        root=root,
        images=spec.images,
        ids=ids,
        stems=stems,
        panoptic=panoptic if wants_map else None,
        semantic=semantic_reader(spec, root) if "semantic" in tasks else None,
        instances=instances,
        instance_ids=spec.instance_ids if "instance" in tasks else None,
        skip_bad=skip_bad,
    )


def panoptic_reader(spec: DatasetSpec, root: Path) -> PanopticReader | None:
    if spec.panoptic is None:
        return None
    vocabulary = builtin_vocabulary(spec.vocabulary)
    class_ids = _class_ids(spec, contiguous=spec.panoptic.contiguous)
    return PanopticReader(
        spec.panoptic, root=root, class_ids=class_ids, is_thing=vocabulary.is_thing
    )


def semantic_reader(spec: DatasetSpec, root: Path) -> LabelMapReader | None:
    if spec.semantic is None:
        return None
    return LabelMapReader(spec.semantic, root=root, class_ids=_class_ids(spec))


def instance_reader(spec: DatasetSpec, root: Path) -> InstanceReader | None:
    if spec.instances is None:
        return None
    class_ids = _class_ids(spec, contiguous=spec.instances.contiguous)
    return InstanceReader(spec.instances, root=root, class_ids=class_ids)


def listed_stems(spec: DatasetSpec, root: Path) -> list[str]:
    """Every stem that has a picture or a label map, sorted: for data sets that come without a list.

    Raises:
        UserError: there is none.
    """
    paths = [spec.images] if spec.semantic is None else [spec.images, spec.semantic.path]
    stems = set().union(*(stems_below(root, path) for path in paths))
    if not stems:
        made = f", then run: {spec.prepare}" if spec.prepare else ""
        raise UserError(
            f"no file like {root / paths[-1].format('*')}: get it from {spec.page}{made}"
        )
    return sorted(stems)


def stems_below(root: Path, path: str) -> set[str]:
    """What ``{}`` stands for in the existing files of one folder."""
    before, after = path.split("{}")
    return {
        str(file.relative_to(root)).removeprefix(before).removesuffix(after)
        for file in root.glob(f"{before}*{after}")
    }


def _class_ids(spec: DatasetSpec, *, contiguous: bool = False) -> dict[int, int]:
    rows = class_table(spec.vocabulary)
    return {index if contiguous else row.dataset_id: index for index, row in enumerate(rows)}
