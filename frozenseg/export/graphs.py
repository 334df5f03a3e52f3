"""Traces the parts of a model and writes them as ONNX or as PyTorch's own exported programs."""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch.export import Dim, ExportedProgram

from frozenseg.errors import UserError
from frozenseg.export.image_part import ImagePart
from frozenseg.export.text_part import TextPart
from frozenseg.io.files import TEMPORARY_PREFIX, make_folder
from frozenseg.io.gates import reason_of
from frozenseg.io.text import one_line
from frozenseg.io.writing import disk_gate

Format = Literal["onnx", "torch-export"]

OPSET = 18  # the first with ScatterElements(max), by which a class takes its best synonym
MAX_SIDE_PX = 8192
IMAGE_INPUTS = ("pixels", "size", "text_rows", "class_ids", "seen")
IMAGE_OUTPUTS = ("class_probs", "mask_logits")
TEXT_INPUTS, TEXT_OUTPUTS = ("tokens",), ("embeddings",)
ENDINGS: Mapping[Format, str] = {"onnx": ".onnx", "torch-export": ".pt2"}


def check_packages(format: Format) -> None:
    """Raises a ``UserError`` if a package that the format needs is missing."""
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if format == "onnx" and missing:
        raise UserError(
            f"--format onnx needs {' and '.join(missing)}: pip install 'frozenseg[export]'"
        )


def trace_image_part(part: ImagePart) -> ExportedProgram:
    """Returns the graph of the image part; height, width, rows and classes are symbols.

    The padded sides are at least two and at most ``MAX_SIDE_PX`` pixels divided by the model's
    divisibility, in units of it.
    """
    unit = part.proposer.size_divisibility
    # sides that no map of SAM has at any stride: equal sizes would be taken for a rule
    height_px, width_px = 5 * unit, 7 * unit
    example = (
        torch.zeros(3, height_px, width_px),
        torch.tensor([height_px, width_px]),
        torch.zeros(3, len(part.proposer.void)),
        torch.tensor([0, 1, 1]),
        torch.ones(2, dtype=torch.bool),
    )
    height, width = (
        unit * Dim(name, min=2, max=MAX_SIDE_PX // unit) for name in ("height", "width")
    )
    num_rows, num_classes = Dim("rows", min=1), Dim("classes", min=1)
    shapes = ({1: height, 2: width}, {}, {0: num_rows}, {0: num_rows}, {0: num_classes})
    return _traced(part, example, shapes)


def trace_text_part(part: TextPart, *, context_length: int) -> ExportedProgram:
    """Returns the graph of the text part; the number of prompts is a symbol."""
    example = (torch.zeros(2, context_length, dtype=torch.int64),)
    return _traced(part, example, ({0: Dim("prompts", min=1)},))


def _traced(
    part: torch.nn.Module, example: tuple[Any, ...], shapes: tuple[Any, ...]
) -> ExportedProgram:
    device = next(part.parameters()).device
    example = tuple(each.to(device) for each in example)
    with torch.no_grad():
        return torch.export.export(part.eval(), example, dynamic_shapes=shapes, strict=False)


def write_program(
    program: ExportedProgram,
    path: Path,
    format: Format,
    *,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
) -> None:
    """Writes a graph; ONNX files over 2 GB get a second file beside them.

    Args:
        program: the graph.
        path: the file to write.
        format: of the file.
        inputs: names of the inputs in ONNX.
        outputs: names of the outputs in ONNX.

    Raises:
        UserError: the file cannot be written.
    """
    converted = _onnx(program, inputs, outputs) if format == "onnx" else None
    with _replaced_together(path) as part:
        if converted is None:
            torch.export.save(program, part)
        else:
            converted.save(part)


def _onnx(
    program: ExportedProgram, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> torch.onnx.ONNXProgram:
    from onnxscript import optimizer  # of the extra ``export``

    with _quiet("onnxscript", "onnx_ir"):
        converted = torch.onnx.export(
            program,
            dynamo=True,
            input_names=inputs,
            output_names=outputs,
            opset_version=OPSET,
            verbose=False,
            optimize=False,  # its rewriting takes as long as the conversion and gains no speed
        )
        assert converted is not None, "a program is returned where no file is named"
        optimizer.fold_constants(converted.model)
        optimizer.remove_unused_nodes(converted.model)
    return converted


@contextmanager
def _replaced_together(path: Path) -> Iterator[Path]:
    """Yields a path in a temporary folder; all files of that folder are moved beside ``path``."""
    make_folder(path.parent)
    with (
        disk_gate(path),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=TEMPORARY_PREFIX) as folder,
    ):
        try:
            yield Path(folder) / path.name
        except RuntimeError as error:  # a full disk is one of torch's writers
            raise UserError(
                f"{one_line(path)} cannot be written ({reason_of(error)}): free some space or "
                "choose another folder"
            ) from error
        for file in Path(folder).iterdir():
            file.replace(path.with_name(file.name))


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Hides the progress reports of libraries, which are of no use to users."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
