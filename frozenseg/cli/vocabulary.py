"""``frozenseg vocabulary``: class lists, their synonyms, and which classes are seen."""

from typing import Annotated

import typer
from rich.table import Table

from frozenseg.cli.console import console
from frozenseg.io.text import markup

app = typer.Typer(
    no_args_is_help=True,
    help="List built-in class lists and show their classes.\n\nExample: frozenseg vocabulary list",
)


@app.command("list")
def list_vocabularies() -> None:
    """List the class lists that ship with the package.

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
        str,
        typer.Argument(
            metavar="CLASSES", help="A class list, a file, or class names: 'cat, kitten; sky'."
        ),
    ],
    against: Annotated[
        str, typer.Option("--against", help="The training classes that decide which are seen.")
    ] = "coco_panoptic",
) -> None:
    """Show classes with their synonyms, and which of them are seen.

    Example: frozenseg vocabulary show ade20k_150 --against coco_panoptic
    """
    from frozenseg.vocabulary import parse_vocabulary
    from frozenseg.vocabulary.vocabulary import shared_synonyms

    vocabulary, training = parse_vocabulary(name), parse_vocabulary(against)
    seen = vocabulary.seen_by(training)
    known = {word for synonyms in training.synonyms for word in synonyms}
    table = Table(
        "", "class", "kind", f"in {markup(against)}", "synonyms", box=None, padding=(0, 1)
    )
    rows = zip(vocabulary.synonyms, vocabulary.is_thing, seen, strict=True)
    for index, (synonyms, is_thing, is_seen) in enumerate(rows):
        mark = "[green]seen[/]" if is_seen else "[yellow]unseen[/]"
        words = ", ".join(_marked(word, known) for word in synonyms[1:])
        kind = "thing" if is_thing else "stuff"
        table.add_row(str(index), _marked(synonyms[0], known), kind, mark, words)
    console.print(table)
    if shared := shared_synonyms(vocabulary):
        console.print(f"synonyms of more than one class: {markup(', '.join(shared))}")
    console.print(f"{sum(seen)} of {len(seen)} classes are seen, {len(seen) - sum(seen)} unseen")


def _marked(word: str, known: set[str]) -> str:
    """Returns a synonym, green if it is a training synonym, which makes its class seen."""
    return f"[green]{markup(word)}[/]" if word in known else markup(word)
