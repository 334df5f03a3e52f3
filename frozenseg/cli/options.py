"""Command-line options that several commands share, and ``--set KEY=VALUE``.

A command takes related options as one dataclass (see :func:`grouped`).
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from frozenseg.errors import UserError
from frozenseg.runtime.garbage import lasting_objects

if TYPE_CHECKING:
    from frozenseg.inference.segmenter import Segmenter
    from frozenseg.vocabulary import Vocabulary

Images = Annotated[
    list[Path] | None,
    typer.Argument(metavar="IMAGE", help="Images, or folders of images.", show_default=False),
]
Dataset = Annotated[
    str,
    typer.Option(
        help="A name from `frozenseg datasets list`, a short name such as shapes or ade20k_150, or "
        "a data set file."
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(
        "--root", help="The folder that contains all data sets.", envvar="DETECTRON2_DATASETS"
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(help="Use only the first N images.", metavar="N", min=1, show_default=False),
]
MODEL_HELP = "A name such as 'shapes' (the miniature model), a folder, or a YAML file."


def model_choices(incomplete: str) -> list[str]:
    """The models' names that begin with ``incomplete``, for shell completion."""
    from frozenseg.config import model_names

    return [name for name in model_names() if name.startswith(incomplete)]


ModelName = Annotated[str, typer.Option(help=MODEL_HELP, autocompletion=model_choices)]
Weights = Annotated[
    Path | None,
    typer.Option(help="Trained weights (default: those of the model).", show_default=False),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1 ... (default: cuda if available).")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a configuration key; may be repeated.",
        show_default=False,
    ),
]
KeyValues = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY VALUE", help="Configuration keys to override.", show_default=False),
]
OutputFolder = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]
OutputPng = Annotated[Path, typer.Option("--output", "-o", help="The PNG file to write.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Words = Annotated[
    str | None,
    typer.Option(
        "--words",
        "-w",
        help="Class names separated by ';', synonyms by ','.",
        show_default=False,
    ),
]
VocabularyName = Annotated[
    str | None,
    typer.Option(
        "--vocabulary",
        "-v",
        metavar="FILE|NAME",
        help="A text file with one class per line, or a built-in list such as ade20k_150.",
        show_default=False,
    ),
]
Stuff = Annotated[
    str | None,
    typer.Option(
        help="Stuff classes, separated by ';'; added to --words where missing.", show_default=False
    ),
]


@dataclass(frozen=True)
class VocabularyOptions:
    """The classes to segment."""

    words: Words = None
    vocabulary: VocabularyName = None
    stuff: Stuff = None

    def any_given(self) -> bool:
        return any(value is not None for value in (self.words, self.vocabulary, self.stuff))

    @lasting_objects()  # the first import of torch
    def read(self) -> "Vocabulary":
        """The vocabulary of these options; raises a ``UserError`` if there is none."""
        from frozenseg.cli.words import vocabulary_of

        return vocabulary_of(self.words, self.vocabulary, self.stuff)


@dataclass(frozen=True)
class ModelOptions:
    """A model: configuration, weights, overridden keys, device."""

    model: ModelName = "shapes"
    weights: Weights = None
    settings: Settings = None
    device: Device = None

    @lasting_objects()
    def load(self, *, quiet: bool = False) -> "Segmenter":
        """The model, with a note on the terminal while it is loaded; see ``frozenseg.load``."""
        from frozenseg import load
        from frozenseg.cli.console import errors

        with nullcontext() if quiet else errors.status("loading the model"):
            return load(
                self.model,
                weights=self.weights,
                device=self.device,
                overrides=key_values(self.settings),
            )


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Decorates a command whose parameters include dataclasses of options.

    Typer sees each field as an option of its own; the command receives the filled dataclasses.
    """
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if is_dataclass(parameter.annotation):
            groups[parameter.name] = parameter.annotation
            parameters += map(_as_parameter, fields(parameter.annotation))
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(command)
    def expanded(**values: Any) -> None:
        for name, group in groups.items():
            own = {field.name: values.pop(field.name) for field in fields(group)}
            values[name] = group(**own)
        command(**values)

    expanded.__dict__["__signature__"] = inspect.Signature(parameters)
    expanded.__annotations__ = {each.name: each.annotation for each in parameters}
    return expanded


def _as_parameter(field: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(field.name, kind, default=field.default, annotation=field.type)


def key_values(settings: Sequence[str] | None) -> list[str]:
    """``["KEY=VALUE", ...]`` as the flat list of keys and values that configurations take.

    Raises:
        UserError: a setting without ``=``.
    """
    pairs = []
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting} has no value: write KEY=VALUE")
        pairs += [key, value]
    return pairs
