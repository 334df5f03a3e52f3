"""Vocabularies: classes and their synonyms, from text, a file or a built-in list."""

import difflib
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from frozenseg.errors import UserError
from frozenseg.io.files import user_path
from frozenseg.io.gates import read_text
from frozenseg.io.text import cut, one_line, quoted
from frozenseg.vocabulary.class_tables import CLASSES, Color, class_table

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 1 << 24


@dataclass(frozen=True)
class Vocabulary:
    """Classes in order; each has one or more synonyms, of which the first is its name."""

    synonyms: tuple[tuple[str, ...], ...]
    is_thing: tuple[bool, ...]
    colors: tuple[Color, ...] | None = None

    def __post_init__(self) -> None:
        sizes = {len(self.synonyms), len(self.is_thing), len(self.colors or self.synonyms)}
        if len(sizes) != 1 or sizes == {0}:
            raise ValueError(
                "a vocabulary needs at least one class, and a thing flag (and colour) for each: "
                f"got {len(self.synonyms)} classes, {len(self.is_thing)} flags and "
                f"{len(self.colors or ())} colours"
            )
        if not all(self.synonyms):
            raise ValueError(f"class {self.synonyms.index(())} has no synonym")

    def __len__(self) -> int:
        return len(self.synonyms)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each class in results: its first synonym."""
        return tuple(synonyms[0] for synonyms in self.synonyms)

    def seen_by(self, training: "Vocabulary") -> tuple[bool, ...]:
        """Returns which classes share a synonym with any class of ``training`` (section 4.1).

        Strings are compared exactly: case, plurals and underscores count.
        """
        known = {word for synonyms in training.synonyms for word in synonyms}
        return tuple(not known.isdisjoint(synonyms) for synonyms in self.synonyms)

    def things(self) -> "Vocabulary":
        """Returns the thing classes alone, in order."""
        return self.subset(self.is_thing)

    def subset(self, keep: Sequence[bool]) -> "Vocabulary":
        """Returns the flagged classes, in order."""
        chosen = [index for index, kept in enumerate(keep) if kept]
        return Vocabulary(
            synonyms=tuple(self.synonyms[i] for i in chosen),
            is_thing=tuple(self.is_thing[i] for i in chosen),
            colors=None if self.colors is None else tuple(self.colors[i] for i in chosen),
        )


def builtin_names() -> tuple[str, ...]:
    """Returns the names of the class lists that ship with the package."""
    return tuple(sorted(path.stem for path in CLASSES.glob("*.txt")))


@cache
def builtin_vocabulary(name: str) -> Vocabulary:
    """Returns a class list of the package, with its data set's colours if there are any.

    Raises:
        UserError: no list has this name.
    """
    if name not in builtin_names():
        known = ", ".join(builtin_names())
        raise UserError(
            f"no built-in vocabulary {quoted(name)}: choose one of {known}, or give class names or "
            "a file"
        )
    read = read_vocabulary(CLASSES / f"{name}.txt")
    table = CLASSES / f"{name}.tsv"
    colors = tuple(row.color for row in class_table(name)) if table.is_file() else ()
    known_colors = tuple(color for color in colors if color is not None)
    return Vocabulary(
        read.synonyms, read.is_thing, known_colors if len(known_colors) == len(read) else None
    )


def parse_vocabulary(
    value: str | Path | Sequence[str], *, like: Vocabulary | None = None
) -> Vocabulary:
    """Returns a vocabulary from text, a list, a file or the name of a built-in list.

    Args:
        value: a list ``["cat, kitten", "grass [stuff]"]``; the same in one string, with semicolons
            between classes; the name of a built-in list; or the path of a text file. Commas
            separate synonyms. A class is a thing unless ``[stuff]`` follows it.
        like: a vocabulary whose thing flags and colours are taken over, class by class: for other
            names of the same classes, as in the official prompt files.

    Raises:
        UserError: a value of another type, no class, an empty or repeated synonym, an unreadable
            file, or another number of classes than ``like`` has.
    """
    if isinstance(value, Path):
        words = read_vocabulary(value, like=like)
    elif isinstance(value, str):
        words = _parse_string(value, like=like)
    else:
        words = _parse_lines([(f"entry {n}", line) for n, line in enumerate(_entries(value), 1)])
    if like is None:
        return words
    if len(words) != len(like):
        raise UserError(
            f"the vocabulary has {len(words)} classes where {len(like)} are expected "
            f"({quoted(like.names[0])} to {quoted(like.names[-1])}): give one line per class, in "
            "that order"
        )
    return Vocabulary(words.synonyms, like.is_thing, like.colors)


def split_classes(text: str) -> list[str]:
    """Splits a text at semicolons and new lines; it is never a file or the name of a list."""
    return [part for part in re.split(r"[;\n]", text) if part.strip()]


def _entries(value: object) -> Iterable[str]:
    what = f"a {type(value).__name__}"
    if isinstance(value, Iterable) and not isinstance(value, (bytes, Mapping)):
        entries = list(value)
        others = [each for each in entries if not isinstance(each, str)]
        if not others:
            return entries
        what = f"a list with {quoted(others[0])}, a {type(others[0]).__name__}"
    raise UserError(
        f"the vocabulary is {what}: give class names as text, as a list of texts, or as the path "
        "of a file"
    )


def _parse_string(value: str, *, like: Vocabulary | None) -> Vocabulary:
    word = value.strip()
    if word in builtin_names():
        return builtin_vocabulary(word)
    if not re.search(r"[;\n]", value):
        path = user_path(word)
        if os.path.isfile(path):  # never fails, unlike Path's
            return read_vocabulary(path, like=like)
        if path.suffix == ".txt" or word.startswith(("/", "./", "../", "~")):
            raise UserError(
                f"no vocabulary file {cut(one_line(word))}: give an existing text file, or class "
                "names"
            )
        if "_" in word and (
            near := difflib.get_close_matches(word[:200], builtin_names(), n=1, cutoff=0.8)
        ):
            raise UserError(f"no built-in vocabulary {quoted(word)}: did you mean '{near[0]}'?")
    parts = split_classes(value)
    words = _parse_lines([(f"class {n}", part) for n, part in enumerate(parts, start=1)])
    if len(words) == 1 and len(words.synonyms[0]) > 1:
        logger.warning("%s is one class with synonyms: separate classes with ';'", quoted(word))
    return words


def read_vocabulary(path: Path, *, like: Vocabulary | None = None) -> Vocabulary:
    """Reads a text file: one class per line, commas between synonyms, ``[stuff]`` after stuff.

    ``#`` starts a comment. The official prompt files (``id:synonym,synonym``) are read too: lines
    for unused ids are left out, and a string that two classes share is kept, because published
    numbers depend on it.

    Args:
        path: a UTF-8 file.
        like: the classes that a prompt file is about, whose number tells if its first line is one.

    Raises:
        UserError: the file cannot be read, holds no class, or an empty or repeated synonym.
    """
    name = one_line(path)
    try:
        text = read_text(path, max_bytes=MAX_FILE_BYTES)
    except UserError as error:
        raise UserError(f"cannot read the vocabulary file: {error}") from error
    bare = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()]
    lines = [(f"{one_line(path.name)} line {n}", line) for n, line in enumerate(bare, 1) if line]
    prompt_lines = [re.fullmatch(r"\d+:(.*)", line) for _, line in lines]
    if lines and all(prompt_lines):
        words = [match.group(1) for match in prompt_lines if match]
        return _parse_prompt_file(words, expected=None if like is None else len(like), name=name)
    return _parse_lines(lines, source=name)


def _parse_prompt_file(lines: list[str], *, expected: int | None, name: str) -> Vocabulary:
    """Drops the placeholder: the first line, if it says invalid, recurs, or is one too many."""
    first = lines[0]
    if "invalid" in first.lower() or lines.count(first) > 1 or len(lines) - 1 == expected:
        lines = [line for line in lines if line != first]
    if not lines:
        raise UserError(f"{name} holds no class but a placeholder: add one line per class")
    synonyms = tuple(tuple(dict.fromkeys(filter(None, _split(line)))) for line in lines)
    if not all(synonyms):
        raise UserError(
            f"line {synonyms.index(()) + 1} of the prompt file has no class name ({name}): add one"
        )
    for number, phrases in enumerate(synonyms, start=1):
        _check_encodable(phrases, f"line {number} of {name}")
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
                    f"{quoted(word)} appears twice, in {first_place[word]} and {place}: remove one"
                )
            first_place[word] = place
        synonyms.append(words)
        is_thing.append(thing)
    if not synonyms:
        raise UserError(f"{source} holds no class: give at least one class name")
    return Vocabulary(tuple(synonyms), tuple(is_thing))


def _parse_class(place: str, line: str) -> tuple[tuple[str, ...], bool]:
    marker = re.search(r"\[([^\]]*)\]\s*$", line)
    kind = marker.group(1).strip() if marker else "thing"
    if kind not in ("thing", "stuff"):
        raise UserError(
            f"{place} ends in {cut(one_line(marker.group()) if marker else '')}: write [thing], "
            "[stuff] or neither"
        )
    words = tuple(_split(line[: marker.start()] if marker else line))
    if not all(words):
        raise UserError(
            f"{place} ({quoted(line.strip())}) has an empty synonym: put a name between its commas"
        )
    _check_encodable(words, place)
    return words, kind == "thing"


def _check_encodable(words: Iterable[str], place: str) -> None:
    for word in words:
        if re.search("[\ud800-\udfff]", word):
            raise UserError(
                f"{place} has the name {quoted(word)}, which is not valid Unicode: type it again"
            )


def shared_synonyms(vocabulary: Vocabulary) -> list[str]:
    """Returns the synonyms that more than one class has, in order."""
    owners = Counter(word for synonyms in vocabulary.synonyms for word in set(synonyms))
    return [word for word, count in owners.items() if count > 1]
