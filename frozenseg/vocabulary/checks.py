"""Checks of a vocabulary against its text encoder: phrases cut off, classes that look alike."""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from frozenseg.errors import UserError
from frozenseg.io.text import quoted
from frozenseg.vocabulary.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

MAX_REPORTED = 4
ROUNDING = 1e-5  # largest difference of equal rows that were encoded in different batches

CountTokens = Callable[[str], tuple[int, int]]
"""From a prompt to its number of tokens, and how many of them the text encoder reads."""


def warn_about_cut_phrases(
    phrases: Sequence[str], templates: Sequence[str], count_tokens: CountTokens
) -> None:
    """Warns about phrases of which the text encoder reads only the beginning.

    A phrase is counted in the longest template alone, because counting is slow.

    Args:
        phrases: class names and synonyms.
        templates: sentences with one ``{}``.
        count_tokens: of the text encoder.
    """
    cut = []
    longest = max(templates, key=lambda each: count_tokens(each.format(""))[0])
    for phrase in phrases:
        total, read = count_tokens(longest.format(phrase))
        if read < total:
            own, _ = count_tokens(phrase)
            cut.append(f"{quoted(phrase)} ({max(own - total + read, 0)} of {own} tokens count)")
    if cut:
        more = f" and {len(cut) - MAX_REPORTED} more" if len(cut) > MAX_REPORTED else ""
        logger.warning(
            "longer than the text encoder reads, which ignores the rest: %s%s; use shorter names",
            ", ".join(cut[:MAX_REPORTED]),
            more,
        )


def check_distinct(vocabulary: Vocabulary, rows: Tensor) -> None:
    """Checks that no class has only embeddings that earlier classes have, too.

    Such a class ties with the earlier one everywhere and is never found. Classes that share
    synonyms are reported: official prompt files have some, and published numbers depend on it.

    Args:
        vocabulary: the classes.
        rows: (S, D) unit rows, one per synonym, in the order of the classes.

    Raises:
        UserError: two classes with different names have equal embeddings.
    """
    phrases = [phrase for synonyms in vocabulary.synonyms for phrase in synonyms]
    owners = [i for i, synonyms in enumerate(vocabulary.synonyms) for _ in synonyms]
    equal: dict[int, int] = {}  # row of a later class: first equal row of an earlier one
    for first, second in equal_rows(rows):
        if owners[first] < owners[second]:
            equal[second] = min(first, equal.get(second, first))
    for index in dict.fromkeys(owners[row] for row in equal):
        own = [row for row, owner in enumerate(owners) if owner == index]
        if all(row in equal for row in own) and phrases[own[0]] != phrases[equal[own[0]]]:
            raise UserError(
                f"the classes {quoted(phrases[equal[own[0]]])} and {quoted(phrases[own[0]])} have "
                "equal text embeddings, so that the second can never be found: the text encoder "
                "ignores case and reads only the beginning of long names; rename or remove one"
            )
    _report_shared([(phrases[a], phrases[b]) for b, a in equal.items()])


def equal_rows(rows: Tensor) -> list[tuple[int, int]]:
    """Returns pairs of equal rows, the earlier one first.

    Equal rows are neighbours when sorted by one column, so that few pairs are compared.
    """
    rows = rows.float().cpu()
    column = rows[:, (rows.amax(dim=0) - rows.amin(dim=0)).argmax()]
    values, order = column.sort(stable=True)
    ends = torch.searchsorted(values, values + ROUNDING, right=True).tolist()
    pairs = []
    for place, end in enumerate(ends):
        if end > place + 1:
            row, others = order[place], order[place + 1 : end]
            equal = others[(rows[others] - rows[row]).abs().amax(dim=1) < ROUNDING]
            pairs += [(min(int(row), other), max(int(row), other)) for other in equal.tolist()]
    return sorted(pairs)


def _report_shared(pairs: Sequence[tuple[str, str]]) -> None:
    if not pairs:
        return
    named = [
        quoted(a) if a == b else f"{quoted(a)} and {quoted(b)}" for a, b in pairs[:MAX_REPORTED]
    ]
    more = f" and {len(pairs) - MAX_REPORTED} more" if len(pairs) > MAX_REPORTED else ""
    logger.warning(
        "two classes share the synonym %s%s: the first class gets the segments of that name",
        ", ".join(named),
        more,
    )
