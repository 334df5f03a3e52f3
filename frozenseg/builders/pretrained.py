"""Models as folders in the Hugging Face hub's layout: config.json, model.safetensors, README.md."""

import json
from collections.abc import Mapping
from pathlib import Path

from fvcore.common.config import CfgNode

from frozenseg.builders.clips import clip_keys
from frozenseg.builders.frozenseg import uses_sam
from frozenseg.builders.vocabularies import build_trained_vocabulary
from frozenseg.builders.weight_conversion import stores_clip, trained_weights
from frozenseg.checkpoint.class_names import CLASSES, classes_note
from frozenseg.checkpoint.weights import write_trained
from frozenseg.config.models import FOLDER_JSON, FOLDER_WEIGHTS
from frozenseg.io.digest import DIGEST
from frozenseg.io.writing import write_text

CARD = "README.md"
OWN_NOTES = ("format", DIGEST, CLASSES)  # rewritten by this project
LOCAL_KEYS = {"MODEL.WEIGHTS": "", "MODEL.DEVICE": "auto", "OUTPUT_DIR": "output"}


def save_pretrained(
    cfg: CfgNode,
    folder: Path,
    *,
    licence: str = "",
    metrics: Mapping[str, float] | None = None,
) -> list[Path]:
    """Writes a model without its frozen towers as a folder; returns the files.

    Args:
        cfg: the configuration; ``MODEL.WEIGHTS`` are the trained weights.
        folder: is created if it does not exist.
        licence: of the trained weights; empty: none stated.
        metrics: name and value of what was measured, for the model card.

    Raises:
        UserError: the weights do not fit, or a file cannot be written.
    """
    trained, notes = trained_weights(Path(cfg.MODEL.WEIGHTS), cfg)
    classes = build_trained_vocabulary(cfg)
    kept = {name: text for name, text in notes.items() if name not in OWN_NOTES}
    weights = folder / FOLDER_WEIGHTS[-1]
    write_trained(trained, weights, notes={**kept, **classes_note(classes)})
    write_text(folder / FOLDER_JSON, json.dumps(_portable(cfg), indent=1))
    write_text(folder / CARD, model_card(cfg, len(classes), licence=licence, metrics=metrics or {}))
    return [folder / FOLDER_JSON, weights, folder / CARD]


def model_card(
    cfg: CfgNode, num_classes: int, *, licence: str, metrics: Mapping[str, float]
) -> str:
    """Returns the text of a model card: data, metrics as given, licences of code and towers.

    Args:
        cfg: the configuration.
        num_classes: of the training vocabulary.
        licence: of the trained weights; empty: none stated.
        metrics: name and value of what was measured.
    """
    towers = [f"CLIP `{clip_keys(cfg).CLIP_MODEL_NAME}`"]
    towers += [f"SAM `{cfg.MODEL.SAM_NAME}`"] if uses_sam(cfg) else []
    included = "included, as they were trained" if stores_clip(cfg) else "not included"
    rows = [f"| {name} | {value:g} |" for name, value in metrics.items()]
    measured = ["| metric | value |", "|---|---|", *rows] if rows else ["None were given."]
    lines = [
        "---", "library_name: frozenseg", "pipeline_tag: image-segmentation",
        "tags: [open-vocabulary]", "---",
        "# Open-vocabulary segmentation with FrozenSeg", "",
        "```python", "import frozenseg", "",
        'segmenter = frozenseg.from_pretrained("this folder or repository")', "```", "",
        "## Data", "",
        f"Trained on {', '.join(cfg.DATASETS.TRAIN) or 'data that is not named'}: {num_classes} "
        "classes, whose names are stored in `model.safetensors`.", "",
        "## Metrics", "", *measured, "",
        "## Licences", "",
        "- code: Apache-2.0",
        f"- these trained weights: {licence or 'none stated'}",
        f"- towers, which are {included} ({', '.join(towers)}): those of their publishers",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def push_to_hub(folder: Path, repository: str, *, private: bool = False) -> str:
    """Uploads a folder of ``save_pretrained``; returns the address of the commit.

    Args:
        folder: what ``save_pretrained`` wrote.
        repository: ``owner/name``; is created if it does not exist.
        private: whether a new repository is private.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repository, private=private, exist_ok=True)
    names = [FOLDER_JSON, FOLDER_WEIGHTS[-1], CARD]
    found = api.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=names)
    return str(found.commit_url)


def _portable(cfg: CfgNode) -> dict[str, object]:
    """Returns all keys as plain values, without those that describe this machine."""
    cfg = cfg.clone()
    cfg.defrost()
    for key, value in LOCAL_KEYS.items():
        cfg.merge_from_list([key, value])
    return _plain(cfg)


def _plain(node: CfgNode) -> dict[str, object]:
    return {
        key: _plain(value) if isinstance(value, CfgNode) else value for key, value in node.items()
    }
