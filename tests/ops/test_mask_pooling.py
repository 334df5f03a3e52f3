import torch

from frozenseg.ops.mask_pooling import binary_masks, mask_pool

FEATURES = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[10.0, 0.0], [0.0, 10.0]]]])  # (1, 2, 2, 2)


def test_the_mean_under_a_mask_is_worked_by_hand() -> None:
    logits = torch.tensor([[[[5.0, -1.0], [-1.0, 0.1]], [[-1.0, 9.0], [-1.0, -1.0]]]])
    pooled = mask_pool(FEATURES, logits)
    torch.testing.assert_close(pooled, torch.tensor([[[2.5, 10.0], [2.0, 0.0]]]))


def test_how_sure_a_mask_is_does_not_matter_and_zero_is_outside() -> None:
    logits = torch.tensor([[[[0.001, 0.0], [100.0, -0.001]]]])
    torch.testing.assert_close(mask_pool(FEATURES, logits), torch.tensor([[[2.0, 5.0]]]))


def test_an_empty_mask_pools_to_zero() -> None:
    assert torch.equal(mask_pool(FEATURES, torch.full((1, 1, 2, 2), -1.0)), torch.zeros(1, 1, 2))


def test_masks_of_another_size_are_resized_before_they_are_cut() -> None:
    logits = torch.tensor([[[[3.0, 3.0, -1.0, -1.0], [-1.0, -1.0, -1.0, -1.0]]]]).repeat(1, 1, 2, 1)
    # rows average to +1 on the left and -1 on the right
    keep = binary_masks(logits, (2, 2))
    assert keep.tolist() == [[[[True, False], [True, False]]]]
    torch.testing.assert_close(mask_pool(FEATURES, logits), torch.tensor([[[2.0, 5.0]]]))


def test_no_gradient_flows_through_masks_but_it_does_to_features() -> None:
    features, logits = FEATURES.clone().requires_grad_(), torch.randn(1, 3, 4, 4).requires_grad_()
    mask_pool(features, logits + 1).sum().backward()
    assert logits.grad is None
    assert features.grad.abs().sum() > 0


def test_images_and_queries_do_not_mix() -> None:
    features, logits = torch.randn(2, 5, 6, 7), torch.randn(2, 3, 6, 7)
    pooled = mask_pool(features, logits)
    for image in range(2):
        for query in range(3):
            inside = features[image][:, logits[image, query] > 0].mean(dim=1)
            torch.testing.assert_close(pooled[image, query], inside)


def test_the_backward_pass_keeps_one_byte_per_cell_and_has_the_gradient_of_the_product() -> None:
    features, logits = torch.randn(2, 5, 6, 7, requires_grad=True), torch.randn(2, 3, 6, 7)
    kept: list[torch.Tensor] = []

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        pooled = mask_pool(features, logits)
    assert {tensor.dtype for tensor in kept if tensor.numel() >= logits.numel()} == {torch.bool}
    weights = (logits > 0).float()
    expected = torch.einsum("bchw,bqhw->bqc", features, weights / weights.sum((2, 3), keepdim=True))
    cotangent = torch.randn_like(pooled)
    torch.testing.assert_close(
        torch.autograd.grad(pooled, features, cotangent),
        torch.autograd.grad(expected, features, cotangent),
    )
