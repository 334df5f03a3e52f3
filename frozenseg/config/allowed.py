"""The values that each configuration key may have, and the check of a whole configuration."""

from collections.abc import Iterator, Mapping
from typing import Any

from fvcore.common.config import CfgNode

from frozenseg.config.rules import Rule, number, one_of, sequence, switch, text, whole
from frozenseg.errors import ConfigError
from frozenseg.io.text import quoted

NUM_GROUPS = 32  # of every group normalization in the pixel decoder

_ANY = text()
_PATHS = sequence(_ANY)
_SHARE = number(0, 1)
_FACTOR = number(0, 1e6)
_SIZE_PX = whole(1, 32768)
_WIDTH = whole(1, 16384)
_LAYERS = whole(1, 100)
_RATE = number(0, 100)
_COUNT = whole(0, 10**9)
_LAYER_NUMBERS = sequence(_LAYERS, longest=100)

_CLIP: dict[str, Rule] = {
    "CLIP_MODEL_NAME": _ANY,
    "CLIP_PRETRAINED_WEIGHTS": _ANY,
    "EMBED_DIM": _WIDTH,
    "GEOMETRIC_ENSEMBLE_ALPHA": _SHARE,
    "GEOMETRIC_ENSEMBLE_BETA": _SHARE,
    "ENSEMBLE_ON_VALID_MASK": switch(),
}
_RESNETS: dict[str, Rule] = {
    "DEPTH": _COUNT,
    "NORM": one_of("FrozenBN", "BN"),
    "STEM_TYPE": _ANY,
    "STEM_OUT_CHANNELS": _COUNT,
    "STRIDE_IN_1X1": switch(),
    "OUT_FEATURES": _PATHS,
    "RES5_MULTI_GRID": sequence(_COUNT),
}
_SWIN: dict[str, Rule] = {
    "EMBED_DIM": _WIDTH,
    "DEPTHS": sequence(_LAYERS, length=4),
    "NUM_HEADS": sequence(whole(1, 256), length=4),
    "WINDOW_SIZE": whole(2, 64),
    "DROP_PATH_RATE": number(0, 0.99),
}
_OVSEG: dict[str, Rule] = {
    "MASK_THRESHOLD": _SHARE,
    "PROMPT_DEPTH": whole(0, 100),
    "EXPONENT": _SHARE,
    "INVALID_MASKS": one_of("exclude", "official"),
    "PRECISION": one_of("auto", "float32", "bfloat16"),
}
_MASK_ADAPTER: dict[str, Rule] = {
    "NAME": one_of("MASKAdapterHead"),
    "MASK_IN_CHANNELS": whole(8, 1024),
    "NUM_CHANNELS": _WIDTH,
    "NUM_OUTPUT_MAPS": whole(1, 1024),
    "MASK_THRESHOLD": _SHARE,
    "USE_CHECKPOINT": switch(),
    "TRAIN_MAFT": switch(),
    "TRAIN_PHASE": one_of("ground_truth", "mixed"),
    "NUM_GT_MASKS": whole(1, 1000),
    "NUM_PRED_MASKS": whole(1, 1000),
    "IOU_THRESHOLD": _SHARE,
    "COS_WEIGHT": _FACTOR,
}
_MASK_ENSEMBLE: dict[str, Rule] = {
    "ENABLED": switch(),
    "EPSILON": _SHARE,
    "THRESHOLD": _SHARE,
    "SAM_NAME": _ANY,
    "SAM_WEIGHTS": _ANY,
    "CACHE": _ANY,
    "POINTS_PER_SIDE": whole(1, 256),
    "POINTS_PER_BATCH": whole(1, 65536),
    "IOU_THRESHOLD": _SHARE,
    "STABILITY_THRESHOLD": _SHARE,
    "NMS_THRESHOLD": _SHARE,
    "MIN_REGION_PX": _COUNT,
    "MAX_MASKS": whole(1, 10_000),
}
_HEAD: dict[str, Rule] = {
    "NAME": one_of("FrozenSegHead", "FCCLIPHead"),
    "IGNORE_VALUE": whole(0, 65535),
    "NUM_CLASSES": whole(1, 100_000),
    "LOSS_WEIGHT": _FACTOR,
    "CONVS_DIM": _WIDTH,
    "MASK_DIM": _WIDTH,
    "NORM": one_of("GN"),
    "EMBEDDING_DIM": _WIDTH,
    "EMBED_HIDDEN_DIM": _WIDTH,
    "COMMON_STRIDE": whole(1, 32),
    "PIXEL_DECODER_NAME": one_of("MSDeformAttnPixelDecoder"),
    "IN_FEATURES": _PATHS,
    "DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES": _PATHS,
    "TRANSFORMER_ENC_LAYERS": _LAYERS,
    "DIM_FEEDFORWARD": _WIDTH,
}
_MASK_FORMER: dict[str, Rule] = {
    "TRANSFORMER_DECODER_NAME": one_of("MultiScaleMaskedTransformerDecoder"),
    "TRANSFORMER_IN_FEATURE": _ANY,
    "DEEP_SUPERVISION": switch(),
    "NO_OBJECT_WEIGHT": _FACTOR,
    "CLASS_WEIGHT": _FACTOR,
    "MASK_WEIGHT": _FACTOR,
    "DICE_WEIGHT": _FACTOR,
    "HIDDEN_DIM": _WIDTH,
    "NUM_OBJECT_QUERIES": whole(1, 10_000),
    "NHEADS": whole(1, 256),
    "DROPOUT": number(0, 0.99),
    "DIM_FEEDFORWARD": _WIDTH,
    "ENC_LAYERS": one_of(0),
    "PRE_NORM": one_of(False),
    "ENFORCE_INPUT_PROJ": switch(),
    "SIZE_DIVISIBILITY": whole(1, 4096),
    "DEC_LAYERS": whole(2, 101),
    "TRAIN_NUM_POINTS": whole(1, 10**7),
    "OVERSAMPLE_RATIO": number(1, 100),
    "IMPORTANCE_SAMPLE_RATIO": _SHARE,
    "TEST.SEMANTIC_ON": switch(),
    "TEST.INSTANCE_ON": switch(),
    "TEST.PANOPTIC_ON": switch(),
    "TEST.RECALL_ON": switch(),
    "TEST.OBJECT_MASK_THRESHOLD": _SHARE,
    "TEST.OVERLAP_THRESHOLD": _SHARE,
}
_SOLVER: dict[str, Rule] = {
    "OPTIMIZER": one_of("ADAMW"),
    "IMS_PER_BATCH": whole(1, 1_000_000),
    "BASE_LR": _RATE,
    "MAX_ITER": whole(1, 10**9),
    "STEPS": sequence(_COUNT),
    "GAMMA": _RATE,
    "LR_SCHEDULER_NAME": one_of("WarmupMultiStepLR", "WarmupCosineLR", "WarmupPolyLR"),
    "WARMUP_FACTOR": _SHARE,
    "WARMUP_ITERS": _COUNT,
    "WEIGHT_DECAY": _RATE,
    "WEIGHT_DECAY_NORM": _RATE,
    "WEIGHT_DECAY_EMBED": _RATE,
    "BACKBONE_MULTIPLIER": _RATE,
    "CHECKPOINT_PERIOD": _COUNT,  # 0: only at the end
    "CLIP_GRADIENTS.ENABLED": switch(),
    "CLIP_GRADIENTS.CLIP_TYPE": one_of("full_model"),
    "CLIP_GRADIENTS.CLIP_VALUE": number(0, 1e9, above=True),
    "CLIP_GRADIENTS.NORM_TYPE": number(0, float("inf"), above=True),
    "AMP.ENABLED": switch(),
    "AMP.DTYPE": one_of("bfloat16", "float16"),
}


