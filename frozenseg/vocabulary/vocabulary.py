"""Words to segment by: classes and their synonyms, from free words, a file or a built-in list."""

import difflib
import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from frozenseg.errors import UserError

logger = logging.getLogger(__name__)

CLASSES = Path(__file__).with_name("classes")

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Vocabulary:
    """Classes in order; each is called by one or more synonyms, of which the first is its name."""

    synonyms: tuple[tuple[str, ...], ...]
    is_thing: tuple[bool, ...]
    colors: tuple[Color, ...] | None = None

    def __post_init__(self) -> None:
        sizes = {len(self.synonyms), len(self.is_thing), len(self.colors or self.synonyms)}
        if len(sizes) != 1 or sizes == {0}:
            raise ValueError(
                "a vocabulary needs at least one class, and for each a thing flag (and a colour): "
                f"got {len(self.synonyms)} classes, {len(self.is_thing)} flags and "
                f"{len(self.colors or ())} colours"
            )
        if not all(self.synonyms):
            raise ValueError(f"class {self.synonyms.index(())} has no synonym")

    def __len__(self) -> int:
        return len(self.synonyms)

    @property
    def names(self) -> tuple[str, ...]:
        """What each class is called in results: its first synonym."""
        return tuple(synonyms[0] for synonyms in self.synonyms)

    def seen_by(self, training: "Vocabulary") -> tuple[bool, ...]:
        """Which classes share a synonym with any class of ``training`` (section 4.1).

        Strings are compared as they stand: case, plurals and underscores count.
        """
        known = {word for synonyms in training.synonyms for word in synonyms}
        return tuple(not known.isdisjoint(synonyms) for synonyms in self.synonyms)

    def things(self) -> "Vocabulary":
        """The thing classes alone, in order."""
        return self.subset(self.is_thing)

    def subset(self, keep: Sequence[bool]) -> "Vocabulary":
        """The classes that are flagged, in order."""
        chosen = [index for index, kept in enumerate(keep) if kept]
        return Vocabulary(
            synonyms=tuple(self.synonyms[i] for i in chosen),
            is_thing=tuple(self.is_thing[i] for i in chosen),
            colors=None if self.colors is None else tuple(self.colors[i] for i in chosen),
        )


def builtin_names() -> tuple[str, ...]:
    """The class lists that ship with the package."""
    return tuple(sorted(path.stem for path in CLASSES.glob("*.txt")))


@cache
def builtin_vocabulary(name: str) -> Vocabulary:
    """A class list of the package, with its data set's colours where it has some.

    Raises:
        UserError: no list has this name.
    """
    if name not in builtin_names():
        known = ", ".join(builtin_names())
        raise UserError(
            f"no built-in vocabulary '{name}': choose one of {known}, or give words or a file"
        )
    read = read_vocabulary(CLASSES / f"{name}.txt")
    table = CLASSES / f"{name}.tsv"
    colors = tuple(row.color for row in class_table(name)) if table.is_file() else ()
    known_colors = tuple(color for color in colors if color is not None)
    return Vocabulary(
        read.synonyms, read.is_thing, known_colors if len(known_colors) == len(read) else None
    )


@dataclass(frozen=True)
class ClassRow:
    """One class of a data set as its own files have it."""

    dataset_id: int  # the value in the annotation files
    name: str  # official, with official commas
    color: Color | None
    frequency: str = ""  # LVIS: r, c or f, rare, common or frequent in its training images


