"""The segmenter: images of every kind, options of one call, words that are embedded once."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frozenseg.errors import UserError
from frozenseg.inference.call_options import chosen_model
from frozenseg.inference.outputs import OutputSettings
from frozenseg.inference.segmenter import Segmenter
from frozenseg.pipeline.fusion.clip_alone import ClipAlone
from frozenseg.pipeline.fusion.coat import Coat
from frozenseg.pipeline.fusion.geometric import Geometric
from frozenseg.vocabulary import parse_vocabulary
from frozenseg.vocabulary.templates import VILD_TEMPLATES

WORDS = ["cat", "dog", "grass [stuff]"]


def colourful() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, (40, 56, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def build(small_system):
    """``build(Geometric(...))``: a segmenter of random weights."""

    def build(fusion=None) -> Segmenter:
        model = small_system()
        return Segmenter(
            model=model if fusion is None else model.with_fusions(fusion),
            training=parse_vocabulary(["cat"]),
            settings=OutputSettings(),
            short_side=64,
            long_side=96,
        )

    return build


@pytest.fixture(scope="module")
def segmenter(build) -> Segmenter:
    return build()


@pytest.fixture
def prompts(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All prompts that the text encoder gets."""
    asked: list[str] = []
    encode = segmenter.model.text_encoder.encode_text

    def listening(texts: list[str]) -> torch.Tensor:
        asked.extend(texts)
        return encode(texts)

    monkeypatch.setattr(segmenter.model.text_encoder, "encode_text", listening)
    return asked


class TestImages:
    def test_every_kind_of_image_gives_the_same_result(self, segmenter, tmp_path: Path) -> None:
        pixels = colourful()
        picture = Image.fromarray(pixels)
        picture.save(tmp_path / "a.png")
        content = (tmp_path / "a.png").read_bytes()
        kinds = [pixels, picture, tmp_path / "a.png", str(tmp_path / "a.png"), content]
        kinds += [bytearray(content), torch.from_numpy(pixels).permute(2, 0, 1)]
        for kind in kinds:
            assert np.array_equal(segmenter(kind, WORDS).image, pixels)
        assert np.array_equal(segmenter(pixels[..., ::-1], WORDS, bgr=True).image, pixels)

    def test_blue_green_red_tensors_and_alpha_keep_their_other_channels(self, segmenter) -> None:
        pixels = colourful()
        opaque = np.concatenate([pixels, np.full((40, 56, 1), 255, np.uint8)], axis=-1)
        bgra = opaque[..., [2, 1, 0, 3]]
        tensor = torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1)
        for image in (bgra, tensor):
            assert np.array_equal(segmenter(image, WORDS, bgr=True).image, pixels)
        grey = pixels[..., 0]
        assert np.array_equal(segmenter(grey, WORDS, bgr=True).image[..., 2], grey)

    def test_a_stream_reads_one_image_at_a_time_and_goes_on_after_a_bad_one(
        self, segmenter, prompts: list[str]
    ) -> None:
        read: list[int] = []

        def images() -> Iterator[object]:
            for number in range(3):
                read.append(number)
                yield b"no image" if number == 1 else colourful()

        found = segmenter.stream(images(), ["wolf", "fox"])
        assert read == []
        first = next(found)
        assert read == [0] and np.array_equal(first.image, colourful())
        with pytest.raises(UserError, match="the data is not an image"):
            next(found)
        assert len(list(found)) == 1
        assert len(prompts) == 2 * len(VILD_TEMPLATES), "the words are embedded once"

    def test_a_batch_equals_single_calls(self, segmenter) -> None:
        images = [colourful(), colourful()[:30]]
        together = segmenter.batch(iter(images), WORDS, task="semantic")
        for image, found in zip(images, together, strict=True):
            alone = segmenter(image, WORDS, task="semantic")
            assert np.array_equal(found.semantic, alone.semantic)

    @pytest.mark.parametrize("collect", [list, tuple, iter])
    def test_several_images_in_one_call_are_pointed_to_their_methods(
        self, segmenter, collect
    ) -> None:
        with pytest.raises(UserError, match=r"^a call takes one image: .*\.batch\(.*\.stream\("):
            segmenter(collect([colourful(), colourful()]), WORDS)

    def test_bad_images_are_noticed_before_words_are_embedded(
        self, segmenter, prompts: list[str]
    ) -> None:
        with pytest.raises(UserError, match="no image file"):
            segmenter("gone.png", ["zebra"])
        assert prompts == []


