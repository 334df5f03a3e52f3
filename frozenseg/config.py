"""Every configuration key, its default and one line of meaning; YAML loading; typos named.

Keys carry Detectron2's names, so that official FrozenSeg and FC-CLIP files load unchanged. Only
``build_*`` functions read a config; nothing below them sees one.
"""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from fvcore.common.config import CfgNode

from frozenseg.errors import ConfigError

PACKAGE = Path(__file__).resolve().parent
# a wheel carries the files inside the package, a checkout beside it
CONFIG_ROOT = next(
    folder for folder in (PACKAGE / "configs", PACKAGE.parent / "configs") if folder.is_dir()
)

# set by official files; the model has no part that they could change
ACCEPTED_UNUSED = (
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS",  # without effect on panoptic records in Detectron2, too
    "MODEL.BACKBONE.FREEZE_AT",
    "MODEL.BACKBONE.NAME",
    "MODEL.MASK_FORMER.ENC_LAYERS",
    "MODEL.MASK_FORMER.ENFORCE_INPUT_PROJ",
    "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME",
    "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE",
    "MODEL.RESNETS.DEPTH",
    "MODEL.RESNETS.OUT_FEATURES",
    "MODEL.RESNETS.RES5_MULTI_GRID",
    "MODEL.RESNETS.STEM_OUT_CHANNELS",
    "MODEL.RESNETS.STEM_TYPE",
    "MODEL.RESNETS.STRIDE_IN_1X1",
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE",
    "MODEL.SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES",
    "MODEL.SEM_SEG_HEAD.IGNORE_VALUE",
    "MODEL.SEM_SEG_HEAD.IN_FEATURES",
    "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT",
    "MODEL.SEM_SEG_HEAD.NAME",
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
    "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME",
    "VERSION",
)


def default_config() -> CfgNode:
    """The paper's method on COCO panoptic, before any file is read."""
    cfg = CfgNode()
    cfg.VERSION = 2
    cfg.OUTPUT_DIR = "output"
    cfg.SEED = -1  # negative: not fixed
    cfg.MODEL = _model_keys()
    cfg.INPUT = _input_keys()
    cfg.DATASETS = CfgNode()
    cfg.DATASETS.TRAIN = ()
    cfg.DATASETS.TEST = ()
    cfg.DATASETS.TRAIN_VOCABULARY = ""  # a file with other words for the training classes
    cfg.DATASETS.TEST_VOCABULARY = ()  # the same for each of TEST; "" or (): the built-in words
    cfg.DATALOADER = CfgNode()
    cfg.DATALOADER.NUM_WORKERS = 4
    # without effect, as in official training: images without a segment are trained on, too
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = True
    cfg.SOLVER = _solver_keys()
    cfg.TEST = CfgNode()
    cfg.TEST.EVAL_PERIOD = 0  # iterations between evaluations while training; 0: only at the end
    cfg.TEST.DETECTIONS_PER_IMAGE = 100
    cfg.TEST.AUG = CfgNode()  # semantic results as means over variants of the image
    cfg.TEST.AUG.ENABLED = False
    cfg.TEST.AUG.MIN_SIZES = (640, 800, 960)  # short sides, pixels
    cfg.TEST.AUG.MAX_SIZE = 1333
    cfg.TEST.AUG.FLIP = True
    return cfg


