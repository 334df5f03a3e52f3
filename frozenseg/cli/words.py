"""The vocabulary that a command's options describe."""

from typing import TYPE_CHECKING

from frozenseg.errors import UserError
from frozenseg.io.files import is_file, user_path
from frozenseg.io.text import quoted

if TYPE_CHECKING:
    from frozenseg.vocabulary import Vocabulary


def vocabulary_of(words: str | None, vocabulary: str | None, stuff: str | None) -> "Vocabulary":
    """Returns the classes of ``--words`` or ``--vocabulary``, with those of ``--stuff``.

    Raises:
        UserError: both or none is given, no class, a repeated name, or a missing file.
    """
    if words is not None and vocabulary is not None:
        raise UserError("--words and --vocabulary exclude each other: give one of them")
    if words is vocabulary is stuff is None:
        raise UserError('no class names: give --words "cat, kitten; grass" or --vocabulary FILE')
    from frozenseg.vocabulary import builtin_vocabulary, parse_vocabulary, read_vocabulary
    from frozenseg.vocabulary.vocabulary import split_classes

    if vocabulary is not None:
        path = user_path(vocabulary)
        found = read_vocabulary(path) if is_file(path) else builtin_vocabulary(vocabulary)
    elif words is not None:
        found = parse_vocabulary(split_classes(words))
    else:
        return _as_stuff(parse_vocabulary(split_classes(stuff or "")))
    return found if stuff is None else _with_stuff(found, parse_vocabulary(split_classes(stuff)))


def _as_stuff(vocabulary: "Vocabulary") -> "Vocabulary":
    from frozenseg.vocabulary import Vocabulary

    return Vocabulary(vocabulary.synonyms, (False,) * len(vocabulary), vocabulary.colors)


def _with_stuff(vocabulary: "Vocabulary", stuff: "Vocabulary") -> "Vocabulary":
    from frozenseg.vocabulary import Vocabulary

    synonyms, is_thing = list(vocabulary.synonyms), list(vocabulary.is_thing)
    colors = vocabulary.colors
    for words in stuff.synonyms:
        owners = [i for i, known in enumerate(synonyms) if set(known) & set(words)]
        if len(owners) > 1:
            raise UserError(
                f"--stuff {quoted(', '.join(words))} belongs to two classes, "
                f"{quoted(synonyms[owners[0]][0])} and {quoted(synonyms[owners[1]][0])}: separate "
                "them with ';'"
            )
        if owners:
            known = synonyms[owners[0]]
            synonyms[owners[0]] = known + tuple(word for word in words if word not in known)
            is_thing[owners[0]] = False
        else:
            synonyms.append(words)
            is_thing.append(False)
            colors = None
    return Vocabulary(tuple(synonyms), tuple(is_thing), colors)
