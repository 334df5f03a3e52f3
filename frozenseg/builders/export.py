"""Exports the model of a configuration: two graphs, and a table of all that they do not hold."""

import json
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from frozenseg.builders.segmenter import load_model
from frozenseg.builders.vocabularies import build_trained_vocabulary
from frozenseg.export.graphs import (
    ENDINGS,
    IMAGE_INPUTS,
    IMAGE_OUTPUTS,
    OPSET,
    TEXT_INPUTS,
    TEXT_OUTPUTS,
    Format,
    check_packages,
    trace_image_part,
    trace_text_part,
    write_program,
)
from frozenseg.export.image_part import ImagePart, exportable_members
from frozenseg.export.text_part import TextPart, tokenizer_table
from frozenseg.io.writing import write_text
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.towers.clip import ClipModel
from frozenseg.vocabulary.templates import VILD_TEMPLATES
from frozenseg.vocabulary.vocabulary import Vocabulary

TABLE = "model.json"


def export_model(cfg: CfgNode, folder: Path, format: Format) -> list[Path]:
    """Writes ``image`` and ``text`` in the format, and ``model.json``; returns the files.

    Args:
        cfg: the configuration; ``MODEL.WEIGHTS`` are the trained weights.
        folder: is created if it does not exist.
        format: ``onnx`` or ``torch-export``.

    Raises:
        UserError: the system cannot be exported, a package is missing, or a file cannot be written.
    """
    check_packages(format)
    model = load_model(cfg, cfg.MODEL.WEIGHTS)
    exportable_members(model)
    clip = model.text_encoder
    assert isinstance(clip, ClipModel), "the CLIP of such a proposer is a tower"
    table = model_table(cfg, model, clip, build_trained_vocabulary(cfg))
    image, text = (folder / f"{name}{ENDINGS[format]}" for name in ("image", "text"))
    program = trace_text_part(TextPart(clip), context_length=table["tokenizer"]["context_length"])
    write_program(program, text, format, inputs=TEXT_INPUTS, outputs=TEXT_OUTPUTS)
    program = trace_image_part(ImagePart(model))
    write_program(program, image, format, inputs=IMAGE_INPUTS, outputs=IMAGE_OUTPUTS)
    write_text(folder / TABLE, json.dumps(table, indent=1))
    return [image, text, folder / TABLE]


def model_table(
    cfg: CfgNode, model: SegmentationModel, clip: ClipModel, trained: Vocabulary
) -> dict[str, Any]:
    """Returns what a program needs beside the graphs; ``docs/export.md`` explains each entry.

    Args:
        cfg: the configuration.
        model: that is exported.
        clip: its text encoder.
        trained: the classes that it was trained on.
    """
    test = cfg.MODEL.MASK_FORMER.TEST
    return {
        "side_multiple": exportable_members(model)[0].size_divisibility,
        "short_side": cfg.INPUT.MIN_SIZE_TEST,
        "long_side": cfg.INPUT.MAX_SIZE_TEST,
        "object_threshold": test.OBJECT_MASK_THRESHOLD,
        "overlap_threshold": test.OVERLAP_THRESHOLD,
        "templates": list(VILD_TEMPLATES),
        "seen": sorted({word for synonyms in trained.synonyms for word in synonyms}),
        "towers": {"clip": clip.name, "sam": cfg.MODEL.SAM_NAME},
        "opset": OPSET,
        "tokenizer": tokenizer_table(clip),
    }
