from dataclasses import replace

import pytest
import torch
from torch import Tensor

from frozenseg.builders.segmenter import build_augmentation
from frozenseg.config import ConfigError, default_config
from frozenseg.inference.postprocess import Postprocess
from frozenseg.inference.test_time_augmentation import Augmentation, AugmentedPredictor
from frozenseg.structures import PanopticMap, Result


class Shown:
    """Stands for a predictor: its one map is the image's red, at the size that is asked for."""

    def __init__(self, postprocess: Postprocess) -> None:
        self.postprocess = postprocess
        self.images: list[Tensor] = []
        self.masks: list[Tensor | None] = []

    def with_postprocess(self, postprocess: Postprocess) -> "Shown":
        other = Shown(postprocess)
        other.images, other.masks = self.images, self.masks
        return other

    def sam_masks(self, originals: list[Tensor]) -> list[Tensor] | None:
        return [original[:1].float() for original in originals] if self.masks is not None else None

    def segment(self, images, output_sizes=None, sam_masks=None) -> list[Result]:
        self.images += images
        self.masks += sam_masks
        sizes = output_sizes
        maps = [
            torch.nn.functional.interpolate(image[None, :1].float(), size=size)[0]
            for image, size in zip(images, sizes, strict=True)
        ]
        panoptic = PanopticMap(torch.ones(1, 1), ()) if self.postprocess.panoptic else None
        return [
            Result(semantic=each if self.postprocess.semantic else None, panoptic=panoptic)
            for each in maps
        ]


SEMANTIC = Postprocess(panoptic=False, instance=False)


def picture() -> Tensor:
    return torch.randint(256, (3, 20, 30), dtype=torch.uint8)


def augmented(postprocess: Postprocess = SEMANTIC, **changes: object):
    shown = Shown(postprocess)
    chosen = Augmentation(**({"short_sides": (20,), "long_side": 99, "flip": False} | changes))
    return shown, AugmentedPredictor(shown, chosen)


def test_one_variant_without_a_flip_is_the_plain_result():
    image = picture()
    _, predict = augmented()
    assert torch.equal(predict([image])[0].semantic, image[:1].float())


def test_a_mirror_image_is_mirrored_back():
    image = picture()
    shown, predict = augmented(flip=True)
    assert torch.equal(predict([image])[0].semantic, image[:1].float())
    assert torch.equal(shown.images[1], image.flip(-1))


def test_maps_of_all_sizes_are_averaged_at_the_output_size():
    image = picture()
    shown, predict = augmented(short_sides=(20, 40))
    maps = predict([image])[0].semantic
    assert [tuple(each.shape[-2:]) for each in shown.images] == [(20, 30), (40, 60)]
    larger = torch.nn.functional.interpolate(shown.images[1][None, :1].float(), size=(20, 30))[0]
    torch.testing.assert_close(maps, (image[:1].float() + larger) / 2)


def test_no_variant_is_longer_than_the_long_side():
    shown, predict = augmented(short_sides=(400,), long_side=45)
    predict([picture()])
    assert [tuple(each.shape[-2:]) for each in shown.images] == [(30, 45)]


def test_variants_are_made_of_the_original_where_it_is_given():
    original = picture()
    shown, predict = augmented()
    result = predict([original[:, ::2, ::2]], [(20, 30)], [original])[0]
    assert torch.equal(shown.images[0], original)
    assert torch.equal(result.semantic, original[:1].float())


def test_sams_masks_are_mirrored_with_the_image():
    image = picture()
    shown, predict = augmented(flip=True)
    predict([image])
    assert torch.equal(shown.masks[0], image[:1].float())
    assert torch.equal(shown.masks[1], image[:1].float().flip(-1))


def test_panoptic_results_are_those_of_the_image_as_it_is():
    image = picture()
    shown, predict = augmented(replace(SEMANTIC, panoptic=True), short_sides=(40,))
    result = predict([image])[0]
    assert result.panoptic is not None and result.semantic is not None
    assert torch.equal(shown.images[0], image) and len(shown.images) == 2


def test_every_image_of_a_batch_is_averaged_by_itself():
    images = [picture(), picture()]
    _, predict = augmented(flip=True)
    for result, image in zip(predict(images), images, strict=True):
        assert torch.equal(result.semantic, image[:1].float())


def test_the_configuration_names_the_variants():
    cfg = default_config()
    assert build_augmentation(cfg) is None
    cfg.TEST.AUG.ENABLED, cfg.TEST.AUG.MIN_SIZES = True, (256, 320)
    expected = Augmentation(short_sides=(256, 320), long_side=1333, flip=True)
    assert build_augmentation(cfg) == expected
    cfg.TEST.AUG.MIN_SIZES = ()
    with pytest.raises(ConfigError, match="at least one short side"):
        build_augmentation(cfg)
