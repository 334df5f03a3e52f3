"""The weights of the picture are those that the decoder's last layer computes with."""

import pytest
import torch
from torch import Tensor, nn

from frozenseg.analysis.attention import (
    QueryView,
    attention_weights,
    draw_attention,
    draw_object,
    largest_part,
    look_at_query,
)
from frozenseg.inference.outputs import OutputSettings
from frozenseg.inference.predictor import Predictor
from frozenseg.modeling.layers import Attention
from frozenseg.structures import InputImage
from frozenseg.vocabulary.text_classifier import TextClassifier


def twin_of(attention: Attention) -> nn.MultiheadAttention:
    twin = nn.MultiheadAttention(
        attention.out_proj.in_features, attention.num_heads, batch_first=True
    )
    twin.in_proj_weight, twin.in_proj_bias = attention.in_proj.weight, attention.in_proj.bias
    twin.out_proj.weight, twin.out_proj.bias = attention.out_proj.weight, attention.out_proj.bias
    return twin.eval()


@torch.inference_mode()
def test_weights_equal_pytorchs() -> None:
    attention = Attention(dim=16, num_heads=4)
    nn.init.normal_(attention.in_proj.bias)
    query, key, value = torch.randn(2, 3, 16), torch.randn(2, 5, 16), torch.randn(2, 5, 16)
    blocked = torch.rand(2, 3, 5) > 0.6
    blocked[..., 0] = False
    _, expected = twin_of(attention)(
        query, key, value, attn_mask=blocked.repeat_interleave(4, dim=0)
    )
    ours = attention_weights(attention, query, key, blocked)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.fixture
def predictor(small_system) -> Predictor:
    rows = torch.randn(3, 24, generator=torch.Generator().manual_seed(7))
    return Predictor(
        model=small_system(),
        text=TextClassifier(nn.functional.normalize(rows), torch.arange(3)),
        is_thing=torch.tensor([True, True, False]),
        seen=torch.tensor([True, False, False]),
        settings=OutputSettings(),
    )


@pytest.fixture
def image() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 50, 90), generator=generator, dtype=torch.uint8)


def shown(image: Tensor) -> InputImage:
    return InputImage(image, image, (50, 90))


@torch.inference_mode()
def test_the_last_layers_own_weights_are_shown(predictor: Predictor, image: Tensor) -> None:
    attention = predictor.model.proposer.transformer_decoder.blocks[-1].cross_attention
    calls: list[tuple[tuple[Tensor, ...], Tensor, Tensor]] = []
    handle = attention.register_forward_hook(
        lambda _, given, options, result: calls.append((given, options["blocked"], result)),
        with_kwargs=True,
    )
    view = look_at_query(predictor, image)
    handle.remove()
    ((given, blocked, result),) = calls
    computed, weights = twin_of(attention)(
        *given, attn_mask=blocked.repeat_interleave(attention.num_heads, dim=0)
    )
    torch.testing.assert_close(result, computed, rtol=1e-4, atol=1e-5)
    expected = weights[0, view.query].view(64 // 8, 96 // 8)  # 50 x 90 is padded to 64 x 96
    assert view.cell_px == 8
    torch.testing.assert_close(view.weights, expected[:7], rtol=1e-4, atol=1e-6)


def test_the_surest_query_is_taken(predictor: Predictor, image: Tensor) -> None:
    with torch.inference_mode():
        (found,) = predictor.propose([shown(image)])
        probs = predictor.class_probs(shown(image), found).general[:, :-1]
    view = look_at_query(predictor, image)
    assert (view.query, view.class_id) == divmod(int(probs.argmax()), 3)
    assert view.score == pytest.approx(probs.max().item(), rel=1e-4)
    last = look_at_query(predictor, image, among=torch.tensor([False, False, True]))
    assert (last.class_id, last.query) == (2, int(probs[:, 2].argmax()))


def test_a_given_object_has_the_query_that_fits_it(predictor: Predictor, image: Tensor) -> None:
    with torch.inference_mode():
        (found,) = predictor.propose([shown(image)])
    masks = found.mask_logits[None]
    assert masks.shape[-2:] == (16, 24)
    full = nn.functional.interpolate(masks, size=(64, 96), mode="bilinear")[0, :, :50, :90] > 0
    for query in range(len(full)):
        view = look_at_query(predictor, image, on=full[query])
        assert torch.equal(view.mask, full[query])


def test_the_picture_is_bright_where_the_weight_is(image: Tensor) -> None:
    weights = torch.zeros(7, 12)
    weights[2, 9] = 1.0  # rows 16 to 24, columns 72 to 80
    view = QueryView(0, 0, 0.5, weights, 8, torch.zeros(50, 90, dtype=torch.bool))
    picture = draw_attention(torch.zeros_like(image), view)
    pixels = torch.tensor(list(picture.convert("L").tobytes())).view(picture.height, picture.width)
    row, column = divmod(int(pixels.argmax()), picture.width)
    assert 16 <= row * 50 / picture.height < 24 and 72 <= column * 90 / picture.width < 80


def test_stray_pixels_do_not_widen_the_frame(image: Tensor) -> None:
    mask = torch.zeros(50, 90, dtype=torch.bool)
    mask[10:30, 40:60] = True
    alone = QueryView(0, 0, 0.5, torch.ones(7, 12), 8, mask.clone())
    mask[45, 2] = True
    strayed = alone._replace(mask=mask)
    assert largest_part(mask).sum() == 400
    pictures = [draw_object(image, view, "cat") for view in (alone, strayed)]
    assert pictures[0].tobytes() == pictures[1].tobytes()
    assert pictures[0].tobytes() != draw_object(image, alone, "dog").tobytes()


def test_an_empty_mask_is_named_without_a_frame(image: Tensor) -> None:
    empty = torch.zeros(50, 90, dtype=torch.bool)
    view = QueryView(0, 0, 0.5, torch.ones(7, 12), 8, empty)
    picture = draw_object(torch.zeros_like(image), view, "cat")
    assert max(picture.crop((0, 200, picture.width, picture.height)).tobytes()) == 0