def _below(section: str, rules: Mapping[str, Rule]) -> dict[str, Rule]:
    return {f"{section}.{name}": rule for name, rule in rules.items()}


ALLOWED: dict[str, Rule] = {
    "VERSION": one_of(1, 2),
    "OUTPUT_DIR": text(".+", "the path of a folder"),
    "SEED": whole(-(2**31), 2**31 - 1),
    "MODEL.META_ARCHITECTURE": one_of("FrozenSeg", "FCCLIP"),
    "MODEL.PIPELINE.PROPOSER": one_of("mask2former", "maskformer", "sam_points"),
    "MODEL.PIPELINE.REGION_CLASSIFIER": one_of("pooled_map", "masked_crops", "mask_adapter"),
    "MODEL.PIPELINE.REGION_CLIP_NAME": _ANY,
    "MODEL.PIPELINE.REGION_CLIP_WEIGHTS": _ANY,
    "MODEL.PIPELINE.TEXT_ROWS": one_of("synonyms", "literal", "content"),
    "MODEL.PIPELINE.FUSION": one_of("geometric", "clip_alone", "product"),
    "MODEL.COMPILE": switch(),
    "MODEL.PRECISION": one_of("float32", "bfloat16", "float16", "auto"),
    "MODEL.DEVICE": text(
        r"auto|cpu|mps|cuda(:\d{1,3})?", "auto, cpu, cuda, mps or one GPU such as cuda:1"
    ),
    "MODEL.WEIGHTS": _ANY,
    "MODEL.WEIGHTS_TOWERS": one_of("compare", "skip", "use"),
    "MODEL.PIXEL_MEAN": sequence(number(0, 255), length=3),
    "MODEL.PIXEL_STD": sequence(number(0, 1000, above=True), length=3),
    "MODEL.SAM_NAME": _ANY,
    "MODEL.SAM_WEIGHTS": _ANY,
    "MODEL.BACKBONE.NAME": one_of("CLIP", "swin", "r101c"),
    "MODEL.BACKBONE.WEIGHTS": _ANY,
    "MODEL.BACKBONE.FREEZE": switch(),
    "MODEL.BACKBONE.FREEZE_AT": whole(-1, 5),
    **_below("MODEL.RESNETS", _RESNETS),
    **_below("MODEL.SWIN", _SWIN),
    **_below("MODEL.OVSEG", _OVSEG),
    **_below("MODEL.MASK_ADAPTER", _MASK_ADAPTER),
    "MODEL.MAFT_PLUS.CDT_FORM": one_of("semantic", "panoptic"),
    "MODEL.MAFT_PLUS.CDT_HEADS": whole(1, 256),
    "MODEL.MAFT_PLUS.IMAGE_MAP": one_of("from_weights", "scrambled", "straight"),
    "MODEL.MAFT_PLUS.RANKING_WEIGHT": _FACTOR,
    "MODEL.MAFT_PLUS.RC_WEIGHT": _FACTOR,
    "MODEL.OVRCOAT.CE_WEIGHT": _FACTOR,
    "MODEL.OVRCOAT.CLIP_TRUST_WEIGHT": _SHARE,
    "MODEL.OVRCOAT.COAT_OUTPUTS": one_of("panoptic", "all"),
    **_below("MODEL.FROZEN_SEG", _CLIP),
    "MODEL.FROZEN_SEG.QUERY_INJECTOR_LAYERS": _LAYER_NUMBERS,
    "MODEL.FROZEN_SEG.FEATURE_INJECTOR_LAYERS": _LAYER_NUMBERS,
    "MODEL.FROZEN_SEG.SAM_ATTENTION_LAYOUT": one_of("from_weights", "single_level", "three_level"),
    **_below("MODEL.FC_CLIP", _CLIP),
    **_below("MODEL.MASK_ENSEMBLE", _MASK_ENSEMBLE),
    **_below("MODEL.SEM_SEG_HEAD", _HEAD),
    **_below("MODEL.MASK_FORMER", _MASK_FORMER),
    "INPUT.FORMAT": one_of("RGB"),
    "INPUT.DATASET_MAPPER_NAME": one_of("coco_panoptic_lsj", "mask_former_semantic"),
    "INPUT.IMAGE_SIZE": _SIZE_PX,
    "INPUT.MIN_SCALE": number(0, 100, above=True),
    "INPUT.MAX_SCALE": number(0, 100, above=True),
    "INPUT.MIN_SIZE_TRAIN": sequence(_SIZE_PX, longest=100),
    "INPUT.MAX_SIZE_TRAIN": _SIZE_PX,
    "INPUT.COLOR_AUG_SSD": switch(),
    "INPUT.RANDOM_FLIP": one_of("horizontal", "none"),
    "INPUT.KEEP_EMPTY_TARGETS": switch(),
    "INPUT.MIN_SIZE_TEST": _SIZE_PX,
    "INPUT.MAX_SIZE_TEST": _SIZE_PX,
    "DATASETS.TRAIN": _PATHS,
    "DATASETS.TEST": _PATHS,
    "DATASETS.TRAIN_VOCABULARY": _ANY,
    "DATASETS.TEST_VOCABULARY": _PATHS,
    "DATALOADER.NUM_WORKERS": whole(0, 512),
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": switch(),
    **_below("SOLVER", _SOLVER),
    "TEST.EVAL_PERIOD": _COUNT,
    "TEST.DETECTIONS_PER_IMAGE": whole(1, 100_000),
    "TEST.IMS_PER_BATCH": whole(1, 1024),
    "TEST.AUG.ENABLED": switch(),
    "TEST.AUG.MIN_SIZES": sequence(_SIZE_PX, longest=100),
    "TEST.AUG.MAX_SIZE": _SIZE_PX,
    "TEST.AUG.FLIP": switch(),
}


