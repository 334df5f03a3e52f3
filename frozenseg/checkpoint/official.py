"""The official checkpoints' names, and ours: one map, both ways.

Layout ``official`` is that of the published FrozenSeg and FC-CLIP ``.pth`` files, towers included.
"""

import re
from collections.abc import Mapping

from torch import Tensor

PIXEL_DECODER = "sem_seg_head.pixel_decoder."
PREDICTOR = "sem_seg_head.predictor."

# derived from the configuration, not learned
IGNORED = ("criterion.empty_weight",)

# (official, ours); {n} is a number, {rest} the end of the name. The first that fits is taken.
_RULES = [
    ("backbone.clip_model.{rest}", "clip.model.{rest}"),
    ("sam.{rest}", "sam.model.{rest}"),
    ("void_embedding.{rest}", "void_embedding.{rest}"),
    (PREDICTOR + "logit_scale", "logit_scale"),
    (PIXEL_DECODER + "input_proj.{n}.{rest}", "pixel_decoder.projections.{n}.{rest}"),
    (PIXEL_DECODER + "adapter_1.norm.{rest}", "pixel_decoder.lateral.1.{rest}"),
    (PIXEL_DECODER + "adapter_1.{rest}", "pixel_decoder.lateral.0.{rest}"),
    (PIXEL_DECODER + "layer_1.norm.{rest}", "pixel_decoder.smooth.1.{rest}"),
    (PIXEL_DECODER + "layer_1.{rest}", "pixel_decoder.smooth.0.{rest}"),
    (PIXEL_DECODER + "mask_features.{rest}", "pixel_decoder.mask_features.{rest}"),
    (PIXEL_DECODER + "fpn3.{rest}", "pixel_decoder.sam_branch.reduce.{rest}"),
    (PREDICTOR + "query_feat.{rest}", "transformer_decoder.query_features.{rest}"),
    (PREDICTOR + "query_embed.{rest}", "transformer_decoder.query_positions.{rest}"),
    (PREDICTOR + "level_embed.{rest}", "transformer_decoder.level_embedding.{rest}"),
    (PREDICTOR + "decoder_norm.{rest}", "transformer_decoder.norm.{rest}"),
    (PREDICTOR + "_mask_pooling_proj.{rest}", "transformer_decoder.pool_projection.{rest}"),
]
for _official, _ours in (
    ("transformer.", "pixel_decoder.encoder."),
    ("sam_transformer.", "pixel_decoder.sam_branch.encoder."),
):
    _layer = PIXEL_DECODER + _official + "encoder.layers.{n}."
    _RULES += [
        (PIXEL_DECODER + _official + "level_embed", _ours + "level_embedding"),
        (_layer + "self_attn.{rest}", _ours + "layers.{n}.attention.{rest}"),
        (_layer + "norm1.{rest}", _ours + "layers.{n}.norm.{rest}"),
        (_layer + "norm2.{rest}", _ours + "layers.{n}.feed_forward.norm.{rest}"),
        (_layer + "{rest}", _ours + "layers.{n}.feed_forward.{rest}"),
    ]
for _official, _ours in (("cross_attention", "cross"), ("self_attention", "self")):
    _attention = "multihead_attn" if _ours == "cross" else "self_attn"
    _layer, _block = (
        f"{PREDICTOR}transformer_{_official}_layers.{{n}}.",
        "transformer_decoder.blocks.{n}.",
    )
    _RULES += [
        (f"{_layer}{_attention}.in_proj_{{rest}}", f"{_block}{_official}.in_proj.{{rest}}"),
        (f"{_layer}{_attention}.{{rest}}", f"{_block}{_official}.{{rest}}"),
        (f"{_layer}norm.{{rest}}", f"{_block}{_ours}_norm.{{rest}}"),
    ]
_RULES.append(
    (
        PREDICTOR + "transformer_ffn_layers.{n}.{rest}",
        "transformer_decoder.blocks.{n}.feed_forward.{rest}",
    )
)

# Official counters that are ours after a small change: perceptron layers stand at every second place of a
# sequence, and the Feature Injectors are named by their layer, counted from 1.
_INJECTOR = (
    PREDICTOR + "transformer_cross_attention_layers_sam.{n}.",
    "transformer_decoder.feature_injectors.{n}.",
)
_COUNTED = [
    (
        PREDICTOR + "mask_embed.layers.{n}.{rest}",
        "transformer_decoder.mask_embedding.{n}.{rest}",
        2,
        0,
    ),
    (
        PREDICTOR + "class_embed.layers.{n}.{rest}",
        "transformer_decoder.class_embedding.{n}.{rest}",
        2,
        0,
    ),
    (
        _INJECTOR[0] + "multihead_attn.in_proj_{rest}",
        _INJECTOR[1] + "attention.in_proj.{rest}",
        1,
        1,
    ),
    (_INJECTOR[0] + "multihead_attn.{rest}", _INJECTOR[1] + "attention.{rest}", 1, 1),
    (_INJECTOR[0] + "norm.{rest}", _INJECTOR[1] + "norm.{rest}", 1, 1),
]
_ALL = [(official, ours, 1, 0) for official, ours in _RULES] + _COUNTED


def _pattern(template: str) -> re.Pattern[str]:
    escaped = (
        re.escape(template).replace(r"\{n\}", r"(?P<n>\d+)").replace(r"\{rest\}", r"(?P<rest>.+)")
    )
    return re.compile(escaped)


_FROM_OFFICIAL = [
    (_pattern(official), ours, factor, shift) for official, ours, factor, shift in _ALL
]
_TO_OFFICIAL = [(_pattern(ours), official, factor, shift) for official, ours, factor, shift in _ALL]


def name_from_official(name: str) -> str | None:
    """Our name of an official weight; None where there is none."""
    for pattern, ours, factor, shift in _FROM_OFFICIAL:
        if match := pattern.fullmatch(name):
            return _fill(ours, match, lambda n, f=factor, s=shift: n * f + s)
    return None


def name_to_official(name: str) -> str | None:
    """The official name of one of our weights; None where there is none."""
    for pattern, official, factor, shift in _TO_OFFICIAL:
        if match := pattern.fullmatch(name):
            return _fill(official, match, lambda n, f=factor, s=shift: (n - s) // f)
    return None


def _fill(template: str, match: re.Match[str], count) -> str:
    parts = match.groupdict()
    number = count(int(parts["n"])) if "n" in parts else ""
    return template.replace("{n}", str(number)).replace("{rest}", parts.get("rest", ""))


def from_official(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """An official state dict under our names, and the official names that nothing here knows."""
    renamed, unknown = {}, []
    for name, value in state.items():
        if name in IGNORED:
            continue
        ours = name_from_official(name)
        if ours is None:
            unknown.append(name)
        else:
            renamed[ours] = value
    return renamed, unknown


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under official names; weights that the official code does not know raise KeyError."""
    renamed = {}
    for name, value in state.items():
        official = name_to_official(name)
        if official is None:
            raise KeyError(name)
        renamed[official] = value
    return renamed
