import pytest
import torch
from torch import Tensor, nn

from frozenseg.modeling.layers import tokens_of
from frozenseg.modeling.pixel_decoder import PixelFeatures
from frozenseg.modeling.position_encoding import sine_positions
from frozenseg.modeling.transformer_decoder import TransformerDecoder, blocked_cells
from frozenseg.ops.maps import resize_maps


def decoder(**options) -> TransformerDecoder:
    torch.manual_seed(0)
    sizes = {"dim": 16, "mask_dim": 16, "embed_dim": 8, "num_queries": 5, "num_heads": 2}
    return TransformerDecoder(**{**sizes, "hidden_dim": 16, "sam_dim": 16, **options}).eval()


def pixels(images: int = 2) -> tuple[PixelFeatures, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> Tensor:
        return torch.randn(images, *shape, generator=generator)

    levels = [noise(16, side, side + 1) for side in (2, 4, 8)]
    return PixelFeatures(noise(16, 16, 18), levels, noise(16, 3, 3)), noise(16, 6, 6)


def classify(embeddings: Tensor) -> Tensor:
    return embeddings[..., :4]


def test_a_row_that_would_block_every_cell_blocks_none() -> None:
    logits = torch.tensor([[[[1.0, -1.0], [-1.0, 2.0]], [[-1.0, -1.0], [-1.0, -1.0]]]])
    assert blocked_cells(logits).tolist() == [
        [[False, True, True, False], [False, False, False, False]]
    ]


def test_there_are_ten_predictions_and_the_last_is_given_alone_on_request() -> None:
    model, (features, sam) = decoder(), pixels()
    every = model(features, sam, classify, every_layer=True)
    (last,) = model(features, sam, classify, every_layer=False)
    assert len(every) == 10
    assert every[0].mask_logits.shape == (2, 5, 16, 18)
    torch.testing.assert_close(last.class_logits, every[-1].class_logits)
    torch.testing.assert_close(last.mask_logits, every[-1].mask_logits)


def test_masks_at_full_size_are_predicted_once_if_only_the_last_are_wanted() -> None:
    model, (features, sam) = decoder(), pixels()
    sizes: dict[bool, list[tuple[int, ...]]] = {}
    predict_masks = model.predict_masks
    for every_layer in (True, False):
        seen = sizes[every_layer] = []

        def recorded(queries: Tensor, mask_features: Tensor, seen: list = seen) -> Tensor:
            seen.append(tuple(mask_features.shape[-2:]))
            return predict_masks(queries, mask_features)

        model.predict_masks = recorded
        model(features, sam, classify, every_layer=every_layer)
    levels, of_sam = [(2, 3), (4, 5), (8, 9)], (6, 6)
    assert sizes[True] == 10 * [(16, 18)]
    assert sizes[False] == [*levels, of_sam, *levels, of_sam, *levels, (16, 18)]


def test_permuting_queries_permutes_predictions() -> None:
    model, (features, sam) = decoder(), pixels()
    before = model(features, sam, classify, every_layer=True)
    order = torch.tensor([3, 0, 4, 1, 2])
    for embedding in (model.query_features, model.query_positions):
        embedding.weight.data = embedding.weight.data[order]
    after = model(features, sam, classify, every_layer=True)
    for first, second in zip(before, after, strict=True):
        torch.testing.assert_close(second.mask_logits, first.mask_logits[:, order])
        torch.testing.assert_close(second.class_logits, first.class_logits[:, order])


def test_images_do_not_mix() -> None:
    model, (features, sam) = decoder(), pixels()
    both = model(features, sam, classify, every_layer=False)[-1]
    one = PixelFeatures(
        features.mask_features[1:], [level[1:] for level in features.levels], features.sam[1:]
    )
    alone = model(one, sam[1:], classify, every_layer=False)[-1]
    torch.testing.assert_close(both.mask_logits[1:], alone.mask_logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", [1, 4, 7])
def test_the_feature_injector_changes_what_its_layer_and_later_ones_predict(layer: int) -> None:
    features, sam = pixels()
    other = features._replace(sam=features.sam + 1)
    model = decoder(feature_layers=(layer,), query_layers=())
    first, second = (model(f, sam, classify, every_layer=True) for f in (features, other))
    same = [torch.equal(a.mask_logits, b.mask_logits) for a, b in zip(first, second, strict=True)]
    assert same == [True] * layer + [False] * (10 - layer)


@pytest.mark.parametrize("layer", [3, 6])
def test_the_query_injector_comes_after_its_layers_prediction(layer: int) -> None:
    features, sam = pixels()
    model = decoder(feature_layers=(), query_layers=(layer,))
    first, second = (model(features, s, classify, every_layer=True) for s in (sam, sam * 2 + 1))
    same = [torch.equal(a.mask_logits, b.mask_logits) for a, b in zip(first, second, strict=True)]
    assert same == [True] * (layer + 1) + [False] * (9 - layer)


def test_an_injection_after_the_last_layer_is_not_computed() -> None:
    features, sam = pixels()
    model, calls = decoder(query_layers=(3, 9)), []
    model.query_injector.register_forward_hook(lambda *_: calls.append(1))
    assert len(model(features, sam, classify, every_layer=True)) == 10
    assert len(calls) == 1


def test_keys_carry_positions_but_injected_keys_do_not() -> None:
    features, sam = pixels()
    model, offsets = decoder(feature_layers=(1, 4, 7)), []
    for block in model.blocks:  # (queries, query positions, keys, memory)
        block.register_forward_pre_hook(lambda _, given: offsets.append(given[2] - given[3]))
    model(features, sam, classify, every_layer=False)
    for layer, offset in enumerate(offsets, start=1):
        positions = tokens_of(sine_positions(features.levels[(layer - 1) % 3]))
        expected = torch.zeros_like(offset) if layer in (1, 4, 7) else positions.expand_as(offset)
        torch.testing.assert_close(offset, expected, rtol=0, atol=1e-5)


def test_sam_tokens_carry_the_embedding_of_their_level() -> None:
    features, sam = pixels()
    model, seen = decoder(feature_layers=(1, 5, 9)), []
    for injector in model.feature_injectors.values():  # (memory, SAM tokens, positions)
        injector.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    model(features, sam, classify, every_layer=False)
    for level, tokens in enumerate(seen):
        size = features.levels[level].shape[-2:]
        plain = tokens_of(resize_maps(features.sam, (size[0], size[1])))
        torch.testing.assert_close(tokens, plain + model.level_embedding.weight[level])


def test_without_injectors_sam_is_not_needed() -> None:
    model = decoder(feature_layers=(), query_layers=(), sam_dim=None)
    features, _ = pixels()
    features = features._replace(sam=None)
    assert len(model(features, None, classify, every_layer=True)) == 10


def test_widths_that_differ_are_projected_and_equal_ones_are_not() -> None:
    same, other = decoder(), decoder(sam_dim=24, mask_dim=32)
    assert isinstance(same.adapt_sam, nn.Identity)
    assert isinstance(same.adapt_pooled, nn.Identity)
    features, _ = pixels()
    features = features._replace(mask_features=torch.randn(2, 32, 16, 18))
    predictions = other(features, torch.randn(2, 24, 6, 6), classify, every_layer=True)
    assert predictions[-1].class_logits.shape == (2, 5, 4)


def test_both_injections_share_one_projection() -> None:
    model = decoder()
    assert model.query_injector.project is model.pool_projection
    names = [name for name, _ in model.named_parameters() if "pool_projection" in name]
    assert len(names) == 4
    assert not [name for name, _ in model.named_parameters() if "query_injector" in name]
