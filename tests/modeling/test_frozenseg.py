from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from frozenseg.io.weight_files import describe_differences
from frozenseg.losses import Criterion, HungarianMatcher
from frozenseg.modeling.frozenseg import FrozenSeg, Output
from frozenseg.structures import Target
from frozenseg.vocabulary.text_classifier import TextClassifier

SmallModel = Callable[..., FrozenSeg]
WIDTHS = (
    "MODEL__SEM_SEG_HEAD__CONVS_DIM",
    "MODEL__SEM_SEG_HEAD__MASK_DIM",
    "MODEL__MASK_FORMER__HIDDEN_DIM",
)


def classifier(*class_ids: int, width: int = 24) -> TextClassifier:
    generator = torch.Generator().manual_seed(7)
    rows = torch.randn(len(class_ids), width, generator=generator)
    return TextClassifier(torch.nn.functional.normalize(rows, dim=-1), torch.tensor(class_ids))


def image(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


@torch.no_grad()
def run(model: FrozenSeg, *images: Tensor, words: TextClassifier | None = None) -> Output:
    return model(list(images), words or classifier(0, 0, 1, 2))


@pytest.mark.parametrize("kind", ["convnext", "resnet"])
@pytest.mark.parametrize("sam", [True, False])
def test_every_kind_of_model_gives_masks_and_class_logits(
    small_model, kind: str, sam: bool
) -> None:
    model = small_model(kind, sam=sam)
    output = run(model, image(50, 70))
    assert output.padded_size == (64, 96)
    assert output.image_sizes == [(50, 70)]
    assert output.predictions[-1].mask_logits.shape == (1, 6, 16, 24)
    assert output.predictions[-1].class_logits.shape == (1, 6, 4)
    regions = model.backbone.embed_regions(output.clip_map, output.predictions[-1].mask_logits)
    assert regions.shape == (1, 6, 24)
    assert regions.isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (5, 31), (32, 33), (31, 64)])
