import torch

from frozenseg.ops.precision import cast_once


def test_all_uses_share_one_copy_and_their_gradients_add_up_in_float32() -> None:
    tensor = torch.randn(4, 5).requires_grad_() * 1  # autocast itself caches casts of leaves
    rows = [torch.randn(3, 4) for _ in range(3)]
    with torch.autocast("cpu", torch.bfloat16):
        use = cast_once(tensor)
        products = [row @ use() for row in rows]
    assert use().dtype == torch.bfloat16
    assert use().data_ptr() == use().data_ptr()
    (ours,) = torch.autograd.grad(sum(product.sum() for product in products), tensor)
    with torch.autocast("cpu", torch.bfloat16):
        expected = [row @ tensor for row in rows]
    (plain,) = torch.autograd.grad(sum(product.sum() for product in expected), tensor)
    assert torch.equal(torch.stack(products), torch.stack(expected))
    assert ours.dtype == torch.float32 and torch.equal(ours, plain)


def test_without_autocast_it_is_the_tensor_itself() -> None:
    tensor = torch.randn(4, 5, requires_grad=True)
    assert cast_once(tensor)() is tensor
