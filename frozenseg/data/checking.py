"""Whether a data set is on disk as it should be, and what to do where it is not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from frozenseg.data.datasets import assemble, instance_reader, panoptic_reader
from frozenseg.data.readers.files import missing_files
from frozenseg.data.readers.instances import InstanceReader
from frozenseg.data.readers.panoptic import PanopticReader
from frozenseg.data.specs import DatasetSpec, Part, data_root, dataset_spec
from frozenseg.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """How many files or entries of one kind there are."""

    what: str
    path: Path
    found: int
    expected: int
    advice: str = ""  # empty where nothing is to be done

    @property
    def ok(self) -> bool:
        return self.found == self.expected


@dataclass(frozen=True)
class DatasetCheck:
    """The state of a data set on disk.

    Args:
        problem: why a sample could not be read; empty if one could.
    """

    spec: DatasetSpec
    findings: tuple[Finding, ...]
    problem: str

    @property
    def ok(self) -> bool:
        return not self.problem and all(finding.ok for finding in self.findings)


def check_dataset(name: str, *, root: Path | None = None) -> DatasetCheck:
    """Counts pictures and annotations against the known totals, and reads a sample from the middle.

    Raises:
        UserError: no data set has this name. What is missing is in the result instead.
    """
    spec, root = dataset_spec(name), data_root() if root is None else root
    panoptic, panoptic_problem = _try(panoptic_reader, spec, root)
    instances, instance_problem = _try(instance_reader, spec, root)
    index = panoptic or instances
    findings = [_images(spec, root, index.stems if index else None)]
    if spec.panoptic is not None:
        entries = len(panoptic) if panoptic else 0
        maps = len(list((root / spec.panoptic.maps).glob("*.png")))
        findings += [
            _finding(spec, "panoptic", "panoptic entries", root / spec.panoptic.json, entries),
            _finding(spec, "panoptic", "segment maps", root / spec.panoptic.maps, maps),
        ]
    if spec.semantic is not None:
        labels = len(_matching(root, spec.semantic.path))
        path = _folder(root, spec.semantic.path)
        findings.append(_finding(spec, "semantic", "label maps", path, labels))
    if spec.instances is not None:
        entries = len(instances) if instances else 0
        path = root / spec.instances.json
        findings.append(_finding(spec, "instances", "instance entries", path, entries))
    if spec.instance_ids is not None:
        objects, path = _matching(root, spec.instance_ids), _folder(root, spec.instance_ids)
        findings.append(_finding(spec, "instances", "object maps", path, len(objects)))
    problem = panoptic_problem or instance_problem
    return DatasetCheck(
        spec, tuple(findings), problem or _sample_problem(spec, root, panoptic, instances)
    )


def is_present(spec: DatasetSpec, *, root: Path | None = None) -> bool:
    """Whether all folders and files of a data set exist; nothing is opened or counted."""
    root = data_root() if root is None else root
    places = [_folder(root, spec.images)]
    if spec.panoptic is not None:
        places += [root / spec.panoptic.json, root / spec.panoptic.maps]
    if spec.semantic is not None:
        places.append(_folder(root, spec.semantic.path))
    if spec.instances is not None:
        places.append(root / spec.instances.json)
    return all(place.exists() for place in places)


def _try(
    open_reader: Callable[[DatasetSpec, Path], T], spec: DatasetSpec, root: Path
) -> tuple[T | None, str]:
    try:
        return open_reader(spec, root), ""
    except UserError as error:
        return None, str(error)


def _images(spec: DatasetSpec, root: Path, stems: Sequence[str] | None) -> Finding:
    if stems is None:
        found = len(_matching(root, spec.images))
    else:
        found = len(stems) - len(missing_files(root / spec.images.format(stem) for stem in stems))
    return _finding(spec, "images", "pictures", _folder(root, spec.images), found)


def _finding(spec: DatasetSpec, part: Part, what: str, path: Path, found: int) -> Finding:
    page = spec.image_page if part == "images" and spec.image_page else spec.page
    advice = f"get them from {page}"
    if part in spec.prepared:
        advice = f"run `{spec.prepare}`, which reads what {page} has"
    if found == spec.num_images:
        advice = ""
    return Finding(what, path, found, spec.num_images, advice)


def _sample_problem(
    spec: DatasetSpec,
    root: Path,
    panoptic: PanopticReader | None,
    instances: InstanceReader | None,
) -> str:
    try:
        samples = assemble(
            spec, root, panoptic=panoptic, instances=instances, tasks=spec.tasks, skip_bad=True
        )
        samples[len(samples) // 2]
    except UserError as error:
        return str(error)
    return ""


def _matching(root: Path, path: str) -> list[Path]:
    """Existing files where ``{}`` stands for a name, or for a name in a folder."""
    before, after = path.split("{}")
    return [*root.glob(f"{before}*{after}"), *root.glob(f"{before}*/*{after}")]


def _folder(root: Path, path: str) -> Path:
    return root / path.split("{}")[0].rpartition("/")[0]
