"""The paper's tables as data: models, measures and printed values."""

from typing import NamedTuple

Figures = tuple[float | None, ...]


class Column(NamedTuple):
    """One measure on one data set."""

    dataset: str  # a file below configs/eval
    title: str  # the paper's heading
    measure: str  # name in metrics.json


class Row(NamedTuple):
    """One model of a table.

    Args:
        title: heading of the row.
        config: file below configs/.
        weights: name of the weights, the stem of the configuration that trains them; "" for none.
        paper: one value per column, None if the paper has none.
        sam_masks_on: data sets for which the paper used the OpenSeg ensemble (eq. 4).
        overrides: configuration keys and values.
    """

    title: str
    config: str
    weights: str
    paper: Figures
    sam_masks_on: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()


class PaperTable(NamedTuple):
    """A table; ``overrides`` apply to every row."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    overrides: tuple[str, ...] = ()


OVSEG_TABLES = ("ovseg", "ovseg_partners")  # of the shapes world, without values of the paper
PQ, AP, MIOU, FWIOU = "panoptic/PQ", "instance/AP", "semantic/mIoU", "semantic/FWIoU"
SAM_MASKS = ("MODEL.MASK_ENSEMBLE.ENABLED", "True")
RECALL_ALONE = (
    *("MODEL.MASK_FORMER.TEST.PANOPTIC_ON", "False"),
    *("MODEL.MASK_FORMER.TEST.SEMANTIC_ON", "False"),
    *("MODEL.MASK_FORMER.TEST.INSTANCE_ON", "False"),
    *("MODEL.MASK_FORMER.TEST.RECALL_ON", "True"),
)
SEMANTIC_ALONE = (
    *("MODEL.MASK_FORMER.TEST.PANOPTIC_ON", "False"),
    *("MODEL.MASK_FORMER.TEST.INSTANCE_ON", "False"),
)
WITH_SAM = ("ade20k_150", "ade20k_847", "pascal_context_459")  # where the paper's rows use eq. 4

FCCLIP_RN, FROZENSEG_RN = "fcclip_rn50x64", "frozenseg_rn50x64"
OVSEG_SMALL, OVSEG_LARGE = "ovseg_r101c_vit_b16", "ovseg_swin_base_vit_l14"
FCCLIP, FROZENSEG = "fcclip_convnext_large", "frozenseg_convnext_large"


def columns(dataset: str, **measures: str) -> tuple[Column, ...]:
    """Columns of one data set: measures by title, with underscores for spaces."""
    return tuple(
        Column(dataset, title.replace("_", " "), measure) for title, measure in measures.items()
    )


def _model(title: str, name: str, *paper: float, sam: tuple[str, ...] = ()) -> Row:
    return Row(title, f"{name}.yaml", name, paper, sam_masks_on=sam)


def _ovseg(title: str, name: str, *paper: float | None, **options: str | tuple[str, ...]) -> Row:
    weights = options.pop("weights", name)
    overrides = options.pop("overrides", ())
    return Row(title, f"ovseg/{name}.yaml", str(weights), paper, overrides=tuple(overrides))


def ablation(
    title: str, name: str, *paper: float | None, trained_as: str | None = None, **options: tuple
) -> Row:
    weights = name if trained_as is None else trained_as
    return Row(title, f"ablations/{name}.yaml", weights, paper, **options)


_COCO = columns("coco_panoptic", PQ=PQ, AP=AP, mIoU=MIOU)
_ADE = columns("ade20k_150", PQ=PQ, AP=AP, mIoU=MIOU)
_CITIES = columns("cityscapes", PQ=PQ, AP="cityscapes/AP", mIoU="cityscapes/IoU")
_VISTAS = columns("mapillary_vistas", PQ=PQ, mIoU=MIOU)


def _semantic(dataset: str) -> tuple[Column, ...]:
    return columns(dataset, mIoU=MIOU, FWIoU=FWIOU)


def recall(dataset: str, *groups: str) -> tuple[Column, ...]:
    return tuple(
        Column(dataset, f"{group} {percent}", f"recall/{group}/R{percent}")
        for group in groups
        for percent in (50, 75, 90)
    )


TABLE_1 = PaperTable(
    "Table 1: open-vocabulary panoptic segmentation",
    (
        *_ADE,
        *_CITIES,
        *_VISTAS,
        *columns("bdd100k_panoptic", PQ=PQ),
        *columns("bdd100k_semantic", mIoU=MIOU),
        *_COCO,
    ),
    (
        _model(
            "FC-CLIP RN50x64",
            FCCLIP_RN,
            *(21.3, 13.2, 28.7, 42.6, 27.3, 55.1, 18.2, 27.4, 13.8, 41.4, 55.3, 46.5, 64.8),
        ),
        _model(
            "FrozenSeg RN50x64",
            FROZENSEG_RN,
            *(23.1, 13.5, 30.7, 45.2, 28.9, 56.0, 18.1, 27.7, 12.9, 46.2, 55.7, 47.4, 65.4),
            sam=WITH_SAM,
        ),
        _model(
            "FC-CLIP ConvNeXt-L",
            FCCLIP,
            *(25.1, 16.4, 32.8, 44.3, 27.9, 56.0, 18.1, 27.9, 17.9, 49.4, 56.4, 47.4, 65.3),
        ),
        _model(
            "FrozenSeg ConvNeXt-L",
            FROZENSEG,
            *(25.9, 16.4, 34.4, 45.8, 28.4, 56.8, 18.5, 27.3, 19.3, 52.3, 56.2, 47.3, 65.5),
            sam=WITH_SAM,
        ),
    ),
)

TABLE_2 = PaperTable(
    "Table 2: open-vocabulary semantic segmentation",
    tuple(
        column
        for dataset in ("pascal_context_459", "pascal_voc_21", "ade20k_847", "ade20k_150")
        for column in _semantic(dataset)
    ),
    (
        _model("FC-CLIP RN50x64", FCCLIP_RN, 15.6, 50.0, 81.1, 91.4, 10.8, 44.6, 28.7, 52.5),
        _model(
            "FrozenSeg RN50x64",
            FROZENSEG_RN,
            *(18.7, 60.1, 82.3, 92.1, 11.8, 52.8, 30.7, 56.6),
            sam=WITH_SAM,
        ),
        _model("FC-CLIP ConvNeXt-L", FCCLIP, 17.3, 56.7, 83.0, 92.4, 14.0, 48.1, 32.8, 56.1),
        _model(
            "FrozenSeg ConvNeXt-L",
            FROZENSEG,
            *(19.7, 60.2, 82.5, 92.1, 14.8, 51.4, 34.4, 59.9),
            sam=WITH_SAM,
        ),
        _ovseg(
            "OVSeg R101c, ViT-B/16",
            OVSEG_SMALL,
            *(11.0, None) + (None,) * 2 + (7.1, None, 24.8, None),
        ),
        _ovseg(
            "OVSeg Swin-B, ViT-L/14",
            OVSEG_LARGE,
            *(12.4, None) + (None,) * 2 + (9.0, None, 29.6, None),
        ),
    ),
)

TABLE_3 = PaperTable(
    "Table 3: open-vocabulary instance segmentation, rare classes",
    columns("lvis_v1", APr="lvis/APr"),
    (_model("FC-CLIP ConvNeXt-L", FCCLIP, 25.0), _model("FrozenSeg ConvNeXt-L", FROZENSEG, 25.6)),
)

BASELINE, INJECTORS = "table4_2_baseline", "table4_5_injectors"
QUERY, FEATURE = "table4_4_query_injector", "table4_feature_injector"

TABLE_4 = PaperTable(
    "Table 4: contribution of each part",
    (
        *columns("pascal_context_459", mIoU=MIOU),
        *columns("ade20k_847", mIoU=MIOU),
        *_ADE,
    ),
    (
        ablation(
            "(1) only SAM",
            "table4_1_only_sam",
            *(6.6, 6.5, None, None, 25.4),
            trained_as="",
            overrides=SEMANTIC_ALONE,
        ),
        ablation("(2) baseline", BASELINE, 17.3, 14.0, 25.1, 16.4, 32.8),
        ablation(
            "(3) + ensemble",
            "table4_3_ensemble",
            *(17.6, 14.5, None, None, 33.5),
            trained_as=BASELINE,
        ),
        ablation("(4) query injector", QUERY, 18.1, 14.2, 25.7, 16.5, 33.6),
        ablation(
            "query injector + ensemble",
            "table4_query_injector_ensemble",
            *(None,) * 5,
            trained_as=QUERY,
        ),
        ablation("feature injector", FEATURE, *(None,) * 5),
        ablation(
            "feature injector + ensemble",
            "table4_feature_injector_ensemble",
            *(None,) * 5,
            trained_as=FEATURE,
        ),
        ablation("(5) both injectors", INJECTORS, 18.5, 14.4, 25.9, 16.5, 33.8),
        ablation(
            "(6) FrozenSeg: both + ensemble",
            "table4_6_frozenseg",
            *(19.7, 14.8, None, None, 34.4),
            trained_as=INJECTORS,
        ),
    ),
)

TABLE_5 = PaperTable(
    "Table 5: where to inject queries, after 55,000 iterations",
    (*_COCO, *_CITIES),
    (
        ablation("1/32: layers 1, 4, 7", "table5_1_32", 52.6, 42.7, 62.6, 40.4, 20.8, 53.0),
        ablation("1/16: layers 2, 5, 8", "table5_1_16", 52.5, 42.5, 62.4, 40.1, 20.7, 53.3),
        ablation("1/8: layers 3, 6, 9", "table5_1_8", 52.7, 42.8, 62.7, 40.0, 21.6, 54.0),
    ),
)

TABLE_8 = PaperTable(
    "Table 8: recall of mask proposals, seen and unseen classes",
    (
        *recall("cityscapes", "seen", "unseen"),
        *recall("pascal_context_459", "seen", "unseen"),
        *recall("ade20k_847", "seen", "unseen"),
        *recall("pascal_voc_21", "seen"),
    ),
    (
        _model(
            "FC-CLIP ConvNeXt-L",
            FCCLIP,
            *(68.5, 45.6, 10.3, 21.4, 6.6, 0.0),
            *(91.2, 73.1, 43.3, 77.1, 55.0, 27.7),
            *(84.2, 59.6, 27.8, 65.8, 40.3, 13.8),
            *(90.6, 75.6, 49.0),
        ),
        _model(
            "FrozenSeg ConvNeXt-L",
            FROZENSEG,
            *(68.2, 46.0, 13.3, 24.2, 7.5, 0.1),
            *(92.6, 76.0, 47.0, 81.0, 59.9, 31.4),
            *(78.9, 52.3, 23.6, 82.9, 59.4, 24.6),
            *(92.0, 76.4, 46.1),
        ),
        Row(
            "FrozenSeg, SAM's masks too",
            f"{FROZENSEG}.yaml",
            FROZENSEG,
            (None,) * 21,
            overrides=SAM_MASKS,
        ),
    ),
    overrides=RECALL_ALONE,
)

TABLE_9 = PaperTable(
    "Table 9: SAM variants, without the OpenSeg ensemble",
    (
        *_CITIES,
        *_VISTAS,
        *_semantic("pascal_context_459"),
        *_semantic("ade20k_847"),
        *_semantic("pascal_context_59"),
    ),
    (
        ablation(
            "ViT-T",
            "table9_sam_vit_t",
            *(43.0, 25.9, 55.0, 18.6, 28.0, 17.6, 57.0, 14.0, 48.1, 56.8, 66.1),
        ),
        ablation(
            "ViT-B",
            "table9_sam_vit_b",
            *(45.8, 28.4, 56.8, 18.5, 27.3, 18.5, 59.0, 14.4, 51.5, 58.1, 68.7),
        ),
        ablation(
            "ViT-L",
            "table9_sam_vit_l",
            *(44.2, 27.1, 56.2, 18.5, 27.5, 17.4, 57.0, 14.2, 48.6, 56.7, 66.2),
        ),
        ablation(
            "ViT-H",
            "table9_sam_vit_h",
            *(44.2, 28.0, 56.2, 18.4, 27.4, 17.3, 56.7, 13.9, 48.1, 56.6, 66.2),
        ),
    ),
)

# OVSeg's own tables; weights are whole files, or a proposer with CLIP_PRETRAINED_WEIGHTS set
PROPOSALS_ALONE = (
    *("MODEL.PIPELINE.FUSION", "geometric"),
    *("MODEL.FROZEN_SEG.GEOMETRIC_ENSEMBLE_ALPHA", "0.0"),
    *("MODEL.FROZEN_SEG.GEOMETRIC_ENSEMBLE_BETA", "0.0"),
)
CLIP_ALONE = ("MODEL.OVSEG.EXPONENT", "0.0")

OVSEG = PaperTable(
    "OVSeg: open-vocabulary semantic segmentation",
    tuple(
        column
        for dataset in (
            *("ade20k_847", "pascal_context_459", "ade20k_150"),
            *("pascal_context_59", "pascal_voc_20"),
        )
        for column in columns(dataset, mIoU=MIOU)
    ),
    (
        _ovseg("R101c, ViT-B/16", OVSEG_SMALL, 7.1, 11.0, 24.8, 53.3, 92.6),
        _ovseg("Swin-B, ViT-L/14", OVSEG_LARGE, 9.0, 12.4, 29.6, 55.7, 94.5),
    ),
)

_ORIGINAL = f"{OVSEG_LARGE}_original"  # of the CLIP in a whole file: as published, without prompts
_NO_PROMPTS = ("MODEL.OVSEG.PROMPT_DEPTH", "0")

OVSEG_PARTS = PaperTable(
    "OVSeg Swin-B, ViT-L/14: proposals alone, CLIP alone, and both",
    columns("ade20k_150", mIoU=MIOU),
    (
        _ovseg("proposals alone", OVSEG_LARGE, 19.6, overrides=PROPOSALS_ALONE),
        _ovseg("CLIP alone", OVSEG_LARGE, 25.1, overrides=CLIP_ALONE),
        _ovseg("both", OVSEG_LARGE, 29.6),
        _ovseg(
            "original CLIP alone",
            OVSEG_LARGE,
            14.3,
            weights=_ORIGINAL,
            overrides=(*_NO_PROMPTS, *CLIP_ALONE),
        ),
        _ovseg("original CLIP, both", OVSEG_LARGE, 21.8, weights=_ORIGINAL, overrides=_NO_PROMPTS),
    ),
)


def _depths(stage: str, *paper: float) -> tuple[Row, ...]:
    return tuple(
        _ovseg(
            f"{stage}, depth {depth}",
            OVSEG_LARGE,
            value,
            weights=f"{OVSEG_LARGE}_{stage}_depth_{depth}",
            overrides=("MODEL.OVSEG.PROMPT_DEPTH", str(depth)),
        )
        for depth, value in zip((1, 3, 6, 12), paper, strict=True)
    )


OVSEG_DEPTH = PaperTable(
    "OVSeg Swin-B, ViT-L/14: depth of the mask prompts, without and with fine-tuning",
    columns("ade20k_150", mIoU=MIOU),
    (*_depths("mpt", 25.7, 26.5, 26.8, 26.8), *_depths("ft_mpt", 29.3, 29.6, 29.4, 29.3)),
)

TABLES = {
    "ovseg": OVSEG,
    "ovseg_parts": OVSEG_PARTS,
    "ovseg_depth": OVSEG_DEPTH,
    "table1": TABLE_1,
    "table2": TABLE_2,
    "table3": TABLE_3,
    "table4": TABLE_4,
    "table5": TABLE_5,
    "table8": TABLE_8,
    "table9": TABLE_9,
}
