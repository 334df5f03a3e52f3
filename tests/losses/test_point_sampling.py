import torch

from frozenseg.losses.point_sampling import sample_masks, sample_points, uncertain_points


def test_a_pixel_centre_reads_the_pixel_as_x_then_y():
    pixels = torch.arange(6.0).reshape(1, 1, 2, 3)
    centres = torch.tensor([[[0.5 / 3, 0.25], [2.5 / 3, 0.25], [1.5 / 3, 0.75]]])
    torch.testing.assert_close(sample_points(pixels, centres), torch.tensor([[[0.0, 2.0, 4.0]]]))


def test_between_pixels_the_value_is_bilinear_and_beyond_the_border_it_fades_to_zero():
    pixels = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])
    points = torch.tensor([[[0.5, 0.5], [0.0, 0.25], [0.0, 0.0], [1.0, 1.0]]])
    expected = torch.tensor([[[4.0, 0.5, 0.25, 1.75]]])
    torch.testing.assert_close(sample_points(pixels, points), expected)


def test_bool_masks_are_read_as_their_float_copies_would_be():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(5, 7, 11, generator=generator) > 0.5
    mask_ids = torch.tensor([3, 0, 3, 4])
    points = torch.rand(4, 200, 2, generator=generator)
    points[:, :4] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.3]])
    expected = sample_points(masks[mask_ids].float().unsqueeze(1), points).squeeze(1)
    torch.testing.assert_close(sample_masks(masks, mask_ids, points), expected, atol=2e-6, rtol=0)


def test_masks_of_one_image_share_its_points():
    masks = torch.rand(4, 6, 6, generator=torch.Generator().manual_seed(1)) > 0.5
    mask_ids = torch.tensor([[0, 1], [2, 3]])
    points = torch.rand(2, 1, 9, 2, generator=torch.Generator().manual_seed(2))
    together = sample_masks(masks, mask_ids, points)
    assert together.shape == (2, 2, 9)
    for image, row in ((0, 1), (1, 0)):
        alone = sample_masks(masks, mask_ids[image, row], points[image, 0])
        torch.testing.assert_close(together[image, row], alone)


def test_no_mask_gives_no_value():
    values = sample_masks(
        torch.zeros(0, 4, 4, dtype=torch.bool), torch.zeros(0).long(), torch.rand(0, 3, 2)
    )
    assert values.shape == (0, 3)


def test_the_most_uncertain_candidates_are_kept_and_all_others_follow():
    logits = torch.tensor([[[9.0, -0.1, 4.0, 0.2]]])
    candidates = torch.tensor([[[0.125, 0.5], [0.375, 0.5], [0.625, 0.5], [0.875, 0.5]]])
    others = torch.tensor([[[0.7, 0.1]]])
    points = uncertain_points(logits, candidates, others, num_uncertain=2)
    assert {round(x, 3) for x in points[0, :2, 0].tolist()} == {0.375, 0.875}
    torch.testing.assert_close(points[:, 2:], others)


def test_choosing_points_carries_no_gradient():
    logits = torch.randn(2, 4, 4, requires_grad=True)
    assert not uncertain_points(
        logits, torch.rand(2, 6, 2), torch.rand(2, 1, 2), num_uncertain=2
    ).requires_grad