def _model_keys() -> CfgNode:
    model = CfgNode()
    model.META_ARCHITECTURE = (
        # FrozenSeg; FCCLIP: no SAM, keys read from MODEL.FC_CLIP; OnlySAM: no trained part
        "FrozenSeg"
    )
    model.DEVICE = "auto"  # auto: cuda where there is one
    model.WEIGHTS = ""  # trained weights to start from: safetensors, or an official .pth
    model.WEIGHTS_TOWERS = "compare"  # frozen towers in that file: compare, skip or use them
    model.PIXEL_MEAN = [122.7709383, 116.7460125, 104.09373615]  # of the CLIP tower, RGB 0..255
    model.PIXEL_STD = [68.5005327, 66.6321579, 70.32316305]
    model.SAM_NAME = "vit_b"  # vit_t, vit_b, vit_l, vit_h, shapes
    model.SAM_WEIGHTS = ""  # local file; empty: by name, from the cache folder
    model.BACKBONE = CfgNode({"NAME": "CLIP", "FREEZE_AT": 0})
    model.RESNETS = CfgNode(
        {
            "DEPTH": 50,
            "STEM_TYPE": "basic",
            "STEM_OUT_CHANNELS": 64,
            "STRIDE_IN_1X1": False,
            "OUT_FEATURES": ["res2", "res3", "res4", "res5"],
            "RES5_MULTI_GRID": [1, 1, 1],
        }
    )
    model.FROZEN_SEG = _clip_keys()
    model.FROZEN_SEG.QUERY_INJECTOR_LAYERS = (3, 6, 9)  # counted from 1; () is off (eq. 1)
    model.FROZEN_SEG.FEATURE_INJECTOR_LAYERS = (1, 4, 7)  # counted from 1; () is off (eq. 2)
    # three_level: read the SAM branch's attention as the official kernel does (published weights
    # need it)
    model.FROZEN_SEG.SAM_ATTENTION_LAYOUT = "single_level"
    model.FC_CLIP = _clip_keys()
    model.MASK_ENSEMBLE = _mask_ensemble_keys()
    model.SEM_SEG_HEAD = _head_keys()
    model.MASK_FORMER = _mask_former_keys()
    return model


def _clip_keys() -> CfgNode:
    keys = CfgNode()
    keys.CLIP_MODEL_NAME = "convnext_large_d_320"  # an open_clip name, a folder, or shapes
    keys.CLIP_PRETRAINED_WEIGHTS = "laion2b_s29b_b131k_ft_soup"  # an open_clip tag or a local file
    keys.EMBED_DIM = 768
    keys.GEOMETRIC_ENSEMBLE_ALPHA = (
        0.4  # weight of the out-of-vocabulary classifier, seen classes (eq. 3)
    )
    keys.GEOMETRIC_ENSEMBLE_BETA = 0.8  # the same, unseen classes
    keys.ENSEMBLE_ON_VALID_MASK = (
        False  # leave the ensemble out for a mask without a pixel (ResNet towers)
    )
    return keys


def _mask_ensemble_keys() -> CfgNode:
    keys = CfgNode()
    keys.ENABLED = False  # SAM's zero-shot masks have a say in semantic results (eq. 4)
    keys.EPSILON = 0.2  # their weight for unseen classes
    keys.THRESHOLD = 0.5  # least probability of the best unseen class, for a mask to take part
    keys.SAM_NAME = "vit_h"  # whose masks; as MODEL.SAM_NAME, which need not be the same
    keys.SAM_WEIGHTS = ""
    keys.CACHE = ""  # folder of masks made before; empty: one for these settings in the cache
    keys.POINTS_PER_SIDE = 32  # of the grid of point prompts
    keys.POINTS_PER_BATCH = 64  # prompts at once
    keys.IOU_THRESHOLD = 0.8  # SAM's estimate of a mask's IoU must be above it
    keys.STABILITY_THRESHOLD = 0.7  # least IoU of the mask cut at logits 1 and -1
    keys.NMS_THRESHOLD = 0.7  # IoU of boxes above which the worse mask goes
    keys.MIN_REGION_PX = 100  # smaller holes and islands are no part of a mask's shape
    keys.MAX_MASKS = 50  # the largest stay
    return keys


def _head_keys() -> CfgNode:
    head = CfgNode()
    head.NAME = "FrozenSegHead"
    head.IGNORE_VALUE = 255
    head.NUM_CLASSES = 133
    head.LOSS_WEIGHT = 1.0
    head.CONVS_DIM = 256
    head.MASK_DIM = 256
    head.NORM = "GN"
    head.COMMON_STRIDE = 4
    head.PIXEL_DECODER_NAME = "MSDeformAttnPixelDecoder"
    head.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES = ["res3", "res4", "res5"]
    head.TRANSFORMER_ENC_LAYERS = 6
    head.DIM_FEEDFORWARD = 1024  # of the deformable encoders
    return head


