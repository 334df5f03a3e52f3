"""The ``categories`` of an annotation file, and their comparison with a class list."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from frozenseg.data.annotations.faults import BadEntry
from frozenseg.data.annotations.fields import as_entry, flag, text, whole_number
from frozenseg.data.classes import ClassList
from frozenseg.errors import UserError
from frozenseg.io.text import quoted
from frozenseg.vocabulary.vocabulary import Color

MAX_CATEGORY_ID = (1 << 31) - 1
_LISTED = 5  # differences in a message


class Category(NamedTuple):
    """One entry of ``categories``."""

    id: int
    name: str
    is_thing: bool | None  # None: the file does not say
    color: Color | None


def read_categories(content: Mapping[str, Any], *, path: Path) -> tuple[Category, ...]:
    """The categories of an annotation file, in its order; none if it has no such list.

    Raises:
        UserError: an entry is broken, or an id or a name occurs twice.
    """
    entries = content.get("categories", [])
    if not isinstance(entries, list):
        raise UserError(f"{path}: 'categories' must be a list, got {quoted(entries)}: fix the file")
    found: list[Category] = []
    for place, entry in enumerate(entries):
        try:
            found.append(_category(as_entry(entry)))
        except BadEntry as error:
            raise UserError(f"{path}: categories[{place}] {error}: fix the file") from error
    for field in ("id", "name"):
        values = [getattr(each, field) for each in found]
        for value in values:
            if values.count(value) > 1:
                raise UserError(
                    f"{path}: two categories have the {field} {quoted(value)}: remove or rename one"
                )
    return tuple(found)


def check_categories(
    categories: Sequence[Category],
    classes: ClassList,
    *,
    path: Path,
    contiguous: bool = False,
    void: Collection[int] = (),
) -> None:
    """Compares the categories of a file with the class list that it will be read by.

    A file may hold a part of the classes. Names are compared without case, hyphens and underscores,
    with the official name or any synonym.

    Args:
        categories: of the file; none if it has no such list, and nothing is compared.
        classes: of the data set's registered name.
        path: the file, for the message.
        contiguous: the file numbers its categories as the classes are.
        void: categories that count as unlabelled, whatever they are called.

    Raises:
        UserError: an id, name or thing flag differs; the differences are listed.
    """
    class_ids = classes.class_ids(contiguous=contiguous)
    different = [
        difference
        for category in categories
        if category.id not in void
        for difference in _differences(category, class_ids.get(category.id), classes)
    ]
    if different:
        more = f"; and {len(different) - _LISTED} more" if len(different) > _LISTED else ""
        raise UserError(
            f"{path} has other categories than the class list of this data set: "
            f"{'; '.join(different[:_LISTED])}{more}. For your own data, write a data set file, "
            "see `frozenseg datasets check --help`"
        )


def _category(entry: Mapping[str, Any]) -> Category:
    is_thing = flag(entry, "isthing") if "isthing" in entry else None
    return Category(
        id=whole_number(entry, "id", low=0, high=MAX_CATEGORY_ID),
        name=text(entry, "name").strip(),
        is_thing=is_thing,
        color=_color(entry.get("color")),
    )


def _color(value: object) -> Color | None:
    """Three bytes; None for anything else, because colours are only for drawings."""
    if not isinstance(value, list) or len(value) != 3:
        return None
    if not all(type(each) is int and 0 <= each <= 255 for each in value):
        return None
    return value[0], value[1], value[2]


def _differences(category: Category, index: int | None, classes: ClassList) -> Iterator[str]:
    if index is None:
        yield f"id {category.id} is {quoted(category.name)} in the file and no class of the list"
        return
    official, thing = classes.names[index], classes.vocabulary.is_thing[index]
    known = {official, *official.split(","), *classes.vocabulary.synonyms[index]}
    if _plain(category.name) not in {_plain(each) for each in known}:
        yield f"id {category.id} is {quoted(category.name)} in the file, '{official}' in the list"
    if category.is_thing is not None and category.is_thing != thing:
        kinds = ("thing", "stuff") if category.is_thing else ("stuff", "thing")
        yield f"'{official}' is {kinds[0]} in the file, {kinds[1]} in the list"


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.rpartition("--")[2]).strip().lower()