def check_config(cfg: CfgNode, *, sources: Mapping[str, str] | None = None) -> None:
    """Checks every value against its type and range, and values that depend on each other.

    Args:
        cfg: a whole configuration; keys that this project does not know are passed over.
        sources: where keys got their values (a file, the command line), for messages.

    Raises:
        ConfigError: the first value that is not allowed, with its key and what is.
    """
    values = dict(_values(cfg))
    for key, value in values.items():
        rule = ALLOWED.get(key)
        if rule is not None and not rule.fits(value):
            source = (sources or {}).get(key)
            place = f"{source}: " if source else ""
            raise ConfigError(f"{place}{key} must be {rule.expected}; got {quoted(value)}")
    _check_widths(values)
    _check_layers(values)
    if values["INPUT.MIN_SCALE"] > values["INPUT.MAX_SCALE"]:
        raise ConfigError(
            f"INPUT.MIN_SCALE is {values['INPUT.MIN_SCALE']} but INPUT.MAX_SCALE is "
            f"{values['INPUT.MAX_SCALE']}: set the first to at most the second"
        )


def fixed_keys() -> set[str]:
    """Returns the keys that have one allowed value, so that nothing needs to read them."""
    return {key for key, rule in ALLOWED.items() if len(rule.choices) == 1}


