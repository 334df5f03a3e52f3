import torch
from torch import nn

from frozenseg.modeling.maskformer.transformer_decoder import DecoderBlock, TransformerDecoder
from frozenseg.modeling.position_encoding import sine_positions


def tiny(**changes) -> TransformerDecoder:
    torch.manual_seed(0)
    sizes = {
        "in_channels": 12,
        "dim": 16,
        "mask_dim": 8,
        "embed_dim": 10,
        "class_hidden_dim": 20,
        "num_queries": 5,
        "num_heads": 2,
        "hidden_dim": 24,
        "num_layers": 3,
    }
    return TransformerDecoder(**(sizes | changes))


def as_torch(block: DecoderBlock) -> nn.ModuleDict:
    """The block's weights in torch's own attention modules."""
    parts = nn.ModuleDict()
    for name in ("self_attention", "cross_attention"):
        own = getattr(block, name)
        theirs = nn.MultiheadAttention(16, 2, batch_first=True)
        theirs.load_state_dict(
            {
                "in_proj_weight": own.in_proj.weight,
                "in_proj_bias": own.in_proj.bias,
                "out_proj.weight": own.out_proj.weight,
                "out_proj.bias": own.out_proj.bias,
            }
        )
        parts[name] = theirs
    return parts


def test_layers_are_those_of_detr_and_every_output_is_normalised() -> None:
    decoder = tiny().eval()
    for module in decoder.modules():  # fresh norms would change nothing when applied twice
        if isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.weight, mean=1.0)
            nn.init.normal_(module.bias)
    coarsest, mask_features = torch.randn(2, 12, 3, 4), torch.randn(2, 8, 12, 16)
    predictions = decoder(coarsest, mask_features, nn.Identity(), every_layer=True)
    projected = decoder.input_projection(coarsest)
    memory = projected.flatten(2).mT
    keys = memory + sine_positions(projected).flatten(2).mT
    positions = decoder.query_positions.weight.expand(2, -1, -1)
    queries = torch.zeros(2, 5, 16)
    assert len(predictions) == 3
    for block, prediction in zip(decoder.blocks, predictions, strict=True):
        attend = as_torch(block)
        placed = queries + positions
        queries = block.self_norm(queries + attend["self_attention"](placed, placed, queries)[0])
        attended = attend["cross_attention"](queries + positions, keys, memory)[0]
        queries = block.cross_norm(queries + attended)
        feed = block.feed_forward
        queries = feed.norm(queries + feed.linear2(feed.linear1(queries).relu()))
        normed = decoder.norm(queries)
        expected = torch.einsum("bqc,bchw->bqhw", decoder.mask_embedding(normed), mask_features)
        torch.testing.assert_close(prediction.mask_logits, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            prediction.class_logits, decoder.class_embedding(normed), rtol=1e-4, atol=1e-5
        )


def test_the_last_layer_alone_gives_the_last_of_all_predictions() -> None:
    decoder = tiny().eval()
    inputs = (torch.randn(1, 12, 3, 4), torch.randn(1, 8, 12, 16), nn.Identity())
    (last,) = decoder(*inputs, every_layer=False)
    torch.testing.assert_close(last, decoder(*inputs, every_layer=True)[-1])


def test_dropout_acts_in_training_alone() -> None:
    decoder = tiny(dropout=0.5)
    inputs = (torch.randn(1, 12, 3, 4), torch.randn(1, 8, 12, 16), nn.Identity())
    first, second = (decoder.train()(*inputs, every_layer=False)[0] for _ in range(2))
    assert not torch.equal(first.mask_logits, second.mask_logits)
    first, second = (decoder.eval()(*inputs, every_layer=False)[0] for _ in range(2))
    assert torch.equal(first.mask_logits, second.mask_logits)
    block = decoder.train().blocks[0]
    assert block.self_attention.dropout == block.cross_attention.dropout == 0.5
    queries = torch.randn(1, 5, 16)
    attended = [block.self_attention(queries, queries, queries) for _ in range(2)]
    assert not torch.equal(*attended), "attention weights are dropped, too"