class TestOptions:
    def test_alpha_and_beta_are_those_of_equation_3(self, build, segmenter) -> None:
        expected = build(Geometric(alpha=0.1, beta=0.3))(colourful(), WORDS, task="instance")
        found = segmenter(colourful(), WORDS, task="instance", alpha=0.1, beta=0.3)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
        own = segmenter(colourful(), WORDS, task="instance")
        assert not np.allclose(own.scores, found.scores)
        assert segmenter.model.fusion == Geometric(), "the next call has the model's own weights"

    def test_alpha_reaches_the_rule_inside_coat_and_that_of_panoptic_output(self, build) -> None:
        coat = Coat(fusion=Geometric(beta=0.1))
        model = build(Geometric(beta=0.2)).model.with_fusions(Geometric(beta=0.2), coat)
        changed = chosen_model(model, {"alpha": 0.5})
        assert changed.fusion == Geometric(alpha=0.5, beta=0.2)
        assert changed.panoptic_fusion == Coat(fusion=Geometric(alpha=0.5, beta=0.1))
        assert model.panoptic_fusion == coat and changed.proposer is model.proposer

    def test_alpha_is_refused_where_the_fusion_has_none(self, build) -> None:
        with pytest.raises(UserError, match="alpha belong to the fusion geometric"):
            build(ClipAlone())(colourful(), WORDS, alpha=0.5)

    def test_a_threshold_keeps_the_segments_that_reach_it(self, segmenter) -> None:
        scores = np.sort(segmenter(colourful(), WORDS, task="instance").scores)
        middle = float(scores[len(scores) // 2])
        kept = segmenter(colourful(), WORDS, task="instance", threshold=middle)
        assert sorted(kept.scores) == [score for score in scores if score >= middle]
        assert len(segmenter(colourful(), WORDS, threshold=1.0)) == 0

    def test_templates_are_the_sentences_that_are_embedded(self, segmenter, prompts) -> None:
        segmenter(colourful(), ["lion", "tiger"], templates=["one {}", "a {} here"])
        assert prompts == ["one lion", "a lion here", "one tiger", "a tiger here"]
        segmenter(colourful(), ["lion", "tiger"], templates=["one {}", "a {} here"])
        assert len(prompts) == 4, "embedded once"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"alpha": 1.5}, r"alpha is 1\.5: give a number from 0 to 1"),
            ({"beta": "much"}, "beta is 'much'"),
            ({"threshold": -1}, "threshold is -1"),
            ({"threshold": 0.5, "task": "semantic"}, "have no scores"),
            ({"task": "pan"}, "no task 'pan': give panoptic or semantic or instance"),
            ({"templates": "a {}"}, "templates are a list"),
            ({"templates": []}, "templates are a list"),
            ({"templates": ["a photo"]}, r"exactly one \{\}"),
            ({"templates": ["{} {0.__class__}"]}, "no other brace"),
        ],
    )
    def test_impossible_values_are_one_sentence(self, segmenter, options, message) -> None:
        with pytest.raises(UserError, match=message):
            segmenter(colourful(), WORDS, **options)

    def test_a_misspelt_option_is_no_option(self, segmenter) -> None:
        with pytest.raises(TypeError, match="'treshold': options are task, bgr, alpha"):
            segmenter(colourful(), WORDS, treshold=0.5)


class TestSaving:
    def test_files_are_named_after_the_image(self, segmenter, tmp_path: Path) -> None:
        photo = tmp_path / "photo.jpg"
        Image.fromarray(colourful()).save(photo)
        paths = segmenter(photo, WORDS).save(tmp_path / "out")
        assert paths["drawing"] == tmp_path / "out/photo.png" and paths["drawing"].is_file()
        assert segmenter(colourful(), WORDS).save(tmp_path)["ids"] == tmp_path / "image_ids.png"

    def test_the_image_itself_is_never_overwritten(self, segmenter, tmp_path: Path) -> None:
        Image.fromarray(colourful()).save(tmp_path / "scene.png")
        before = (tmp_path / "scene.png").read_bytes()
        with pytest.raises(UserError, match=r"scene\.png is the image itself"):
            segmenter(tmp_path / "scene.png", WORDS).save(tmp_path)
        assert (tmp_path / "scene.png").read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["scene.png"]

    def test_the_drawing_can_be_left_out(self, segmenter, tmp_path: Path) -> None:
        paths = segmenter(colourful(), WORDS).save(tmp_path, drawing=False)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["image.json", "image_ids.png"]
        assert "drawing" not in paths


def test_notebooks_show_an_image_of_a_real_result(segmenter) -> None:
    with Image.open(io.BytesIO(segmenter(colourful(), WORDS)._repr_png_())) as shown:
        assert shown.size == (56, 40)
