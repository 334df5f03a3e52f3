"""OVSeg in the shapes world: adaptations of the miniature CLIP, and all partners of the pipeline.

Every step is a public command (train, mine, adapt-clip) and is skipped once it is finished. Pairs
are mined from the masks of the shipped FrozenSeg, which also proposes in the table of adaptations:
its rows differ in CLIP alone, and no proposer needs to be trained for them.
"""

from pathlib import Path

from frozenseg.builders.adaptation import FINAL_CLIP
from frozenseg.cli.reproduction.paper import SEMANTIC_ALONE, columns
from frozenseg.cli.reproduction.seeded import DATASET, Rows, SeededTable, frozenseg, made
from frozenseg.config import model_files
from frozenseg.data.shapes.captions import IMAGES, write_captioned_scenes
from frozenseg.mining.folder import LIST
from frozenseg.training.checkpoints import FINAL_WEIGHTS

FOLDER, CONFIG, CLIP = "ovseg", "shapes/ovseg.yaml", "shapes_vit"
PROPOSER_SEED = 1  # one proposer and one set of pairs; seeds are those of the adaptations
NUM_SCENES, DEPTH = 100, 3
FINE_TUNING = ("--epochs", "3", "--lr", "0.0001")
PROMPT_TUNING = ("--epochs", "3", "--lr", "0.02")
SHARED = ("--batch-size", "64", "--warmup", "20", "--precision", "float32", "--workers", "0")
MIOU = columns(
    DATASET,
    seen_mIoU="semantic/seen/mIoU",
    unseen_mIoU="semantic/unseen/mIoU",
    mIoU="semantic/mIoU",
)
PRODUCT = ("MODEL.PIPELINE.FUSION", "product", "MODEL.PIPELINE.TEXT_ROWS", "literal")


def adaptation_rows(folder: Path, seed: int) -> Rows:
    """CLIP before and after each adaptation, on the masks of the shipped model."""
    config, head = model_files("shapes")
    start = [str(config), "MODEL.WEIGHTS", str(head), *PRODUCT]
    rows = {"original CLIP": [*start, *region_classifier_keys("masked_crops", CLIP, "", depth=0)]}
    for title, steps in (
        ("MPT only", ("prompts",)),
        ("FT only", ("image",)),
        ("FT + MPT", ("image", "prompts")),
    ):
        weights, depth = str(adapted_clip(folder, seed, *steps)), DEPTH * ("prompts" in steps)
        rows[title] = [*start, *region_classifier_keys("masked_crops", CLIP, weights, depth=depth)]
    return rows


def partner_rows(folder: Path, seed: int) -> Rows:
    """Each proposer with each region classifier, fused by the rule of the proposer's system."""
    config, head = model_files("shapes")
    proposers = {
        "mask2former": [str(config), "MODEL.WEIGHTS", str(head)],
        "maskformer": [CONFIG, "MODEL.WEIGHTS", str(proposer_weights(folder))],
        "sam_points": [
            *(str(config), "MODEL.PIPELINE.PROPOSER", "sam_points"),
            *("MODEL.PIPELINE.FUSION", "clip_alone"),
        ],
    }
    adapted = adapted_clip(folder, seed, "image", "prompts")
    classifiers = {
        "pooled_map": region_classifier_keys("pooled_map", "shapes", "", depth=0),
        "masked_crops": region_classifier_keys("masked_crops", CLIP, str(adapted), depth=DEPTH),
    }
    return {
        f"{proposer} x {classifier}": [*start, *keys]
        for proposer, start in proposers.items()
        for classifier, keys in classifiers.items()
    }


def region_classifier_keys(name: str, clip: str, weights: str, *, depth: int) -> list[str]:
    """Configuration keys and values of a region classifier with a CLIP of its own.

    Args:
        name: the region classifier.
        clip: its CLIP.
        weights: of the CLIP; "" for its own.
        depth: of the mask prompts.
    """
    return [
        *("MODEL.PIPELINE.REGION_CLASSIFIER", name),
        *("MODEL.PIPELINE.REGION_CLIP_NAME", clip),
        *("MODEL.PIPELINE.REGION_CLIP_WEIGHTS", weights),
        *("MODEL.OVSEG.PROMPT_DEPTH", str(depth)),
        *("MODEL.OVSEG.MASK_THRESHOLD", "0.5"),
    ]


TABLES = {
    "ovseg": SeededTable(
        "OVSeg in the shapes world: adaptation of CLIP",
        FOLDER,
        adaptation_rows,
        MIOU,
        SEMANTIC_ALONE,
    ),
    "ovseg_partners": SeededTable(
        "Proposers x region classifiers in the shapes world; CLIP of the crops: FT + MPT",
        FOLDER,
        partner_rows,
        MIOU,
        SEMANTIC_ALONE,
        seeds_matter=False,
    ),
}


def proposer_weights(folder: Path) -> Path:
    """Trains the MaskFormer unless it is finished, and returns its weights."""
    run = folder / "proposer"
    keys = ("SEED", str(PROPOSER_SEED), "DATASETS.TEST", "()")
    return made(
        run / FINAL_WEIGHTS,
        lambda: frozenseg("train", CONFIG, "--resume", "-o", run, *keys),
    )


def pairs(folder: Path) -> Path:
    """Mines pairs from captioned scenes unless that is finished, and returns their list."""
    scenes, output = folder / "scenes", folder / "pairs"

    def mine() -> None:
        captions = write_captioned_scenes(scenes, NUM_SCENES)
        options = ("--clip", CLIP, "--threshold", "0.5", "--phrases", "-o", output)
        frozenseg("mine", captions, scenes / IMAGES, "--model", "shapes", *options)

    return made(output / LIST, mine)


def adapted_clip(folder: Path, seed: int, *parts: str) -> Path:
    """Adapts CLIP part after part unless that is finished, and returns its weights."""
    *before, part = parts
    run = folder / "clip" / str(seed) / "_".join(parts)
    start = ("--clip-weights", adapted_clip(folder, seed, *before)) if before else ()
    options = PROMPT_TUNING if part == "prompts" else FINE_TUNING
    listed = pairs(folder)
    return made(
        run / FINAL_CLIP,
        lambda: frozenseg(
            *("adapt-clip", part, listed, "--clip", CLIP, *start, "--seed", seed, "-o", run),
            *(*options, *SHARED, "--mask-prompt-depth", DEPTH, "--resume"),
        ),
    )
