from dataclasses import replace

import pytest
import torch
from torch import Tensor

from frozenseg.builders.segmenter import build_augmentation
from frozenseg.config import ConfigError, default_config
from frozenseg.inference.outputs import OutputSettings
from frozenseg.inference.test_time_augmentation import Augmentation, AugmentedPredictor
from frozenseg.ops.maps import size_of
from frozenseg.structures import InputImage, PanopticMap, Result


class Shown:
    """Stands for a predictor: its one map is the image's red, at the size that is asked for."""

    def __init__(self, settings: OutputSettings) -> None:
        self.settings = settings
        self.images: list[Tensor] = []
        self.masks: list[Tensor | None] = []

    def with_settings(self, settings: OutputSettings) -> "Shown":
        other = Shown(settings)
        other.images, other.masks = self.images, self.masks
        return other

    def with_sam_masks(self, image: InputImage) -> InputImage:
        return image._replace(sam_masks=image.original[:1].float())

    def __call__(self, images: list[InputImage]) -> list[Result]:
        self.images += [image.pixels for image in images]
        self.masks += [image.sam_masks for image in images]
        return [self._result(image) for image in images]

    def _result(self, image: InputImage) -> Result:
        red = image.pixels[None, :1].float()
        maps = torch.nn.functional.interpolate(red, size=image.output_size)[0]
        return Result(
            semantic=maps.argmax(dim=0) if self.settings.semantic else None,
            class_maps=maps if self.settings.class_maps else None,
            panoptic=PanopticMap(torch.ones(1, 1), ()) if self.settings.panoptic else None,
        )


SEMANTIC = OutputSettings(panoptic=False, instance=False, class_maps=True)


def picture() -> Tensor:
    return torch.randint(256, (3, 20, 30), dtype=torch.uint8)


def given(pixels: Tensor, original: Tensor | None = None) -> InputImage:
    original = pixels if original is None else original
    return InputImage(pixels, original, size_of(original))


def augmented(settings: OutputSettings = SEMANTIC, **changes: object):
    shown = Shown(settings)
    chosen = Augmentation(**({"short_sides": (20,), "long_side": 99, "flip": False} | changes))
    return shown, AugmentedPredictor(shown, chosen)


def test_one_variant_without_a_flip_is_the_plain_result():
    image = picture()
    _, predict = augmented()
    assert torch.equal(predict([given(image)])[0].class_maps, image[:1].float())


def test_a_mirror_image_is_mirrored_back():
    image = picture()
    shown, predict = augmented(flip=True)
    assert torch.equal(predict([given(image)])[0].class_maps, image[:1].float())
    assert torch.equal(shown.images[1], image.flip(-1))


def test_maps_of_all_sizes_are_averaged_at_the_output_size():
    image = picture()
    shown, predict = augmented(short_sides=(20, 40))
    maps = predict([given(image)])[0].class_maps
    assert [tuple(each.shape[-2:]) for each in shown.images] == [(20, 30), (40, 60)]
    larger = torch.nn.functional.interpolate(shown.images[1][None, :1].float(), size=(20, 30))[0]
    torch.testing.assert_close(maps, (image[:1].float() + larger) / 2)


def test_no_variant_is_longer_than_the_long_side():
    shown, predict = augmented(short_sides=(400,), long_side=45)
    predict([given(picture())])
    assert [tuple(each.shape[-2:]) for each in shown.images] == [(30, 45)]


def test_variants_are_made_of_the_original_where_it_is_given():
    original = picture()
    shown, predict = augmented()
    result = predict([given(original[:, ::2, ::2], original)])[0]
    assert torch.equal(shown.images[0], original)
    assert torch.equal(result.class_maps, original[:1].float())


def test_sams_masks_are_mirrored_with_the_image():
    image = picture()
    shown, predict = augmented(flip=True)
    predict([given(image)])
    assert torch.equal(shown.masks[0], image[:1].float())
    assert torch.equal(shown.masks[1], image[:1].float().flip(-1))


def test_panoptic_results_are_those_of_the_image_as_it_is():
    image = picture()
    shown, predict = augmented(replace(SEMANTIC, panoptic=True), short_sides=(40,))
    result = predict([given(image)])[0]
    assert result.panoptic is not None and result.semantic is not None
    assert torch.equal(shown.images[0], image) and len(shown.images) == 2


def test_every_image_of_a_batch_is_averaged_by_itself():
    images = [picture(), picture()]
    _, predict = augmented(flip=True)
    for result, image in zip(predict([given(each) for each in images]), images, strict=True):
        assert torch.equal(result.class_maps, image[:1].float())


def test_the_configuration_names_the_variants():
    cfg = default_config()
    assert build_augmentation(cfg) is None
    cfg.TEST.AUG.ENABLED, cfg.TEST.AUG.MIN_SIZES = True, (256, 320)
    expected = Augmentation(short_sides=(256, 320), long_side=1333, flip=True)
    assert build_augmentation(cfg) == expected
    cfg.TEST.AUG.MIN_SIZES = ()
    with pytest.raises(ConfigError, match="at least one short side"):
        build_augmentation(cfg)