def _mask_former_keys() -> CfgNode:
    former = CfgNode()
    former.TRANSFORMER_DECODER_NAME = "MultiScaleMaskedTransformerDecoder"
    former.TRANSFORMER_IN_FEATURE = "multi_scale_pixel_decoder"
    former.DEEP_SUPERVISION = True
    former.NO_OBJECT_WEIGHT = 0.1
    former.CLASS_WEIGHT = 2.0
    former.MASK_WEIGHT = 5.0
    former.DICE_WEIGHT = 5.0
    former.HIDDEN_DIM = 256
    former.NUM_OBJECT_QUERIES = 250
    former.NHEADS = 8
    former.DROPOUT = 0.0
    former.DIM_FEEDFORWARD = 2048
    former.ENC_LAYERS = 0
    former.PRE_NORM = False
    former.ENFORCE_INPUT_PROJ = False
    former.SIZE_DIVISIBILITY = 32
    former.DEC_LAYERS = (
        10  # predictions: the learned queries' and one per decoder layer, so 9 layers
    )
    former.TRAIN_NUM_POINTS = 12544
    former.OVERSAMPLE_RATIO = 3.0
    former.IMPORTANCE_SAMPLE_RATIO = 0.75
    former.TEST = CfgNode(
        {
            "SEMANTIC_ON": True,
            "INSTANCE_ON": True,
            "PANOPTIC_ON": True,
            "RECALL_ON": False,  # of mask proposals, whatever their class (Table 8)
            "OBJECT_MASK_THRESHOLD": 0.0,
            "OVERLAP_THRESHOLD": 0.8,
        }
    )
    return former


def _input_keys() -> CfgNode:
    keys = CfgNode()
    keys.FORMAT = "RGB"
    keys.DATASET_MAPPER_NAME = "coco_panoptic_lsj"
    keys.IMAGE_SIZE = 1024  # side of the training crop, pixels
    keys.MIN_SCALE = 0.1  # large-scale jitter
    keys.MAX_SCALE = 2.0
    keys.RANDOM_FLIP = "horizontal"  # or none
    # segments of which scaling and crop leave no pixel stay targets, as in official training
    keys.KEEP_EMPTY_TARGETS = True
    keys.MIN_SIZE_TEST = 800  # short side at test, pixels
    keys.MAX_SIZE_TEST = 1333
    return keys


def _solver_keys() -> CfgNode:
    solver = CfgNode()
    solver.OPTIMIZER = "ADAMW"
    solver.IMS_PER_BATCH = 16  # over all processes
    solver.BASE_LR = 1e-4
    solver.MAX_ITER = 368750
    solver.STEPS = (327778, 355092)
    solver.GAMMA = 0.1
    solver.LR_SCHEDULER_NAME = "WarmupMultiStepLR"  # or WarmupCosineLR
    solver.WARMUP_FACTOR = 1.0
    solver.WARMUP_ITERS = 10
    solver.WEIGHT_DECAY = 0.05
    solver.WEIGHT_DECAY_NORM = 0.0
    solver.WEIGHT_DECAY_EMBED = 0.0
    solver.BACKBONE_MULTIPLIER = (
        0.1  # of the learning rate; without effect while the backbone is frozen
    )
    solver.CHECKPOINT_PERIOD = 5000
    solver.CLIP_GRADIENTS = CfgNode(
        {"ENABLED": True, "CLIP_TYPE": "full_model", "CLIP_VALUE": 0.01, "NORM_TYPE": 2.0}
    )
    solver.AMP = CfgNode({"ENABLED": False, "DTYPE": "bfloat16"})  # float16 scales its loss
    return solver


