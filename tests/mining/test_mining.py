"""Mining on scenes of the shapes world, with their masks and a CLIP that knows colours."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from frozenseg.data.pairs import Pair, read_crop, read_pairs
from frozenseg.data.readers.captions import read_captions
from frozenseg.data.shapes import ShapesDataset, shapes_vocabulary
from frozenseg.errors import UserError
from frozenseg.io.records import write_record
from frozenseg.mining.bulk import Mining, mine_images
from frozenseg.mining.folder import LIST, PairFolder
from frozenseg.mining.miner import NO_NOUN, NO_PROPOSAL, Mined, Miner
from frozenseg.mining.report import draw_samples, summarize
from frozenseg.pipeline.proposers.ground_truth import GroundTruth
from frozenseg.pipeline.region_classifiers.masked_crops import MaskedCrops
from frozenseg.structures import Frame, InputImage, Proposals, Sample, Target
from frozenseg.towers.clip import PIXEL_MEAN, PIXEL_STD
from frozenseg.towers.frozen import FrozenTower

SIDE = 32
PIECES = 4  # the image is divided into this many squares


class ColorClip(FrozenTower):
    """Embeds a crop by its mean colour inside the mask, and the noun of a prompt by its colour."""

    embed_dim, image_size, mask_prompts = 3, (SIDE, SIDE), None

    def __init__(self, colors: dict[str, Tensor]) -> None:
        super().__init__(nn.Identity(), pixel_mean=PIXEL_MEAN, pixel_std=PIXEL_STD)
        self.colors = colors

    def embed_crops(self, crops: Tensor, region_masks: Tensor | None = None) -> Tensor:
        shown = (crops != 0).any(dim=1, keepdim=True)
        return (crops * shown).sum(dim=(2, 3)) / shown.sum(dim=(2, 3)).clamp(min=1)

    def encode_text(self, prompts: list[str]) -> Tensor:
        return torch.stack([self._color_in(prompt) for prompt in prompts])

    def _color_in(self, prompt: str) -> Tensor:
        words = [word.strip(".") for word in prompt.split()]
        return next((self.colors[word] for word in words if word in self.colors), torch.ones(3))


class NoMasks(GroundTruth):
    """Finds nothing."""

    def propose(self, images: Sequence[InputImage], text: object) -> list[Proposals]:
        return [Proposals(torch.zeros(0, 8, 8), Frame((8, 8), (8, 8))) for _ in images]


def target_of(sample: Sample) -> Target:
    assert sample.panoptic is not None
    ids = torch.tensor([segment.id for segment in sample.panoptic.segments])
    classes = torch.tensor([segment.class_id for segment in sample.panoptic.segments])
    return Target(classes, sample.panoptic.ids == ids[:, None, None])


def nouns_of(sample: Sample) -> list[str]:
    """A name for each segment of its own: the shape or ground, numbered if it occurs twice."""
    names = shapes_vocabulary("train").synonyms
    assert sample.panoptic is not None
    words = [names[segment.class_id][0].split()[-1] for segment in sample.panoptic.segments]
    return [f"{word}-{'abcdefgh'[words[:i].count(word)]}" for i, word in enumerate(words)]


def color_of(image: Tensor, mask: Tensor) -> Tensor:
    """Normalised mean colour of a region of the image."""
    mean, std = torch.tensor(PIXEL_MEAN), torch.tensor(PIXEL_STD)
    return (image[:, mask].float().mean(dim=1) - mean) / std


def miner_of(colors: dict[str, Tensor], proposer: GroundTruth | None = None) -> Miner:
    return Miner(
        proposer=proposer or GroundTruth(),
        text=None,  # type: ignore[arg-type] (the proposer has no classes)
        regions=MaskedCrops(clip=ColorClip(colors)),  # type: ignore[arg-type] (same interface)
        short_side=128,
    )


@pytest.mark.parametrize("index", range(3))
def test_each_noun_gets_the_region_that_it_names(index: int) -> None:
    sample = ShapesDataset("train", size=3, image_size=128)[index]
    target, nouns = target_of(sample), nouns_of(sample)
    colors = {
        noun: color_of(sample.image, mask) for noun, mask in zip(nouns, target.masks, strict=True)
    }
    caption = f"a {', a '.join(nouns)}"
    mined = miner_of(colors)(sample.image, [caption], target=target)
    assert mined.problem is None
    found = {noun: region for region in mined.regions for noun in region.nouns}
    assert set(found) == set(nouns)
    classifier = miner_of(colors).regions
    shown = InputImage(sample.image.float(), sample.image, (128, 128), target=target)
    crops = classifier.crop(shown, GroundTruth().propose([shown], None)[0])  # type: ignore[arg-type]
    right = sum(torch.equal(found[noun].mask, crops.masks[i]) for i, noun in enumerate(nouns))
    assert right == len(nouns)


def test_a_crop_is_the_region_in_its_colours_on_clips_mean() -> None:
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[0, 10:40, 10:30] = 200
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[0, 10:40, 10:30] = True
    mask[0, 20:25, 10:20] = False
    colors = {"flag": color_of(image, mask[0])}
    miner = miner_of(colors)
    miner.short_side = 64
    mined = miner(image, ["a flag"], target=Target(torch.zeros(1), mask))
    (region,) = mined.regions
    assert region.nouns == ("flag",) and region.crop.shape == (3, SIDE, SIDE)
    assert region.crop[:, 2, 2].tolist() == [200, 0, 0]
    assert region.crop[:, 13, 4].tolist() == [123, 117, 104]
    assert not region.mask[13, 4] and region.mask[2, 2]


def test_nothing_to_mine_has_a_reason() -> None:
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    assert miner_of({})(image, ["It is very beautiful"]) == Mined((), NO_NOUN)
    assert miner_of({}, NoMasks())(image, ["a dog"]) == Mined((), NO_PROPOSAL)


class QuarterProposer(GroundTruth):
    """Proposes the four quarters of every image."""

    def propose(self, images: Sequence[InputImage], text: object) -> list[Proposals]:
        masks = torch.full((PIECES, 128, 128), -8.0)
        for place, (row, column) in enumerate(((0, 0), (0, 64), (64, 0), (64, 64))):
            masks[place, row : row + 64, column : column + 64] = 8.0
        return [Proposals(masks, Frame((128, 128), (128, 128))) for _ in images]


def build_quarters(device: str) -> Miner:
    """Can be pickled, as several processes need it."""
    values = {"dog": (255, 0, 0), "cat": (0, 255, 0), "car": (0, 0, 255)}
    mean, std = torch.tensor(PIXEL_MEAN), torch.tensor(PIXEL_STD)
    colors = {noun: (torch.tensor(value).float() - mean) / std for noun, value in values.items()}
    return miner_of(colors, QuarterProposer())


@pytest.fixture
def mining(tmp_path: Path) -> Mining:
    """Four images of a red, a green, a blue and a grey quarter; the last one is missing."""
    quarters = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (90, 90, 90)]
    images, annotations = [], []
    captions = ("A dog near a car.", "The cat and a dog", "It is very beautiful", "A dog")
    for number, caption in enumerate(captions):
        name = f"{number}.png"
        if number < 3:
            pixels = np.repeat(np.repeat(np.uint8(quarters).reshape(2, 2, 3), 64, 0), 64, 1)
            Image.fromarray(np.roll(pixels, 64 * number, axis=1)).save(tmp_path / name)
        images.append({"id": number, "file_name": name})
        annotations += [{"image_id": number, "caption": text} for text in (caption, "A tree")]
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    captioned = read_captions(path, per_image=1)
    return Mining(build_quarters, captioned, tmp_path, tmp_path / "pairs", path)


def test_images_are_mined_once_and_listed_in_order(mining: Mining) -> None:
    outcomes = list(mine_images(mining, range(2), device="cpu"))
    assert [outcome.made for outcome in outcomes] == [True, True]
    outcomes = list(mine_images(mining, range(4), device="cpu"))  # resumes after these two
    assert [outcome.made for outcome in outcomes] == [True, False]
    assert outcomes[0].problem == f"2.png gives no pair: {NO_NOUN}"
    assert "3.png" in outcomes[1].problem
    folder = PairFolder(mining.output)
    records = list(folder.records(range(4)))
    pairs = read_pairs(folder.write_list(records))
    assert [pair.title for pair in pairs] == ["dog", "car", "cat", "dog"]
    colors = [(255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 0, 0)]
    for pair, color in zip(pairs, colors, strict=True):
        crop, mask = read_crop(mining.output, pair, source=mining.output / LIST)
        assert mask.all() and tuple(crop[:, 9, 9].tolist()) == color
    report = summarize(records)
    assert (report.images, report.pairs, report.crops) == (3, 4, 4)
    assert report.nouns == {"dog": 2, "car": 1, "cat": 1}
    assert report.images_without_pair == {NO_NOUN: 1}
    assert draw_samples(mining.output, pairs).width > 4 * 224


@pytest.mark.slow
def test_two_processes_write_the_files_of_one(mining: Mining, tmp_path: Path) -> None:
    def files(processes: int) -> dict[str, bytes]:
        output = tmp_path / f"out{processes}"
        own = Mining(mining.build, mining.captioned, mining.images, output, mining.source)
        list(mine_images(own, range(3), device="cpu", processes=processes))
        paths = (path for path in output.rglob("*") if path.is_file())
        return {str(path.relative_to(output)): path.read_bytes() for path in paths}

    one = files(1)
    assert len(one) == 4 + 4 + 3  # crops, masks, records
    assert files(2) == one


class TestMistakes:
    def test_no_pair_at_all_is_one_sentence(self, mining: Mining) -> None:
        list(mine_images(mining, [2], device="cpu"))
        folder = PairFolder(mining.output)
        with pytest.raises(UserError, match=r"none of 1 images gave a pair \(its captions have no"):
            folder.write_list(list(folder.records(range(4))))

    def test_other_settings_are_refused(self, tmp_path: Path) -> None:
        PairFolder(tmp_path).check_settings({"clip": "ViT-B-16", "per_image": "1"})
        PairFolder(tmp_path).check_settings({"clip": "ViT-B-16", "per_image": "1"})
        with pytest.raises(UserError, match=r"mined with clip 'ViT-B-16', not 'ViT-L-14'"):
            PairFolder(tmp_path).check_settings({"clip": "ViT-L-14", "per_image": "1"})

    def test_a_missing_crop_is_one_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"pairs.tsv names the crop 'a.png', which does not"):
            read_crop(tmp_path, Pair("a.png", "b.png", "dog"), source=tmp_path / LIST)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "has no column 'filepath'"),
            ("filepath\ttitle\na.png\tdog\n", "has no column 'mask'"),
            ("filepath\tmask\ttitle\n", "holds no pair"),
            ("filepath\tmask\ttitle\na.png\tb.png\n", "line 2 needs filepath, mask, title"),
            ("filepath\tmask\ttitle\n../a.png\tb.png\tdog\n", "climbs out of its folder"),
        ],
    )
    def test_broken_lists(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / LIST).write_text(text)
        with pytest.raises(UserError, match=message):
            read_pairs(tmp_path / LIST)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"images": []}, "has no list 'annotations'"),
            ({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}, "has no caption"),
            (
                {"images": [], "annotations": [{"image_id": 1, "caption": "a dog"}]},
                "image_id 1, which is not an image",
            ),
            (
                {
                    "images": [{"id": 1, "file_name": "a.jpg"}],
                    "annotations": [{"image_id": 1, "caption": 7}],
                },
                r"annotations\[0\] must have text as 'caption'",
            ),
            ({"images": [{"id": 1, "file_name": "/a.jpg"}], "annotations": []}, "is absolute"),
        ],
    )
    def test_broken_caption_files(self, tmp_path: Path, content: object, message: str) -> None:
        path = tmp_path / "captions.json"
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=message):
            read_captions(path)


def test_a_damaged_record_is_mined_again(mining: Mining) -> None:
    list(mine_images(mining, [0], device="cpu"))
    record = mining.output / "records/000/000000.json"
    expected = record.read_bytes()
    record.write_bytes(expected.replace(b"dog", b"dig"))
    assert not PairFolder(mining.output).has(0)
    assert [outcome.made for outcome in mine_images(mining, [0], device="cpu")] == [True]
    assert record.read_bytes() == expected


def test_a_record_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    names = ["../../victim.png", "masks/a.png", "dog"]
    write_record(tmp_path / "records/000/000000.json", {"pairs": [names], "problem": None})
    with pytest.raises(UserError, match="climbs out of its folder"):
        PairFolder(tmp_path).read(0)


def test_a_crop_behind_a_link_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "victim.png")
    folder = tmp_path / "pairs"
    folder.mkdir()
    (folder / "a.png").symlink_to(tmp_path / "victim.png")
    with pytest.raises(UserError, match="a link that leads out of its folder"):
        read_crop(folder, Pair("a.png", "a.png", "dog"), source=folder / LIST)
