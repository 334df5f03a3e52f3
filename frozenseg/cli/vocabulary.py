"""``frozenseg vocabulary``: class lists, their synonyms, and which classes training has seen."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from frozenseg.cli.console import console

app = typer.Typer(no_args_is_help=True, help="List class lists and show what is in them.")


@app.command("list")
def list_vocabularies() -> None:
    """Name the class lists that come with the package.

    Example: frozenseg vocabulary list
    """
    from frozenseg.vocabulary import builtin_names, builtin_vocabulary

    table = Table("name", "classes", "things", "synonyms", box=None, padding=(0, 1))
    for name in builtin_names():
        vocabulary = builtin_vocabulary(name)
        num_synonyms = sum(map(len, vocabulary.synonyms))
        table.add_row(name, f"{len(vocabulary)}", f"{sum(vocabulary.is_thing)}", f"{num_synonyms}")
    console.print(table)


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="A class list, a file, or words: 'cat, kitten; sky'.")
    ],
    against: Annotated[
        str, typer.Option("--against", help="Mark what these classes, of training, have seen.")
    ] = "coco_panoptic",
) -> None:
    """Show classes with their synonyms, and which are seen.

    Example: frozenseg vocabulary show ade20k_150 --against coco_panoptic
    """
    from frozenseg.vocabulary import parse_vocabulary

    vocabulary, training = parse_vocabulary(name), parse_vocabulary(against)
    seen = vocabulary.seen_by(training)
    known = {word for synonyms in training.synonyms for word in synonyms}
    table = Table("", "class", "kind", f"in {against}", "synonyms", box=None, padding=(0, 1))
    rows = zip(vocabulary.synonyms, vocabulary.is_thing, seen, strict=True)
    for index, (synonyms, is_thing, is_seen) in enumerate(rows):
        mark = "[green]seen[/]" if is_seen else "[yellow]unseen[/]"
        words = ", ".join(_marked(word, known) for word in synonyms[1:])
        kind = "thing" if is_thing else "stuff"
        table.add_row(str(index), _marked(synonyms[0], known), kind, mark, words)
    console.print(table)
    console.print(f"{sum(seen)} of {len(seen)} classes are seen, {len(seen) - sum(seen)} unseen")


def _marked(word: str, known: set[str]) -> str:
    """Words that training knows are green: they are what makes a class seen."""
    return f"[green]{escape(word)}[/]" if word in known else escape(word)
