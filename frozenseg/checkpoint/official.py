"""Names of the published weights of FrozenSeg and the FC-CLIP family, and ours, both ways."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from frozenseg.checkpoint.name_table import NameTable

# Official name, our name; the first matching line counts. "*" is the rest of a name, "#" a number,
# which our name may double (layers of a perceptron have even indices) or increase by one (injectors
# are named by their layer, counted from 1).
TABLE = """
backbone.clip_model.*                        clip.model.*
sam.*                                        sam.model.*
void_embedding.*                             void_embedding.*
PREDICTOR.logit_scale                        logit_scale

PIXELS.input_proj.#.*                        pixel_decoder.projections.#.*
PIXELS.adapter_1.norm.*                      pixel_decoder.lateral.1.*
PIXELS.adapter_1.*                           pixel_decoder.lateral.0.*
PIXELS.layer_1.norm.*                        pixel_decoder.smooth.1.*
PIXELS.layer_1.*                             pixel_decoder.smooth.0.*
PIXELS.mask_features.*                       pixel_decoder.mask_features.*
PIXELS.transformer.level_embed               LEVELS.level_embedding
PIXELS.transformer.ENCODER.self_attn.*       LEVELS.layers.#.attention.*
PIXELS.transformer.ENCODER.norm1.*           LEVELS.layers.#.norm.*
PIXELS.transformer.ENCODER.norm2.*           LEVELS.layers.#.feed_forward.norm.*
PIXELS.transformer.ENCODER.*                 LEVELS.layers.#.feed_forward.*

PIXELS.fpn3.*                                SAM.reduce.*
PIXELS.sam_transformer.level_embed           SAM.encoder.level_embedding
PIXELS.sam_transformer.ENCODER.self_attn.*   SAM.encoder.layers.#.attention.*
PIXELS.sam_transformer.ENCODER.norm1.*       SAM.encoder.layers.#.norm.*
PIXELS.sam_transformer.ENCODER.norm2.*       SAM.encoder.layers.#.feed_forward.norm.*
PIXELS.sam_transformer.ENCODER.*             SAM.encoder.layers.#.feed_forward.*

PREDICTOR.query_feat.*                       DECODER.query_features.*
PREDICTOR.query_embed.*                      DECODER.query_positions.*
PREDICTOR.level_embed.*                      DECODER.level_embedding.*
PREDICTOR.decoder_norm.*                     DECODER.norm.*
PREDICTOR._mask_pooling_proj.*               DECODER.pool_projection.*
PREDICTOR.mask_embed.layers.#.*              DECODER.mask_embedding.#x2.*
PREDICTOR.class_embed.layers.#.*             DECODER.class_embedding.#x2.*
PREDICTOR.CROSS.#.multihead_attn.in_proj_*   DECODER.blocks.#.cross_attention.in_proj.*
PREDICTOR.CROSS.#.multihead_attn.*           DECODER.blocks.#.cross_attention.*
PREDICTOR.CROSS.#.norm.*                     DECODER.blocks.#.cross_norm.*
PREDICTOR.SELF.#.self_attn.in_proj_*         DECODER.blocks.#.self_attention.in_proj.*
PREDICTOR.SELF.#.self_attn.*                 DECODER.blocks.#.self_attention.*
PREDICTOR.SELF.#.norm.*                      DECODER.blocks.#.self_norm.*
PREDICTOR.transformer_ffn_layers.#.*         DECODER.blocks.#.feed_forward.*
PREDICTOR.INJECT.#.multihead_attn.in_proj_*  DECODER.feature_injectors.#+1.attention.in_proj.*
PREDICTOR.INJECT.#.multihead_attn.*          DECODER.feature_injectors.#+1.attention.*
PREDICTOR.INJECT.#.norm.*                    DECODER.feature_injectors.#+1.norm.*

mask_adapter.mask_downscaling.*              ADAPTER.mask_encoder.*
mask_adapter.cnext#.dwconv.*                 ADAPTER.blocks.#-1.conv_dw.*
mask_adapter.cnext#.pwconv1.*                ADAPTER.blocks.#-1.mlp.fc1.*
mask_adapter.cnext#.pwconv2.*                ADAPTER.blocks.#-1.mlp.fc2.*
mask_adapter.cnext#.*                        ADAPTER.blocks.#-1.*
mask_adapter.final.*                         ADAPTER.predict.*
mask_adapter.*                               ADAPTER.*

cdt.cross_atten.multihead_attn.in_proj_*     TRANSFER.attention.in_proj.*
cdt.cross_atten.multihead_attn.*             TRANSFER.attention.*
cdt.cross_atten.norm.*                       TRANSFER.norm.*
cdt.cross_atten.MLP.*                        TRANSFER.mlp.*
"""
SHORT = {
    "PREDICTOR": "sem_seg_head.predictor",
    "PIXELS": "sem_seg_head.pixel_decoder",
    "ENCODER": "encoder.layers.#",
    "CROSS": "transformer_cross_attention_layers",
    "SELF": "transformer_self_attention_layers",
    "INJECT": "transformer_cross_attention_layers_sam",
    "LEVELS": "pixel_decoder.encoder",
    "SAM": "pixel_decoder.sam_branch",
    "DECODER": "transformer_decoder",
    "ADAPTER": "region_classifier.adapter",
    "TRANSFER": "text_transfer.network",
}
LOSS_WEIGHTS = "criterion.empty_weight"  # follows from the configuration, so ours does not keep it
TEACHERS = ("frozen_backbone.", "backbone_t.")  # CLIPs that only the training of a tower reads


def is_official(names: Iterable[str]) -> bool:
    """Returns True if weights have official names, with a decoder or without."""
    return any(name.startswith(("sem_seg_head.", "mask_adapter.")) for name in names)


def from_official(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Returns an official state under our names, and the official names that are unknown here.

    Untouched CLIPs beside a trained one are passed over.
    """
    kept = [name for name in state if name != LOSS_WEIGHTS and not name.startswith(TEACHERS)]
    names = {name: _NAMES.ours(name) for name in kept}
    known = {ours: state[name] for name, ours in names.items() if ours is not None}
    return known, [name for name, ours in names.items() if ours is None]


def to_official(
    state: Mapping[str, Tensor], *, num_classes: int, no_object_weight: float
) -> tuple[dict[str, Tensor], list[str]]:
    """Returns our state under official names, and our names that the official code lacks.

    The state includes the class weights that the official loss stores.

    Args:
        state: our trained weights, perhaps with those of the towers.
        num_classes: of the training vocabulary.
        no_object_weight: of the training loss.
    """
    names = {name: _NAMES.official(name) for name in state}
    known = {official: state[name] for name, official in names.items() if official is not None}
    weights = torch.ones(num_classes + 1)
    weights[-1] = no_object_weight
    return {**known, LOSS_WEIGHTS: weights}, [name for name, o in names.items() if o is None]


_NAMES = NameTable(TABLE, SHORT)
