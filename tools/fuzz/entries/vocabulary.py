"""Vocabularies: lists, strings, options of the command line, and files."""

from pathlib import Path
from random import Random
from typing import Any

from tools.fuzz.case import Case, Entry, WrongResult
from tools.fuzz.mutate import LONG, ODD_TEXTS, damaged_bytes, odd_value

PIECES = (
    "cat", "kitten", "red circle", "sand [stuff]", "[thing]", "[stuff]", "[other]", ",", ";", "\n",
    "#", ":", "0:", "1:cat,dog", "[", "]", "{}",
    "{", "%s", "ade20k_150", "ade20k_15", "_", "~", "/", ".txt", "./", "é", "漢字", "\u202e",
    "\u200b", "\xa0", "\x00", "\x1b[31m", "[bold]", "\ud800", "\t",
    "\r", "x" * LONG, "0:invalid_class_id", "a photo of a", "\u2028", "\x85", "🐈", "I\u0307", "ß",
)  # fmt: skip


def text(rng: Random) -> str:
    if rng.random() < 0.1:
        return rng.choice(ODD_TEXTS)
    return rng.choice(("", " ", "", ";")).join(
        rng.choice(PIECES) for _ in range(rng.randrange(1, 8))
    )


def _make_text(rng: Random) -> Case:
    if rng.random() < 0.4:
        options = {
            name: text(rng) if rng.random() < 0.5 else None
            for name in ("words", "vocabulary", "stuff")
        }
        return Case("vocabularies", options)
    value = rng.choice((text(rng), [text(rng) for _ in range(rng.randrange(4))], odd_value(rng)))
    return Case("vocabularies", {"value": value, "like": rng.random() < 0.1})


def _run_text(arguments: Any, _: Path) -> None:
    from frozenseg.cli.words import vocabulary_of
    from frozenseg.vocabulary import builtin_vocabulary, parse_vocabulary

    if "words" in arguments:
        _embed(vocabulary_of(arguments["words"], arguments["vocabulary"], arguments["stuff"]))
        return
    like = builtin_vocabulary("cityscapes") if arguments["like"] else None
    _embed(parse_vocabulary(arguments["value"], like=like))


def _embed(vocabulary: Any) -> None:
    """Checks that accepted class names can be encoded by the tower's tokenizer."""
    import frozenseg
    from frozenseg.towers.loading import load_clip

    if len(vocabulary) > 60:
        return
    if not hasattr(_embed, "tower"):
        _embed.tower = load_clip("shapes", "")  # type: ignore[attr-defined]
    assert frozenseg.__version__
    names = [word for synonyms in vocabulary.synonyms for word in synonyms]
    rows = _embed.tower.encode_text(names[:8])  # type: ignore[attr-defined]
    if not rows.isfinite().all():
        raise WrongResult("a class name has no finite embedding")


def _make_file(rng: Random) -> Case:
    lines = [text(rng) for _ in range(rng.choice((0, 1, 1, 3, 20)))]
    if rng.random() < 0.3:
        lines = [f"{n}:{line}" for n, line in enumerate(lines)]
    if rng.random() < 0.1:
        lines.insert(0, "0:invalid_class_id")
    content = "\n".join(lines).encode(
        rng.choice(("utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig")), "surrogatepass"
    )
    content = damaged_bytes(rng, content) if rng.random() < 0.3 else content
    name = rng.choice(("words.txt", "words.txt", "words", "w\x1b[31m.txt"))
    return Case("vocabulary_files", {"name": name, "like": rng.random() < 0.1}, {name: content})


def _run_file(arguments: Any, folder: Path) -> None:
    from frozenseg.vocabulary import builtin_vocabulary, parse_vocabulary

    like = builtin_vocabulary("cityscapes") if arguments["like"] else None
    _embed(parse_vocabulary(folder / arguments["name"], like=like))


ENTRIES = (
    Entry("vocabularies", _make_text, _run_text, 2.0),
    Entry("vocabulary_files", _make_file, _run_file, 1.5),
)