def _values(cfg: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from _values(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _check_widths(values: Mapping[str, Any]) -> None:
    width_key, hidden_key = "MODEL.SEM_SEG_HEAD.CONVS_DIM", "MODEL.MASK_FORMER.HIDDEN_DIM"
    width, hidden = values[width_key], values[hidden_key]
    if width != hidden:
        raise ConfigError(f"{width_key} is {width} but {hidden_key} is {hidden}: set both alike")
    heads = values["MODEL.MASK_FORMER.NHEADS"]
    for divisor, of in ((heads, "MODEL.MASK_FORMER.NHEADS"), (NUM_GROUPS, "the groups of GN")):
        if width % divisor:
            raise ConfigError(
                f"{width_key} is {width}, which {of} ({divisor}) does not divide: set it to a "
                f"multiple of {divisor}"
            )


def _check_layers(values: Mapping[str, Any]) -> None:
    if values["MODEL.PIPELINE.PROPOSER"] == "maskformer":
        return  # it has no injectors
    num_layers = values["MODEL.MASK_FORMER.DEC_LAYERS"] - 1
    for name in ("QUERY_INJECTOR_LAYERS", "FEATURE_INJECTOR_LAYERS"):
        layers = values[f"MODEL.FROZEN_SEG.{name}"]
        outside = [layer for layer in layers if layer > num_layers]
        if outside:
            raise ConfigError(
                f"MODEL.FROZEN_SEG.{name} names layer {outside[0]}: layers are 1 to {num_layers}"
            )
