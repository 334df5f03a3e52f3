"""The classes of own data: the annotation's categories, with the synonyms of a data set file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from frozenseg.data.annotations.categories import MAX_CATEGORY_ID, Category, read_categories
from frozenseg.data.classes import ClassList
from frozenseg.data.readers.files import load_json
from frozenseg.errors import UserError
from frozenseg.io.text import quoted
from frozenseg.vocabulary.vocabulary import Vocabulary

MAX_LABEL = (1 << 16) - 1
_LISTED = 8  # names in a message


class ClassEntry(NamedTuple):
    """One class of a data set file."""

    name: str  # as the annotation calls it
    synonyms: tuple[str, ...]  # further ones
    is_thing: bool | None  # None: not stated
    id: int | None  # None: not stated


def read_classes(
    given: object, *, source: Path, json_files: Sequence[Path], ignore_value: int | None
) -> ClassList:
    """The classes of own data.

    The categories of the annotation files decide; ``given`` adds synonyms and says what is stuff.
    Without annotation files ``given`` is the class list, and ids count from 0 unless stated.

    Args:
        given: the value of ``classes``: a list of names, or a mapping from names to synonyms or to
            ``{synonyms, stuff, id}``; None if there is none.
        source: the data set file, for messages.
        json_files: COCO annotation files; the first one's categories are complete.
        ignore_value: of label maps, which no class may have; None: there are no label maps.

    Raises:
        UserError: an entry is wrong, the list and the categories disagree, or a synonym belongs to
            two classes.
    """
    entries = None if given is None else _entries(given, source)
    if json_files:
        found = [_categories_of(path) for path in json_files]
        for path, other in zip(json_files[1:], found[1:], strict=True):
            _check_same(found[0], other, json_files[0], path)
        if entries is not None:
            _check_agreement(entries, found[0], source, json_files[0])
        entries = _joined(found[0], entries or ())
        colors = tuple(each.color for each in found[0] if each.color is not None)
    elif entries is None:
        raise UserError(f"{source} has label maps but no classes: list them under 'classes'")
    else:
        colors = ()
    return _class_list(entries, colors, source, ignore_value)


def _class_list(
    entries: Sequence[ClassEntry], colors: tuple, source: Path, ignore_value: int | None
) -> ClassList:
    ids = tuple(row if each.id is None else each.id for row, each in enumerate(entries))
    if len(set(ids)) < len(ids):
        twice = next(each for each in ids if ids.count(each) > 1)
        raise UserError(f"{source}: two classes have the id {twice}: change one under 'classes'")
    if ignore_value is not None and (ignore_value in ids or max(ids) > MAX_LABEL):
        raise UserError(
            f"{source}: the id of a class of label maps must be at most {MAX_LABEL} and not the "
            f"ignore_label {ignore_value}: change one of them"
        )
    synonyms = tuple(_words(each) for each in entries)
    owner: dict[str, str] = {}
    for each, words in zip(entries, synonyms, strict=True):
        for word in words:
            if word in owner:
                raise UserError(
                    f"{source}: {quoted(word)} is a name or synonym of both '{owner[word]}' and "
                    f"'{each.name}': leave it out of one"
                )
            owner[word] = each.name
    vocabulary = Vocabulary(
        synonyms,
        tuple(each.is_thing is not False for each in entries),
        colors if len(colors) == len(entries) else None,
    )
    return ClassList(vocabulary, ids, tuple(each.name for each in entries))


def _words(entry: ClassEntry) -> tuple[str, ...]:
    """All synonyms of a class; commas in its name separate some."""
    words = [*entry.name.split(","), *entry.synonyms]
    return tuple(dict.fromkeys(word.strip() for word in words if word.strip()))


def _categories_of(path: Path) -> tuple[Category, ...]:
    categories = read_categories(load_json(path, lists=["categories"]), path=path)
    if not categories:
        raise UserError(f"{path} has an empty list 'categories': list the classes there")
    return categories


def _check_same(
    first: Sequence[Category], other: Sequence[Category], path: Path, other_path: Path
) -> None:
    """A second annotation file may hold a part of the first one's categories."""
    names = {each.id: each.name for each in first}
    different = [
        f"id {each.id} is {quoted(each.name)}, not {quoted(names.get(each.id))}"
        for each in other
        if names.get(each.id) != each.name
    ]
    if different:
        raise UserError(
            f"{other_path} has other categories than {path}: {_few(different)}; make them agree"
        )


def _check_agreement(
    entries: Sequence[ClassEntry], categories: Sequence[Category], source: Path, path: Path
) -> None:
    known = {each.name: each for each in categories}
    listed = {each.name: each for each in entries}
    different: list[str] = []
    if only_listed := [name for name in listed if name not in known]:
        different.append(f"only 'classes' has {_few(only_listed)}")
    if only_known := [name for name in known if name not in listed]:
        different.append(f"only the annotation has {_few(only_known)}")
    for name in listed.keys() & known.keys():
        entry, category = listed[name], known[name]
        if None not in (entry.is_thing, category.is_thing) and entry.is_thing != category.is_thing:
            kind = "thing" if category.is_thing else "stuff"
            different.append(f"'{name}' is {kind} in the annotation")
        if entry.id not in (None, category.id):
            different.append(f"'{name}' has the id {category.id} in the annotation")
    if different:
        raise UserError(
            f"'classes' of {source} and the categories of {path} disagree: "
            f"{'; '.join(different[:_LISTED])}; make them agree, or leave 'classes' out"
        )


def _joined(categories: Sequence[Category], entries: Sequence[ClassEntry]) -> list[ClassEntry]:
    listed = {each.name: each for each in entries}
    joined = []
    for category in categories:
        entry = listed.get(category.name, ClassEntry(category.name, (), None, None))
        is_thing = entry.is_thing if category.is_thing is None else category.is_thing
        joined.append(entry._replace(is_thing=is_thing, id=category.id))
    return joined


def _entries(given: object, source: Path) -> list[ClassEntry]:
    if isinstance(given, list):
        given = dict.fromkeys(given) if all(isinstance(each, str) for each in given) else None
    if not isinstance(given, dict) or not given:
        raise UserError(
            f"{source}: 'classes' must be a list of names, or a mapping from names to synonyms: "
            "write {cat: [kitten], grass: {stuff: true}}"
        )
    return [_entry(name, value, source) for name, value in given.items()]


def _entry(name: object, value: object, source: Path) -> ClassEntry:
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"{source}: the class {quoted(name)} is not text: put it in quotes")
    settings: Mapping[Any, Any] = value if isinstance(value, dict) else {"synonyms": value}
    synonyms = settings.get("synonyms") or []
    synonyms = [synonyms] if isinstance(synonyms, str) else synonyms
    stuff, class_id = settings.get("stuff"), settings.get("id")
    sound = (
        settings.keys() <= {"synonyms", "stuff", "id"}
        and isinstance(synonyms, list)
        and all(isinstance(each, str) and each.strip() for each in synonyms)
        and (stuff is None or isinstance(stuff, bool))
        and (class_id is None or (type(class_id) is int and 0 <= class_id <= MAX_CATEGORY_ID))
    )
    if not sound:
        raise UserError(
            f"{source}: the class '{name}' has {quoted(value)}: write a list of synonyms, or "
            "{synonyms: [...], stuff: true, id: 7}"
        )
    return ClassEntry(name.strip(), tuple(synonyms), None if stuff is None else not stuff, class_id)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
