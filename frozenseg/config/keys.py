"""Every configuration key with its default and one line of meaning.

Keys carry Detectron2's names, so that official FrozenSeg and FC-CLIP files load unchanged. The
values that a key may have are in ``allowed.py``.
"""

from fvcore.common.config import CfgNode

# Official files set these keys, but no part of the model reads them. Some have one allowed value.
ACCEPTED_UNUSED = (
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS",  # no effect on panoptic records in Detectron2 either
    "MODEL.MASK_FORMER.ENC_LAYERS",
    "MODEL.MASK_FORMER.ENFORCE_INPUT_PROJ",
    "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME",
    "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE",
    "MODEL.MASK_ADAPTER.NAME",
    "MODEL.MASK_ADAPTER.TRAIN_MAFT",
    "MODEL.MASK_ADAPTER.USE_CHECKPOINT",
    "MODEL.RESNETS.OUT_FEATURES",
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
    """Returns the defaults: the paper's method on COCO panoptic."""
    cfg = CfgNode()
    cfg.VERSION = 2  # version of the official file format
    cfg.OUTPUT_DIR = "output"  # folder of checkpoints, metrics and evaluations
    cfg.SEED = -1  # negative: not fixed
    cfg.MODEL = _model_keys()
    cfg.INPUT = _input_keys()
    cfg.DATASETS = CfgNode()
    cfg.DATASETS.TRAIN = ()  # names of data sets, or data-set files
    cfg.DATASETS.TEST = ()  # evaluated during and after training
    cfg.DATASETS.TRAIN_VOCABULARY = ""  # a file with other names for the training classes
    cfg.DATASETS.TEST_VOCABULARY = ()  # one file per test set; "" or (): the built-in names
    cfg.DATALOADER = CfgNode()
    cfg.DATALOADER.NUM_WORKERS = 4  # reader processes per training process
    # no effect, as in official training: images without a segment are used too
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = True
    cfg.SOLVER = _solver_keys()
    cfg.TEST = CfgNode()
    cfg.TEST.EVAL_PERIOD = 0  # iterations between evaluations during training; 0: only at the end
    cfg.TEST.DETECTIONS_PER_IMAGE = 100  # instances kept per image
    # images per process of an evaluation; those of one padded size share a forward pass
    cfg.TEST.IMS_PER_BATCH = 1
    cfg.TEST.AUG = CfgNode()  # semantic results averaged over scaled and flipped images
    cfg.TEST.AUG.ENABLED = False  # test-time augmentation
    cfg.TEST.AUG.MIN_SIZES = (640, 800, 960)  # short sides, pixels
    cfg.TEST.AUG.MAX_SIZE = 1333  # long side, pixels
    cfg.TEST.AUG.FLIP = True  # add a mirrored copy of each variant
    return cfg


def _model_keys() -> CfgNode:
    model = CfgNode()
    model.META_ARCHITECTURE = "FrozenSeg"  # FCCLIP: no SAM, keys from MODEL.FC_CLIP
    model.PIPELINE = _pipeline_keys()
    # precision of both image encoders at inference; auto: bfloat16 on processors with units for it
    model.PRECISION = "float32"
    model.COMPILE = False  # torch.compile of the proposer at inference: takes minutes at the start
    model.DEVICE = "auto"  # auto: cuda if available, else cpu
    model.WEIGHTS = ""  # trained weights to start from: safetensors, or an official .pth
    model.WEIGHTS_TOWERS = "compare"  # the towers in that file: compare, skip or use
    model.PIXEL_MEAN = [122.7709383, 116.7460125, 104.09373615]  # mean of CLIP's input, RGB 0..255
    model.PIXEL_STD = [68.5005327, 66.6321579, 70.32316305]  # its standard deviation
    model.SAM_NAME = "vit_b"  # vit_t, vit_b, vit_l, vit_h, shapes
    model.SAM_WEIGHTS = ""  # a local file; empty: the published file, from the cache folder
    model.BACKBONE = _backbone_keys()
    model.RESNETS = CfgNode(
        {
            "DEPTH": 50,  # layers of the backbone r101c: 50, 101 or 152
            "STEM_TYPE": "basic",
            "STEM_OUT_CHANNELS": 64,  # channels of r101c's stem
            "STRIDE_IN_1X1": False,
            "OUT_FEATURES": ["res2", "res3", "res4", "res5"],
            "RES5_MULTI_GRID": [1, 1, 1],  # dilation of each block of the last stage
            "NORM": "FrozenBN",  # BN: batch norms train, except in frozen parts
        }
    )
    model.SWIN = _swin_keys()
    model.OVSEG = _ovseg_keys()
    model.OVRCOAT = _coat_keys()
    model.MASK_ADAPTER = _mask_adapter_keys()
    model.MAFT_PLUS = _maft_plus_keys()
    model.FROZEN_SEG = _clip_keys()
    model.FROZEN_SEG.QUERY_INJECTOR_LAYERS = (3, 6, 9)  # counted from 1; () is off (eq. 1)
    model.FROZEN_SEG.FEATURE_INJECTOR_LAYERS = (1, 4, 7)  # counted from 1; () is off (eq. 2)
    # Attention of the SAM branch. single_level: as the paper describes it. three_level: as the
    # official kernel reads it, which published weights need. from_weights: as in MODEL.WEIGHTS,
    # and single_level when training from scratch.
    model.FROZEN_SEG.SAM_ATTENTION_LAYOUT = "from_weights"
    model.FC_CLIP = _clip_keys()
    model.MASK_ENSEMBLE = _mask_ensemble_keys()
    model.SEM_SEG_HEAD = _head_keys()
    model.MASK_FORMER = _mask_former_keys()
    return model


def _pipeline_keys() -> CfgNode:
    """Names the members of the pipeline; a system is a choice of one each."""
    keys = CfgNode()
    # mask2former, maskformer, or sam_points: SAM's masks, no classes, nothing trained
    keys.PROPOSER = "mask2former"
    # pooled_map: CLIP's map averaged under masks; mask_adapter: pooled by a network; masked_crops:
    # CLIP on crops (OVSeg)
    keys.REGION_CLASSIFIER = "pooled_map"
    keys.REGION_CLIP_NAME = ""  # CLIP of the region classifier; empty: that of the proposer
    keys.REGION_CLIP_WEIGHTS = ""  # an open_clip tag or a local file
    keys.FUSION = "geometric"  # eq. 3; clip_alone: no decoder; product: OVSeg
    # synonyms: one text row per synonym; literal: one row per class, its names as written;
    # content: one row per synonym, which attends to the image (MAFT+)
    keys.TEXT_ROWS = "synonyms"
    return keys


def _backbone_keys() -> CfgNode:
    """The backbone of the proposer maskformer; mask2former reads its CLIP (MAFT+, OVR train it)."""
    keys = CfgNode()
    keys.NAME = "CLIP"  # for maskformer: swin (sizes in MODEL.SWIN) or r101c (MODEL.RESNETS)
    # weights of an image classifier: a file, or the name of a Swin in timm; empty: random
    keys.WEIGHTS = ""
    keys.FREEZE = True  # False: also train the stem and stages of mask2former's CLIP
    keys.FREEZE_AT = 0  # frozen parts of r101c: 1 is the stem, 2 is stem and res2
    return keys


def _swin_keys() -> CfgNode:
    keys = CfgNode()
    keys.EMBED_DIM = 128  # channels of the first stage
    keys.DEPTHS = (2, 2, 18, 2)  # blocks per stage
    keys.NUM_HEADS = (4, 8, 16, 32)  # attention heads per stage
    keys.WINDOW_SIZE = 12  # tokens
    keys.DROP_PATH_RATE = 0.3  # stochastic depth of the last block
    return keys


def _ovseg_keys() -> CfgNode:
    """The region classifier masked_crops and the fusion product."""
    keys = CfgNode()
    keys.MASK_THRESHOLD = 0.4  # a pixel is in a mask if its probability is above this
    keys.PROMPT_DEPTH = 0  # CLIP blocks before which blank patches become mask prompts; 0: none
    keys.EXPONENT = 0.7  # weight of the region classifier; 0: it decides alone
    keys.INVALID_MASKS = "exclude"  # empty masks; official: CLIP's factor for them is 1
    # precision of CLIP on crops; auto: bfloat16 on processors with units for it
    keys.PRECISION = "auto"
    return keys


def _mask_adapter_keys() -> CfgNode:
    """The region classifier mask_adapter and its training."""
    keys = CfgNode()
    keys.NAME = "MASKAdapterHead"
    keys.MASK_IN_CHANNELS = 16  # channels of the mask's last strided convolution
    keys.NUM_CHANNELS = 768  # channels of the blocks
    keys.NUM_OUTPUT_MAPS = 16  # maps that pool a mask's embedding
    keys.MASK_THRESHOLD = 0.5  # a cell is in a mask if its probability is above this
    keys.USE_CHECKPOINT = False
    keys.TRAIN_MAFT = False
    keys.TRAIN_PHASE = "mixed"  # ground_truth: the warm-up, without a decoder
    keys.NUM_GT_MASKS = 16  # annotated masks per image in training; the warm-up takes twice as many
    keys.NUM_PRED_MASKS = 8  # predicted masks per image, and as many annotated partners
    keys.IOU_THRESHOLD = 0.7  # minimum IoU of a predicted mask and its partner
    keys.COS_WEIGHT = 5.0  # weight of the consistency of a predicted mask and its partner
    return keys


def _maft_plus_keys() -> CfgNode:
    """Text rows that depend on the image (MODEL.PIPELINE.TEXT_ROWS content)."""
    keys = CfgNode()
    keys.CDT_FORM = "semantic"  # LN(row + MLP(a)); panoptic: row + LN(MLP(a))
    keys.CDT_HEADS = 8  # heads of the attention to the image
    # scrambled: as the official code reshapes it, which published weights need; from_weights:
    # scrambled for these, straight for others
    keys.IMAGE_MAP = "from_weights"
    # weight of the loss that ranks masks by CLIP's probability of their class
    keys.RANKING_WEIGHT = 1.0
    # weight of the loss that keeps CLIP's map near that of the published CLIP
    keys.RC_WEIGHT = 0.1
    return keys


def _coat_keys() -> CfgNode:
    """COAT, by which CLIP's certainty about a class lowers void, and OVR's training (OVRCOAT)."""
    keys = CfgNode()
    keys.CLIP_TRUST_WEIGHT = 0.0  # how much CLIP's confidence lowers void; 0: off; 0.5: published
    keys.COAT_OUTPUTS = "panoptic"  # all: as in the official code, which lowers mIoU and AP
    # weight of the loss on CLIP's classification if MODEL.BACKBONE.FREEZE is False
    keys.CE_WEIGHT = 0.1
    return keys


def _clip_keys() -> CfgNode:
    keys = CfgNode()
    keys.CLIP_MODEL_NAME = "convnext_large_d_320"  # an open_clip name, a folder, or shapes
    keys.CLIP_PRETRAINED_WEIGHTS = "laion2b_s29b_b131k_ft_soup"  # an open_clip tag or a local file
    keys.EMBED_DIM = 768  # width of CLIP's embeddings
    keys.GEOMETRIC_ENSEMBLE_ALPHA = 0.4  # weight of CLIP for seen classes (eq. 3)
    keys.GEOMETRIC_ENSEMBLE_BETA = 0.8  # weight of CLIP for unseen classes (eq. 3)
    keys.ENSEMBLE_ON_VALID_MASK = False  # no ensemble for empty masks (ResNet towers)
    return keys


def _mask_ensemble_keys() -> CfgNode:
    keys = CfgNode()
    keys.ENABLED = False  # SAM's zero-shot masks contribute to semantic results (eq. 4)
    keys.EPSILON = 0.2  # weight of the masks for unseen classes
    keys.THRESHOLD = 0.5  # minimum probability of the best unseen class of a mask
    keys.SAM_NAME = "vit_h"  # source of the masks; may differ from MODEL.SAM_NAME
    keys.SAM_WEIGHTS = ""  # a local file; empty: the published file, from the cache folder
    keys.CACHE = ""  # folder of stored masks; empty: one per settings in the cache folder
    keys.POINTS_PER_SIDE = 32  # side of the grid of point prompts
    keys.POINTS_PER_BATCH = 64  # prompts per forward pass
    keys.IOU_THRESHOLD = 0.8  # minimum IoU that SAM predicts for a mask
    keys.STABILITY_THRESHOLD = 0.7  # minimum IoU of the masks at logit 1 and -1
    keys.NMS_THRESHOLD = 0.7  # IoU of boxes above which the worse mask is removed
    keys.MIN_REGION_PX = 100  # smaller holes are filled, smaller islands removed
    keys.MAX_MASKS = 50  # the largest are kept
    return keys


def _head_keys() -> CfgNode:
    head = CfgNode()
    head.NAME = "FrozenSegHead"
    head.IGNORE_VALUE = 255
    head.NUM_CLASSES = 133
    head.LOSS_WEIGHT = 1.0
    head.CONVS_DIM = 256  # channels of the pixel decoder
    head.MASK_DIM = 256  # channels of the mask features
    head.NORM = "GN"  # group normalization, the only choice
    head.EMBEDDING_DIM = 768  # width of maskformer's class embeddings and CLIP's text rows
    head.EMBED_HIDDEN_DIM = 1024  # hidden width of maskformer's class head
    head.COMMON_STRIDE = 4
    head.PIXEL_DECODER_NAME = "MSDeformAttnPixelDecoder"
    head.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES = ["res3", "res4", "res5"]
    head.TRANSFORMER_ENC_LAYERS = 6  # deformable encoder layers of the pixel decoder
    head.DIM_FEEDFORWARD = 1024  # feed-forward width of the deformable encoders
    return head


def _mask_former_keys() -> CfgNode:
    former = CfgNode()
    former.TRANSFORMER_DECODER_NAME = "MultiScaleMaskedTransformerDecoder"
    former.TRANSFORMER_IN_FEATURE = "multi_scale_pixel_decoder"
    former.DEEP_SUPERVISION = True  # losses on every prediction, not only on the last
    former.NO_OBJECT_WEIGHT = 0.1  # weight of void in the classification loss
    former.CLASS_WEIGHT = 2.0  # weight of the classification loss, also in matching
    former.MASK_WEIGHT = 5.0  # weight of the per-pixel mask loss, also in matching
    former.DICE_WEIGHT = 5.0  # weight of the dice loss, also in matching
    former.HIDDEN_DIM = 256  # channels of the queries; equals SEM_SEG_HEAD.CONVS_DIM
    former.NUM_OBJECT_QUERIES = 250  # proposed masks per image
    former.NHEADS = 8  # attention heads
    former.DROPOUT = 0.0  # the only choice
    former.DIM_FEEDFORWARD = 2048  # feed-forward width of the transformer decoder
    former.ENC_LAYERS = 0
    former.PRE_NORM = False  # the only choice
    former.ENFORCE_INPUT_PROJ = False
    former.SIZE_DIVISIBILITY = 32  # padded sides are multiples of it, pixels
    # predictions: one of the learned queries and one per decoder layer (9); in maskformer: layers
    former.DEC_LAYERS = 10
    former.TRAIN_NUM_POINTS = 12544  # points at which mask losses are computed
    former.OVERSAMPLE_RATIO = 3.0  # candidates per point
    former.IMPORTANCE_SAMPLE_RATIO = 0.75  # share of the most uncertain candidates
    former.TEST = CfgNode(
        {
            "SEMANTIC_ON": True,  # evaluate semantic output
            "INSTANCE_ON": True,  # evaluate instance output
            "PANOPTIC_ON": True,  # evaluate panoptic output
            "RECALL_ON": False,  # class-agnostic recall of mask proposals (Table 8)
            "OBJECT_MASK_THRESHOLD": 0.0,  # minimum class probability of a panoptic segment
            "OVERLAP_THRESHOLD": 0.8,  # minimum visible share of a panoptic segment's mask
        }
    )
    return former


def _input_keys() -> CfgNode:
    keys = CfgNode()
    keys.FORMAT = "RGB"  # channel order of the model's input; the only choice
    keys.DATASET_MAPPER_NAME = "coco_panoptic_lsj"  # or mask_former_semantic
    keys.IMAGE_SIZE = 1024  # side of the training crop, pixels
    keys.MIN_SCALE = 0.1  # smallest scale of large-scale jitter
    keys.MAX_SCALE = 2.0  # largest scale of large-scale jitter
    # short sides to draw from, pixels (mask_former_semantic)
    keys.MIN_SIZE_TRAIN = (
        *(320, 384, 448, 512, 576, 640, 704, 768),
        *(832, 896, 960, 1024, 1088, 1152, 1216, 1280),
    )
    keys.MAX_SIZE_TRAIN = 2560  # long side, pixels (mask_former_semantic)
    keys.COLOR_AUG_SSD = True  # colour jitter (mask_former_semantic)
    keys.RANDOM_FLIP = "horizontal"  # or none
    # keep segments that scaling and cropping leave empty as targets, as in official training
    keys.KEEP_EMPTY_TARGETS = True
    keys.MIN_SIZE_TEST = 800  # short side at test, pixels
    keys.MAX_SIZE_TEST = 1333  # long side at test, pixels
    return keys


def _solver_keys() -> CfgNode:
    solver = CfgNode()
    solver.OPTIMIZER = "ADAMW"  # the only choice
    solver.IMS_PER_BATCH = 16  # images per update, summed over all processes
    solver.BASE_LR = 1e-4  # learning rate after the warm-up
    solver.MAX_ITER = 368750  # optimizer updates
    solver.STEPS = (327778, 355092)  # updates at which GAMMA multiplies the rate
    solver.GAMMA = 0.1  # factor at each of STEPS
    solver.LR_SCHEDULER_NAME = "WarmupMultiStepLR"  # or WarmupCosineLR, WarmupPolyLR
    solver.WARMUP_FACTOR = 1.0  # share of the rate at the first update
    solver.WARMUP_ITERS = 10  # updates until the full rate
    solver.WEIGHT_DECAY = 0.05  # weight decay of all other weights
    solver.WEIGHT_DECAY_NORM = 0.0  # weight decay of normalization layers
    solver.WEIGHT_DECAY_EMBED = 0.0  # weight decay of embeddings
    solver.BACKBONE_MULTIPLIER = 0.1  # factor on the backbone's learning rate; no effect if frozen
    solver.CHECKPOINT_PERIOD = 5000  # updates between checkpoints
    solver.CLIP_GRADIENTS = CfgNode(
        {
            "ENABLED": True,  # clip gradients
            "CLIP_TYPE": "full_model",  # by the norm of all gradients
            "CLIP_VALUE": 0.01,  # largest norm
            "NORM_TYPE": 2.0,  # order of the norm
        }
    )
    solver.AMP = CfgNode(
        {
            "ENABLED": False,  # mixed precision
            "DTYPE": "bfloat16",  # or float16, which uses loss scaling
        }
    )
    return solver


def known_keys(cfg: CfgNode | None = None, prefix: str = "") -> list[str]:
    """Returns all keys that hold a value, with dots between sections."""
    cfg = default_config() if cfg is None else cfg
    names: list[str] = []
    for key, value in cfg.items():
        names += (
            known_keys(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else [prefix + key]
        )
    return names
