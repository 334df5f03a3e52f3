"""Reports if a data set on disk is complete and sound, and how to get what is missing."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from frozenseg.data.datasets import assemble, instance_reader, panoptic_reader
from frozenseg.data.readers.files import missing_files
from frozenseg.data.readers.instances import InstanceFile, InstanceReader
from frozenseg.data.readers.label_maps import filled
from frozenseg.data.readers.panoptic import PanopticFiles, PanopticReader
from frozenseg.data.registry import dataset_spec
from frozenseg.data.specs import DatasetSpec, Part, data_root
from frozenseg.errors import UserError
from frozenseg.io.files import is_file, is_folder
from frozenseg.io.paths import listed_files

T = TypeVar("T")
Track = Callable[[Sequence[int]], Iterable[int]]


@dataclass(frozen=True)
class Finding:
    """The number of files or entries of one kind."""

    what: str
    path: Path
    found: int
    expected: int
    advice: str = ""  # empty if all are there

    @property
    def ok(self) -> bool:
        return self.found == self.expected


@dataclass(frozen=True)
class DatasetCheck:
    """The state of a data set on disk.

    Args:
        spec: the data set.
        findings: counts of files and entries.
        problems: all faults of the annotation files, and of the samples that were read; a sentence
            each.
        num_read: the number of samples that were read.
    """

    spec: DatasetSpec
    findings: tuple[Finding, ...]
    problems: tuple[str, ...]
    num_read: int

    @property
    def problem(self) -> str:
        """The first problem; empty if there is none."""
        return next(iter(self.problems), "")

    @property
    def ok(self) -> bool:
        return not self.problems and all(finding.ok for finding in self.findings)


def check_dataset(
    name: str, *, root: Path | None = None, every: bool | None = None, track: Track = iter
) -> DatasetCheck:
    """Counts images and annotations, checks every entry, and reads samples.

    Args:
        name: a registered name, or a data set file.
        root: the folder of all data sets; None: the default.
        every: read all samples; False: only the middle one; None: all of own data.
        track: wraps the indices of the samples, to show progress.

    Raises:
        UserError: no data set has this name, or its data set file is wrong. Everything else that is
            missing or wrong is in the result.
    """
    spec, root = dataset_spec(name), data_root() if root is None else root
    panoptic, panoptic_problems = _try(panoptic_reader, spec.panoptic, spec, root)
    instances, instance_problems = _try(instance_reader, spec.instances, spec, root)
    every = spec.source is not None if every is None else every
    problems = [*panoptic_problems, *instance_problems]
    num_read = 0
    if (panoptic is None) == (spec.panoptic is None) and (instances is None) == (
        spec.instances is None
    ):
        num_read, found = _read(spec, root, panoptic, instances, every=every, track=track)
        problems += found
    findings = _findings(spec, root, panoptic, instances)
    return DatasetCheck(spec, tuple(findings), tuple(dict.fromkeys(problems)), num_read)


def is_present(spec: DatasetSpec, *, root: Path | None = None) -> bool:
    """Returns True if all folders and files of a data set exist; none is opened."""
    root = data_root() if root is None else root
    places = [_folder(root, spec.images)]
    if spec.panoptic is not None:
        places += [root / spec.panoptic.json, root / spec.panoptic.maps]
    if spec.semantic is not None:
        places.append(_folder(root, spec.semantic.path))
    if spec.instances is not None:
        places.append(root / spec.instances.json)
    return all(is_file(place) or is_folder(place) for place in places)


def _try(
    open_reader: Callable[..., T],
    annotation: PanopticFiles | InstanceFile | None,
    spec: DatasetSpec,
    root: Path,
) -> tuple[T | None, tuple[str, ...]]:
    """A reader with the faults of its entries, or the reason why there is none.

    A file of a registered data set that is missing is a finding, not a fault.
    """
    if annotation and spec.source is None and not is_file(root / annotation.json):
        return None, ()
    try:
        reader = open_reader(spec, root, collect=True)
    except UserError as error:
        return None, (str(error),)
    return reader, getattr(reader, "faults", ())


def _findings(
    spec: DatasetSpec,
    root: Path,
    panoptic: PanopticReader | None,
    instances: InstanceReader | None,
) -> list[Finding]:
    index = instances if panoptic is None else panoptic
    known = spec.num_images
    if known is None:
        known = len(_matching(root, spec.images)) if index is None else len(index)

    def finding(part: Part, what: str, path: Path, found: int) -> Finding:
        return Finding(what, path, found, known, "" if found == known else _advice(spec, part))

    pictures = len(_matching(root, spec.images))
    if index is not None:
        missing = missing_files(
            filled(root, spec.images, stem, links=False) for stem in index.stems
        )
        pictures = len(index) - len(missing)
    findings = [finding("images", "images", _folder(root, spec.images), pictures)]
    if spec.panoptic is not None:
        entries, maps = 0 if panoptic is None else len(panoptic), root / spec.panoptic.maps
        num_maps = len(listed_files(maps, "*.png"))
        findings += [
            finding("panoptic", "panoptic entries", root / spec.panoptic.json, entries),
            finding("panoptic", "segment maps", maps, num_maps),
        ]
    if spec.semantic is not None:
        labels, path = _matching(root, spec.semantic.path), _folder(root, spec.semantic.path)
        findings.append(finding("semantic", "label maps", path, len(labels)))
    if spec.instances is not None:
        entries, path = 0 if instances is None else len(instances), root / spec.instances.json
        findings.append(finding("instances", "instance entries", path, entries))
    if spec.instance_ids is not None:
        objects, path = _matching(root, spec.instance_ids), _folder(root, spec.instance_ids)
        findings.append(finding("instances", "object maps", path, len(objects)))
    return findings


def _advice(spec: DatasetSpec, part: Part) -> str:
    if spec.source is not None:
        return f"compare with {spec.source}"
    page = spec.image_page if part == "images" and spec.image_page else spec.page
    if part in spec.prepared:
        return f"run `{spec.prepare}`, which reads what {page} has"
    return f"get them from {page}"


def _read(
    spec: DatasetSpec,
    root: Path,
    panoptic: PanopticReader | None,
    instances: InstanceReader | None,
    *,
    every: bool,
    track: Track,
) -> tuple[int, list[str]]:
    """The number of samples that could be read, and what is wrong with the others."""
    try:
        samples = assemble(
            spec, root, panoptic=panoptic, instances=instances, tasks=spec.tasks, skip_bad=True
        )
    except UserError as error:
        return 0, [str(error)]
    problems = [str(each) for each in samples.skipped] if every else []
    indices = range(len(samples)) if every else [len(samples) // 2]
    num_read = 0
    for index in track(indices):
        try:
            samples[index]
        except UserError as error:
            problems.append(str(error))
        else:
            num_read += 1
    return num_read, problems


def _matching(root: Path, path: str) -> list[Path]:
    """Returns existing files that match a path with ``{}`` for a name or a name in a folder."""
    before, after = path.split("{}")
    folder, _, start = before.rpartition("/")
    base = root / folder if folder or not before.startswith("/") else Path("/")
    return [
        *listed_files(base, f"{start}*{after}"),
        *listed_files(base, f"{start}*/*{after}"),
    ]


def _folder(root: Path, path: str) -> Path:
    return root / path.split("{}")[0].rpartition("/")[0]
