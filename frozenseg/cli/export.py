"""``frozenseg export``: a model as graphs that run without this package."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from frozenseg.cli.console import errors, print_line
from frozenseg.cli.options import ModelOptions, grouped, key_values


class Kind(StrEnum):
    onnx = "onnx"
    torch_export = "torch-export"


@grouped
def export(
    model: ModelOptions,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the files.", show_default=False)
    ],
    format: Annotated[
        Kind, typer.Option(help="onnx: for ONNX Runtime. torch-export: for torch.export.load.")
    ] = Kind.onnx,
) -> None:
    """Export a model as an image graph, a text graph and a table of settings.

    Image size and class names remain variable. FrozenSeg and FC-CLIP only.

    The image graph's inputs are pixels (3, H, W), RGB in 0..255, padded to the 'side_multiple' of
    model.json; size (2,), without padding; text_rows (S, D), one of unit length per synonym;
    class_ids (S,), the class of each row; and seen (K,), bool. Its outputs are class_probs
    (Q, K + 1), void last, and mask_logits (Q, H / 4, W / 4).

    Example: frozenseg export --model shapes --output exported
    """
    from frozenseg import model_config
    from frozenseg.builders.export import export_model

    cfg = model_config(
        model.model,
        weights=model.weights,
        device=model.device or "cpu",
        overrides=key_values(model.settings),
    )
    with errors.status("exporting, which takes minutes"):
        files = export_model(cfg, output, format.value)
    for path in files:
        print_line(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