def test_images_of_any_size_fit_also_below_32_pixels(small_model: SmallModel, size) -> None:
    widths = dict.fromkeys(WIDTHS, 64)  # a GroupNorm of one channel each cannot norm one cell
    output = run(small_model(**widths), image(*size))
    height, width = (-(-side // 32) * 32 for side in size)
    assert output.padded_size == (height, width)
    assert output.predictions[-1].mask_logits.shape[-2:] == (height // 4, width // 4)
    assert output.predictions[-1].mask_logits.isfinite().all()


def test_training_keeps_no_activation_of_the_towers(small_model: SmallModel) -> None:
    model = small_model().train()
    inside: list[str] = []
    kept: Counter[str] = Counter()

    def remember(tensor: Tensor) -> Tensor:
        kept[inside[-1] if inside else "trained parts"] += 1
        return tensor

    for name in ("backbone", "sam"):
        tower = getattr(model, name)
        tower.register_forward_pre_hook(lambda *_, name=name: inside.append(name))
        tower.register_forward_hook(lambda *_: inside.clear())
    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        model([image(50, 70)], classifier(0, 1))
    assert kept["trained parts"] > 0
    assert set(kept) == {"trained parts"}


def test_one_query_and_one_class_are_enough(small_model: SmallModel) -> None:
    model = small_model(MODEL__MASK_FORMER__NUM_OBJECT_QUERIES=1)
    output = run(model, image(40, 40), words=classifier(0))
    assert output.predictions[-1].class_logits.shape == (1, 1, 2)


def test_a_batch_gives_what_its_images_give_alone(small_model: SmallModel) -> None:
    model = small_model(MODEL__FROZEN_SEG__SAM_ATTENTION_LAYOUT="three_level")
    first, second = image(40, 60, seed=1), image(40, 60, seed=2)
    both = run(model, first, second).predictions[-1]
    for index, alone in enumerate((first, second)):
        single = run(model, alone).predictions[-1]
        for name in ("mask_logits", "class_logits"):
            ours, expected = getattr(both, name)[index], getattr(single, name)[0]
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)


def test_smaller_images_of_a_batch_are_padded_right_and_below(small_model: SmallModel) -> None:
    model = small_model()
    output = run(model, image(20, 30), image(64, 40))
    assert output.padded_size == (64, 64)
    assert output.image_sizes == [(20, 30), (64, 40)]
    batch = model.backbone.normalize([image(20, 30), image(64, 40)], (64, 64))
    assert not batch[0, :, 20:].any()
    assert not batch[0, :, :, 30:].any()
    expected = (image(20, 30).float() - model.backbone.pixel_mean) / model.backbone.pixel_std
    torch.testing.assert_close(batch[0, :, :20, :30], expected)


def test_permuting_queries_permutes_predictions(small_model: SmallModel) -> None:
    model = small_model()
    before = run(model, image(50, 50)).predictions[-1]
    order = torch.randperm(6)
    for embedding in (
        model.transformer_decoder.query_features,
        model.transformer_decoder.query_positions,
    ):
        embedding.weight.data = embedding.weight.data[order]
    after = run(model, image(50, 50)).predictions[-1]
    torch.testing.assert_close(
        after.mask_logits, before.mask_logits[:, order], rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        after.class_logits, before.class_logits[:, order], rtol=1e-4, atol=1e-4
    )


def test_a_class_scores_as_its_best_synonym(small_model: SmallModel) -> None:
    model = small_model()
    together = run(model, image(40, 40), words=classifier(0, 0, 1)).predictions[-1].class_logits
    apart = run(model, image(40, 40), words=classifier(0, 1, 2)).predictions[-1].class_logits
    torch.testing.assert_close(together[..., 0], apart[..., :2].amax(dim=-1))
    torch.testing.assert_close(together[..., 1:], apart[..., 2:])


def test_the_temperature_is_limited_to_100(small_model: SmallModel) -> None:
    model, logits = small_model(), {}
    for factor in (50.0, 100.0, 1000.0):
        model.logit_scale.data = torch.tensor(factor).log()
        logits[factor] = run(model, image(40, 40)).predictions[-1].class_logits
    torch.testing.assert_close(logits[100.0], 2 * logits[50.0])
    torch.testing.assert_close(logits[1000.0], logits[100.0])


@pytest.mark.parametrize("kind", ["convnext", "resnet"])
def test_a_training_step_moves_what_is_trained_and_leaves_the_towers(small_model, kind) -> None:
    model = small_model(kind).train()
    towers = {"clip": model.backbone.fingerprint, "sam": model.sam.fingerprint}
    before = {name: value.clone() for name, value in model.trainable_state().items()}
    criterion = Criterion(matcher=HungarianMatcher(num_points=32), num_points=32)
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, :32], masks[1, 32:] = True, True
    output = model([image(64, 64)], classifier(0, 1))
    assert len(output.predictions) == 10
    loss = sum(criterion(output.predictions, [Target(torch.tensor([0, 1]), masks)]).values())
    loss.backward()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    optimizer.step()
    unmoved = {n for n, value in model.trainable_state().items() if torch.equal(before[n], value)}
    # at first, where a cell looks does not depend on its position yet
    assert unmoved == {
        "pixel_decoder.encoder.level_embedding",
        "pixel_decoder.sam_branch.encoder.level_embedding",
    }
    for key, tower in (("clip", model.backbone), ("sam", model.sam)):
        del tower.__dict__["_fingerprint"]
        assert tower.fingerprint == towers[key]
        assert not any(module.training for module in tower.modules())
        assert all(p.grad is None for p in tower.parameters())


def test_trained_weights_are_all_but_the_towers_and_shared_ones_once(small_model) -> None:
    model = small_model()
    state = model.trainable_state()
    assert not [name for name in state if name.startswith(("backbone.", "sam."))]
    assert len({value.data_ptr() for value in state.values()}) == len(state)
    assert sum(v.numel() for v in state.values()) == sum(
        p.numel() for p in model.parameters() if p.requires_grad
    )


def test_half_precision_hardly_changes_the_masks(small_model: SmallModel) -> None:
    model = small_model()
    exact = run(model, image(64, 64)).predictions[-1].mask_logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = run(model, image(64, 64)).predictions[-1].mask_logits
    assert (rough.float() - exact).abs().mean() < 0.1 * exact.abs().mean()


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["convnext", "resnet"])
def test_cuda_gives_what_the_cpu_gives(small_model: SmallModel, kind: str) -> None:
    model, words = small_model(kind), classifier(0, 0, 1, 2)
    expected = run(model, image(50, 70), words=words).predictions[-1]
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        found = run(model.to("cuda"), image(50, 70).cuda(), words=words.to("cuda")).predictions[-1]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-3, atol=1e-3)


def test_differences_are_put_into_words() -> None:
    expected = {"a": torch.zeros(2), "b": torch.zeros(3)}
    assert describe_differences(expected, expected) == ""
    found = {"a": torch.zeros(4), "c": torch.zeros(1)}
    words = describe_differences(expected, found)
    assert words == "a is (4,), expected (2,); missing b; unknown c"
    many = {f"n{i}": torch.zeros(1) for i in range(9)}
    assert describe_differences(many, {}, limit=2) == "missing n0, n1 and 7 more"
