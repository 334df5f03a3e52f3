"""The names of the proposer in published OVSeg weights, and ours."""

from collections.abc import Mapping

import torch
from torch import Tensor

from frozenseg.checkpoint.name_table import NameTable
from frozenseg.modeling.maskformer.swin import relative_position_index

# official name, our name; the first line that fits counts
TABLE = """
backbone.*                                 backbone.*
PIXELS.adapter_#.*                         pixel_decoder.laterals.#-1.*
PIXELS.layer_#.*                           pixel_decoder.outputs.#-1.*
PIXELS.mask_features.*                     pixel_decoder.mask_features.*
LAYERS.self_attn.in_proj_*                 DECODER.blocks.#.self_attention.in_proj.*
LAYERS.self_attn.*                         DECODER.blocks.#.self_attention.*
LAYERS.norm1.*                             DECODER.blocks.#.self_norm.*
LAYERS.multihead_attn.in_proj_*            DECODER.blocks.#.cross_attention.in_proj.*
LAYERS.multihead_attn.*                    DECODER.blocks.#.cross_attention.*
LAYERS.norm2.*                             DECODER.blocks.#.cross_norm.*
LAYERS.norm3.*                             DECODER.blocks.#.feed_forward.norm.*
LAYERS.*                                   DECODER.blocks.#.feed_forward.*
PREDICTOR.transformer.decoder.norm.*       DECODER.norm.*
PREDICTOR.query_embed.*                    DECODER.query_positions.*
PREDICTOR.input_proj.*                     DECODER.input_projection.*
PREDICTOR.class_embed.layers.#.*           DECODER.class_embedding.#x2.*
PREDICTOR.mask_embed.layers.#.*            DECODER.mask_embedding.#x2.*
clip_adapter.non_object_embedding          void_embedding
"""
SHORT = {
    "PIXELS": "sem_seg_head.pixel_decoder",
    "PREDICTOR": "sem_seg_head.predictor",
    "LAYERS": "sem_seg_head.predictor.transformer.decoder.layers.#",
    "DECODER": "transformer_decoder",
}
LOSS_WEIGHTS = "criterion.empty_weight"  # follows from the configuration, so ours does not keep it
POSITION_INDEX = ".relative_position_index"  # of Swin's windows; follows from their size
POSITION_TABLE = ".relative_position_bias_table"
CLIP_PREFIXES = ("clip_adapter.clip_model.", "clip_adapter.pixel_")  # of the region classifier


def is_ovseg(names: Mapping[str, Tensor]) -> bool:
    """Returns True if weights carry the names of a published OVSeg checkpoint."""
    return any(name.startswith("clip_adapter.") for name in names)


def from_official(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Returns the proposer under our names, and the official names that nothing here knows.

    Names of the region classifier (``CLIP_PREFIXES``) and values that follow from others are passed
    over.
    """
    names = {name: _NAMES.ours(name) for name in state if not _is_passed_over(name)}
    known = {ours: state[name] for name, ours in names.items() if ours is not None}
    return known, [name for name, ours in names.items() if ours is None]


def to_official(
    state: Mapping[str, Tensor], *, num_classes: int = 171, no_object_weight: float = 0.1
) -> tuple[dict[str, Tensor], list[str]]:
    """Returns our proposer under official names, and those of our names that it lacks.

    The class weights of the official loss and the indices of Swin's windows are added.

    Args:
        state: weights under our names.
        num_classes: size of the training vocabulary.
        no_object_weight: weight of no-object in the loss.
    """
    names = {name: _NAMES.official(name) for name in state}
    known = {official: state[name] for name, official in names.items() if official is not None}
    for name in [name for name in known if name.endswith(POSITION_TABLE)]:
        window = (int(len(known[name]) ** 0.5) + 1) // 2
        index_name = name.removesuffix(POSITION_TABLE) + POSITION_INDEX
        known[index_name] = relative_position_index(window)
    weights = torch.ones(num_classes + 1)
    weights[-1] = no_object_weight
    known[LOSS_WEIGHTS] = weights
    return known, [name for name, official in names.items() if official is None]


def _is_passed_over(name: str) -> bool:
    return name == LOSS_WEIGHTS or name.endswith(POSITION_INDEX) or name.startswith(CLIP_PREFIXES)


_NAMES = NameTable(TABLE, SHORT)