def load_config(
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    over: Sequence[str | Path] = (),
) -> CfgNode:
    """Defaults, then the file with its ``_BASE_`` chain, then ``KEY VALUE`` pairs; frozen.

    A path that does not exist is also looked for under ``configs/``.

    Args:
        over: further files, of which only their own keys count, without those of their ``_BASE_``;
            they come before the pairs.

    Raises:
        ConfigError: an unknown key (the nearest known one is named), a value of a wrong type, a
            missing file.
    """
    cfg = default_config()
    if path is not None:
        _merge(cfg, _read_chain(_find(Path(path))), prefix="", source=str(path))
    for each in over:
        _merge(cfg, _read_alone(_find(Path(each))), prefix="", source=str(each))
    if len(overrides) % 2:
        raise ConfigError(f"overrides come in pairs KEY VALUE; '{overrides[-1]}' has no value")
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        _set(cfg, key, value, source="the command line")
    cfg.freeze()
    return cfg


def known_keys(cfg: CfgNode | None = None, prefix: str = "") -> list[str]:
    """Every leaf key, dotted."""
    cfg = default_config() if cfg is None else cfg
    names: list[str] = []
    for key, value in cfg.items():
        names += (
            known_keys(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else [prefix + key]
        )
    return names


def _find(path: Path) -> Path:
    for candidate in (path, CONFIG_ROOT / path, CONFIG_ROOT / path.with_suffix(".yaml")):
        if candidate.is_file():
            return candidate
    raise ConfigError(
        f"no configuration file {path}: give a YAML file, or a name under {CONFIG_ROOT}"
    )


def _read_alone(path: Path) -> CfgNode:
    """The file's own keys."""
    own = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return CfgNode({key: value for key, value in own.items() if key != "_BASE_"})


def _read_chain(path: Path) -> CfgNode:
    try:
        return CfgNode(CfgNode.load_yaml_with_base(str(path), allow_unsafe=False))
    except (yaml.YAMLError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"{path} is not a plain YAML mapping ({reason}): mend it and try again"
        ) from error
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path} names a _BASE_ file that does not exist: {error.filename}"
        ) from error


def _merge(cfg: CfgNode, loaded: CfgNode, *, prefix: str, source: str) -> None:
    for key, value in loaded.items():
        name = prefix + key
        if isinstance(value, dict) and isinstance(cfg.get(key), CfgNode):
            _merge(cfg[key], CfgNode(value), prefix=f"{name}.", source=source)
        elif key not in cfg:
            raise ConfigError(f"{source}: unknown key {name}{_nearest(name)}")
        else:
            _assign(cfg, key, value, name=name, source=source)


def _set(cfg: CfgNode, name: str, value: object, *, source: str) -> None:
    *parents, key = name.split(".")
    node: object = cfg
    for parent in parents:
        node = node.get(parent) if isinstance(node, CfgNode) else None
    if not isinstance(node, CfgNode) or key not in node or isinstance(node[key], CfgNode):
        raise ConfigError(f"{source}: unknown key {name}{_nearest(name)}")
    _assign(node, key, value, name=name, source=source)


def _assign(cfg: CfgNode, key: str, value: object, *, name: str, source: str) -> None:
    if isinstance(cfg[key], float) and re.fullmatch(r"[+-]?\d+", str(value)):
        value = float(str(value))  # 1 for 1.0 is no mistake
    pair: list[Any] = [key, value]
    try:
        cfg.merge_from_list(pair)
    except (ValueError, AssertionError) as error:
        wanted = type(cfg[key]).__name__
        raise ConfigError(
            f"{source}: {name} must be of type {wanted}, as in {cfg[key]!r}; got {value!r}"
        ) from error


def _nearest(name: str) -> str:
    known = known_keys()
    same_leaf = [key for key in known if key.split(".")[-1] == name.split(".")[-1]]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5) or same_leaf[:1]
    return f"; the nearest known key is {close[0]}" if close else "; no known key is near it"
