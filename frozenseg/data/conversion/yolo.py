"""YOLO segmentation: a text file per image, one ``class x y x y ...`` per line, as fractions."""

from pathlib import Path

from frozenseg.data.annotations.faults import BadEntry, Faults
from frozenseg.data.conversion.records import AnnotatedImage, Converted, Outline
from frozenseg.data.images import image_size
from frozenseg.data.pillow import image_endings
from frozenseg.errors import UserError
from frozenseg.io.documents import read_yaml
from frozenseg.io.gates import read_text
from frozenseg.io.paths import listed_files
from frozenseg.io.text import quoted

_MAX_BYTES = 1 << 26
_TOLERANCE = 0.01  # of a side, beyond the image
_NAME_FILES = ("data.yaml", "dataset.yaml", "data.yml")


def read_yolo(
    source: Path, *, images: Path | None, names: Path | None, skip_bad: bool
) -> Converted:
    """Reads a folder of YOLO's text files.

    Args:
        source: the folder of text files, which may have folders in it.
        images: the folder of images, with the same names; None: the path with ``images`` in place
            of its last ``labels``.
        names: YAML file with the class names; None: ``data.yaml`` in a folder above.
        skip_bad: leave out lines with a fault.

    Raises:
        UserError: something is missing, or a line has a fault and ``skip_bad`` is off.
    """
    folder = _image_folder(source) if images is None else images
    classes = _class_names(_names_file(source) if names is None else names)
    labels = {
        path.relative_to(source).with_suffix("").as_posix(): path
        for path in listed_files(source, "**/*.txt")
        if path.name != "classes.txt"
    }
    photos = [
        path for path in listed_files(folder, "**/*") if path.suffix.lower() in image_endings()
    ]
    if not photos:
        raise UserError(f"no image in {folder}: give the folder of images with --images")
    found: list[AnnotatedImage] = []
    notes: list[str] = []
    for path in photos:
        name = path.relative_to(folder)
        file = labels.pop(name.with_suffix("").as_posix(), None)  # none: an image without objects
        faults = Faults(file or path, collect=skip_bad)
        size = image_size(path)
        outlines = [] if file is None else _read_file(file, size, classes, faults)
        found.append(AnnotatedImage(name.as_posix(), size, outlines))
        notes += faults.found
    for file in labels.values():
        faults = Faults(file, collect=skip_bad)
        faults.report(f"no image in {folder} has this name")
        notes += faults.found
    return Converted(folder, classes, found, notes)


def _read_file(
    path: Path, size: tuple[int, int], classes: list[str], faults: Faults
) -> list[Outline]:
    outlines: list[Outline] = []
    for number, line in enumerate(read_text(path, max_bytes=_MAX_BYTES).splitlines(), start=1):
        if line.strip():
            with faults.entry(f"line {number}"):
                outlines.append(_outline(line.split(), size, classes))
    return outlines


def _outline(words: list[str], size: tuple[int, int], classes: list[str]) -> Outline:
    """The object of one line.

    Raises:
        BadEntry: its class or its coordinates are wrong.
    """
    if not (words[0].isdecimal() and len(words[0]) < 9 and int(words[0]) < len(classes)):
        raise BadEntry(f"has the class {quoted(words[0])}: there are 0 to {len(classes) - 1}")
    if len(words) == 5:
        raise BadEntry("has a box, not a polygon: export segmentation labels")
    try:
        values = [float(word) for word in words[1:]]
    except ValueError as error:
        raise BadEntry(f"has a coordinate that is not a number ({quoted(str(error))})") from error
    if len(values) % 2 or len(values) < 6:
        raise BadEntry(f"has {len(values)} coordinates: give x and y of at least three points")
    wrong = [value for value in values if not -_TOLERANCE <= value <= 1 + _TOLERANCE]
    if wrong:
        raise BadEntry(f"has the coordinate {wrong[0]}: they are fractions of the image, 0 to 1")
    height, width = size
    return Outline(
        classes[int(words[0])],
        [[value * (height if place % 2 else width) for place, value in enumerate(values)]],
    )


def _image_folder(source: Path) -> Path:
    parts = list(source.absolute().parts)
    if "labels" not in parts:
        raise UserError(f"{source} has no folder 'labels' in its path: give the images' --images")
    place = len(parts) - 1 - parts[::-1].index("labels")
    return Path(*parts[:place], "images", *parts[place + 1 :])


def _names_file(source: Path) -> Path:
    for folder in list(source.absolute().parents)[:3]:
        for name in _NAME_FILES:
            if (folder / name).is_file():
                return folder / name
    raise UserError(
        f"no {_NAME_FILES[0]} above {source}: give the file of class names with --names"
    )


def _class_names(path: Path) -> list[str]:
    """The list, or the mapping from numbers, under ``names``."""
    content = read_yaml(path)
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise UserError(
            f"{path} must have a list 'names' of class names, got {quoted(names)}: give --names"
        )
    return names