@cache
def class_table(name: str) -> tuple[ClassRow, ...]:
    """Annotation ids, official names and colours of a built-in vocabulary, in its order."""
    lines = (CLASSES / f"{name}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return tuple(_class_row(*line.split("\t")) for line in lines)


def _class_row(dataset_id: str, name: str, color: str, frequency: str = "") -> ClassRow:
    red, green, blue = (int(part) for part in color.split(",")) if color else (0, 0, 0)
    return ClassRow(int(dataset_id), name, (red, green, blue) if color else None, frequency)


def parse_vocabulary(
    value: str | Path | Sequence[str], *, like: Vocabulary | None = None
) -> Vocabulary:
    """A vocabulary from whatever a user has.

    Args:
        value: a list ``["cat, kitten", "grass [stuff]"]``; the same in one string, with semicolons
            between classes; the name of a built-in list; or the path of a text file. Commas part
            synonyms. A class is a thing unless ``[stuff]`` follows it.
        like: take thing flags and colours, class by class, from this one: for other words for the
            same classes, as in the official prompt files.

    Raises:
        UserError: no class, an empty or repeated synonym, an unreadable file, or another number of
            classes than ``like`` has.
    """
    if isinstance(value, Path):
        words = read_vocabulary(value, like=like)
    elif isinstance(value, str):
        words = _parse_string(value, like=like)
    else:
        words = _parse_lines([(f"entry {n}", line) for n, line in enumerate(value, start=1)])
    if like is None:
        return words
    if len(words) != len(like):
        raise UserError(
            f"the vocabulary has {len(words)} classes where {len(like)} are expected "
            f"('{like.names[0]}' to '{like.names[-1]}'): give one line per class, in that order"
        )
    return Vocabulary(words.synonyms, like.is_thing, like.colors)


def _parse_string(value: str, *, like: Vocabulary | None) -> Vocabulary:
    word = value.strip()
    if word in builtin_names():
        return builtin_vocabulary(word)
    if not re.search(r"[;\n]", value):
        path = Path(os.path.expanduser(word))  # these two never fail, unlike Path's
        if os.path.isfile(path):
            return read_vocabulary(path, like=like)
        if path.suffix == ".txt" or word.startswith(("/", "./", "../", "~")):
            raise UserError(f"no vocabulary file {word}: give an existing text file, or words")
        if "_" in word and (
            near := difflib.get_close_matches(word, builtin_names(), n=1, cutoff=0.8)
        ):
            raise UserError(f"no built-in vocabulary '{word}': did you mean '{near[0]}'?")
    parts = [part for part in re.split(r"[;\n]", value) if part.strip()]
    words = _parse_lines([(f"class {n}", part) for n, part in enumerate(parts, start=1)])
    if len(words) == 1 and len(words.synonyms[0]) > 1:
        logger.warning("'%s' is one class with synonyms: separate classes with ';'", word)
    return words


def read_vocabulary(path: Path, *, like: Vocabulary | None = None) -> Vocabulary:
    """Reads a text file: a class per line, synonyms parted by commas, ``[stuff]`` after stuff.

    ``#`` begins a comment. The official prompt files (``id:synonym,synonym``) are read too: lines
    that stand for an unused id are left out, and a string that two classes share is kept, because
    published numbers depend on it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the vocabulary file {path} ({error}): give a UTF-8 text file"
        ) from error
    bare = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()]
    lines = [(f"{path.name} line {n}", line) for n, line in enumerate(bare, start=1) if line]
    prompt_lines = [re.fullmatch(r"\d+:(.*)", line) for _, line in lines]
    if lines and all(prompt_lines):
        words = [match.group(1) for match in prompt_lines if match]
        return _parse_prompt_file(words, expected=None if like is None else len(like))
    return _parse_lines(lines, source=str(path))


def _parse_prompt_file(lines: list[str], *, expected: int | None) -> Vocabulary:
    """Drops the placeholder: the first line, if it says invalid, recurs, or is one too many."""
    first = lines[0]
    if "invalid" in first.lower() or lines.count(first) > 1 or len(lines) - 1 == expected:
        lines = [line for line in lines if line != first]
    synonyms = tuple(tuple(dict.fromkeys(filter(None, _split(line)))) for line in lines)
    if not all(synonyms):
        raise UserError(f"line {synonyms.index(()) + 1} of the prompt file has no word: add one")
    return Vocabulary(synonyms, (True,) * len(synonyms))


def _split(line: str) -> list[str]:
    return [word.strip() for word in line.split(",")]


def _parse_lines(lines: Iterable[tuple[str, str]], *, source: str = "the vocabulary") -> Vocabulary:
    synonyms: list[tuple[str, ...]] = []
    is_thing: list[bool] = []
    first_place: dict[str, str] = {}
    for place, line in lines:
        words, thing = _parse_class(place, line)
        for word in words:
            if word in first_place:
                raise UserError(
                    f"'{word}' stands twice, in {first_place[word]} and {place}: remove one"
                )
            first_place[word] = place
        synonyms.append(words)
        is_thing.append(thing)
    if not synonyms:
        raise UserError(f"{source} holds no class: give at least one word")
    return Vocabulary(tuple(synonyms), tuple(is_thing))


def _parse_class(place: str, line: str) -> tuple[tuple[str, ...], bool]:
    marker = re.search(r"\[([^\]]*)\]\s*$", line)
    kind = marker.group(1).strip() if marker else "thing"
    if kind not in ("thing", "stuff"):
        raise UserError(f"{place} ends in '[{kind}]': only [thing] and [stuff] are known")
    words = tuple(_split(line[: marker.start()] if marker else line))
    if not all(words):
        raise UserError(
            f"{place} ('{line.strip()}') has an empty synonym: put a word between its commas"
        )
    return words, kind == "thing"
