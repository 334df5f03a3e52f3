"""Every data set of the paper, read from its official layout."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from frozenseg.data.datasets import open_dataset
from frozenseg.data.registry import dataset_spec
from frozenseg.data.specs import SPECS, data_root
from frozenseg.errors import UserError
from frozenseg.structures import Sample
from frozenseg.vocabulary import builtin_vocabulary

Download = Callable[..., Path]
Prepare = Callable[..., int]

COCO_VAL = "openvocab_coco_2017_val_panoptic_with_sem_seg"
COCO_TRAIN = "openvocab_coco_2017_train_panoptic_with_sem_seg"
ADE = "openvocab_ade20k_panoptic_val"
CITYSCAPES = "openvocab_cityscapes_fine_panoptic_val"
CONTEXT_59 = "openvocab_pascal_ctx59_sem_seg_val"
CONTEXT_459 = "openvocab_pascal_ctx459_sem_seg_val"


def segments(sample: Sample) -> dict[str, list[tuple[int, bool, bool, int]]]:
    """(pixels, thing, crowd, area) of the segments of each class id."""
    assert sample.panoptic is not None
    found: dict[int, list] = {}
    for each in sample.panoptic.segments:
        pixels = int((sample.panoptic.ids == each.id).sum())
        found.setdefault(each.class_id, []).append(
            (pixels, each.is_thing, each.is_crowd, each.area)
        )
    return found


def test_coco_has_panoptic_semantic_and_objects(download: Download, prepare: Prepare) -> None:
    root = download("coco")
    prepare("prepare_coco", root)
    samples = open_dataset(COCO_VAL, root=root)
    assert len(samples) == 2 and not samples.skipped
    first, nothing = samples[0], samples[1]
    assert first.image_id == 139 and first.file_name.endswith("coco/val2017/000000000139.jpg")
    assert first.image.shape == (3, 4, 6) and first.image.dtype == torch.uint8
    assert segments(first) == {
        0: [(4, True, False, 4), (4, True, True, 4)],
        131: [(6, False, False, 6)],
        79: [(6, True, False, 6)],
    }
    assert (first.panoptic.ids[:2, 4:] == 0).all()
    assert first.semantic[0].tolist() == [0, 0, 131, 131, 255, 255]
    person, crowd, brush = first.instances
    assert (person.class_id, person.is_crowd, person.area) == (0, False, None)  # stated: 4.5
    assert person.mask.tolist() == [[True] * 2 + [False] * 4] * 2 + [[False] * 6] * 2
    assert (crowd.class_id, crowd.is_crowd) == (0, True)
    assert torch.equal(crowd.mask, brush.mask)
    assert crowd.mask[:, 0].tolist() == [False, False, True, True]  # runs go down the columns
    assert brush.class_id == 79
    assert nothing.panoptic.segments == () and nothing.instances == ()
    assert (nothing.panoptic.ids == 0).all() and (nothing.semantic == 255).all()


def test_coco_train_needs_no_preparation(tmp_path: Path, layouts) -> None:
    layouts.write_coco(tmp_path, "train")
    samples = open_dataset(COCO_TRAIN, root=tmp_path)
    assert samples[0].panoptic is not None
    assert samples[0].semantic is None and samples[0].instances is None


def test_ade20k(download: Download, prepare: Prepare) -> None:
    root = download("ade20k")
    prepare("prepare_ade20k", root)
    first, nothing = open_dataset(ADE, root=root)
    assert first.image_id == "ADE_val_00000001"
    assert segments(first) == {
        0: [(3, False, False, 4)],
        7: [(2, True, False, 2), (3, True, False, 3)],
        149: [(1, True, False, 1)],
    }
    assert first.semantic.tolist() == [[0, 0, 7, 7], [0, 0, 7, 7], [149, 149, 255, 255]]
    assert [each.class_id for each in first.instances] == [7, 7, 149]
    assert first.instances[1].mask.tolist() == [[False] * 4, [False] + [True] * 3, [False] * 4]
    assert nothing.instances == () and nothing.panoptic.segments == ()


def test_ade20k_full(download: Download, prepare: Prepare) -> None:
    root = download("ade20k_full")
    prepare("prepare_ade20k_full", root)
    small, large = open_dataset("openvocab_ade20k_full_sem_seg_val", root=root)
    assert small.semantic.unique().tolist() == [0, 2, 65535]
    assert small.image_id == "ADE_val_00000001"
    assert large.image.shape == (3, 512, 768)
    assert large.semantic[0, [0, 767]].tolist() == [0, 2]


def test_cityscapes_with_its_makers_own_panoptic_conversion(download: Download) -> None:
    conversion = pytest.importorskip("cityscapesscripts.preparation.createPanopticImgs")
    root = download("cityscapes")
    folder = str(root / "cityscapes/gtFine")
    conversion.convert2panoptic(folder, folder, useTrainId=False, setNames=["val"])
    (sample,) = open_dataset(CITYSCAPES, root=root)
    assert sample.image_id == "frankfurt_000000_000294"
    assert segments(sample) == {
        0: [(3, False, False, 3)],
        10: [(1, False, False, 1)],
        13: [(1, True, False, 1), (2, True, False, 2)],
        11: [(2, True, True, 2)],  # a group counts as crowd
    }
    assert sample.semantic.tolist() == [[0, 0, 0, 10], [13, 13, 13, 255], [11, 11, 255, 255]]
    assert sample.instances is None  # the things of the panoptic map, or exactly:
    assert sample.instance_ids.tolist()[1] == [26000, 26001, 26001, 4]


def test_mapillary_vistas(download: Download) -> None:
    (sample,) = open_dataset(
        "openvocab_mapillary_vistas_panoptic_val", root=download("mapillary_vistas")
    )
    assert segments(sample) == {0: [(2, True, False, 2)], 64: [(2, False, False, 2)]}
    assert sample.semantic.tolist() == [[0, 0, 64], [65, 65, 64]]


def test_bdd100k(download: Download) -> None:
    root = download("bdd100k")
    (panoptic,) = open_dataset("bdd10k_40_panoptic_val", root=root)
    assert segments(panoptic) == {34: [(2, True, False, 2)], 6: [(2, False, False, 2)]}
    assert panoptic.panoptic.ids.tolist() == [[257, 257, 2], [0, 0, 2]]  # category 0 is void
    assert panoptic.image_id == 1
    (semantic,) = open_dataset("bdd10k_val_sem_seg", root=root)
    assert semantic.semantic.tolist() == [[13, 13, 0], [255, 255, 0]]
    assert semantic.image_id == "7d06fefd"


def test_pascal_voc(download: Download, prepare: Prepare) -> None:
    root = download("pascal_voc")
    prepare("prepare_pascal_voc", root)
    first, second = open_dataset("openvocab_pascal21_sem_seg_val", root=root)
    assert (first.image_id, second.image_id) == ("2007_000033", "2007_000042")
    assert first.semantic.tolist() == [[0, 0, 15], [255, 20, 1]]
    first, _ = open_dataset("openvocab_pascal20_sem_seg_val", root=root)
    assert first.semantic.tolist() == [[255, 255, 14], [255, 19, 0]]


def test_pascal_context(download: Download, prepare: Prepare) -> None:
    root = download("pascal_context")
    prepare("prepare_pascal_context", root)
    (few,) = open_dataset(CONTEXT_59, root=root)
    names = builtin_vocabulary("pascal_context_59").names
    assert [names[k] for k in (few.semantic[0, 0], few.semantic[0, 1], few.semantic[1, 0])] == [
        "sky",
        "aeroplane",
        "wood",
    ]
    (many,) = open_dataset(CONTEXT_459, root=root)
    assert many.semantic.tolist() == [[1, 1, 65535], [458, 430, 0]]


def test_lvis_finds_pictures_by_their_address_and_says_what_it_leaves_open(
    download: Download,
) -> None:
    first, second = open_dataset("openvocab_lvis_v1_val", root=download("lvis"))
    assert first.file_name.endswith("coco/val2017/000000397133.jpg")
    assert second.file_name.endswith("coco/train2017/000000037777.jpg")
    (zucchini,) = first.instances
    assert zucchini.class_id == 1202 and int(zucchini.mask.sum()) == 6
    assert second.instances == ()
    assert first.federated.absent == (1202, 6) and first.federated.incomplete == (0,)


def test_fewer_tasks_need_fewer_files(download: Download) -> None:
    root = download("coco")
    (root / "coco/annotations/instances_val2017.json").unlink()
    sample = open_dataset(COCO_VAL, root=root, tasks=["panoptic"])[0]
    assert sample.panoptic is not None and sample.semantic is None and sample.instances is None


def test_the_data_root_comes_from_the_environment(
    download: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    assert data_root() == Path("datasets")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(download("bdd100k")))
    assert len(open_dataset("bdd10k_val_sem_seg")) == 1


def test_samples_travel_to_worker_processes(download: Download) -> None:
    samples = open_dataset("bdd10k_val_sem_seg", root=download("bdd100k"))
    loader = torch.utils.data.DataLoader(
        samples, batch_size=None, num_workers=1, multiprocessing_context="fork"
    )
    (sample,) = loader
    assert torch.equal(sample.image, samples[0].image)


def test_the_table_is_sound() -> None:
    names = [spec.name for spec in SPECS]
    assert len(set(names)) == len(names) == 17
    for spec in SPECS:
        vocabulary = builtin_vocabulary(spec.vocabulary)
        assert spec.images.count("{}") == 1
        assert bool(spec.prepare) == bool(spec.prepared)
        if spec.semantic is not None:
            assert spec.semantic.ignore_label >= len(vocabulary)
        if "panoptic" in spec.tasks:
            assert spec.panoptic is not None and not all(vocabulary.is_thing)
        if "semantic" in spec.tasks:
            assert spec.semantic is not None
    large = {spec.vocabulary for spec in SPECS if spec.short_side == 1024}
    assert large == {"cityscapes", "mapillary_vistas"}


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean openvocab_ade20k_panoptic_val"):
        dataset_spec("ade20k_panoptic_val")


def test_areas_are_counted_not_believed(download: Download, prepare: Prepare) -> None:
    """For ADE20K's stuff in the label map, because officially covered pixels count."""
    root = download("ade20k", "coco")
    prepare("prepare_ade20k", root)
    for path in root.rglob("*panoptic_val*.json"):
        content = json.loads(path.read_text())
        for annotation in content["annotations"]:
            for info in annotation["segments_info"]:
                info["area"] = 1
        path.write_text(json.dumps(content))
    ade = open_dataset(ADE, root=root, tasks=["panoptic"])[0]
    assert segments(ade)[0] == [(3, False, False, 4)]
    coco = open_dataset(COCO_VAL, root=root, tasks=["panoptic"])[0]
    assert segments(coco)[131] == [(6, False, False, 6)]


def test_a_segment_map_with_a_palette_is_the_same(download: Download) -> None:
    root = download("coco")
    path = root / "coco/panoptic_val2017/000000000139.png"
    before = open_dataset(COCO_VAL, root=root, tasks=["panoptic"])[0].panoptic
    with Image.open(path) as picture:
        reduced = picture.quantize(16, dither=Image.Dither.NONE)
    reduced.save(path)
    after = open_dataset(COCO_VAL, root=root, tasks=["panoptic"])[0].panoptic
    assert before is not None and after is not None
    assert torch.equal(before.ids, after.ids) and before.segments == after.segments


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image: image.pop("neg_category_ids"), "image 397133 has no 'neg_category_ids'"),
        (lambda image: image.pop("not_exhaustive_category_ids"), "no 'not_exhaustive"),
        (lambda image: image.update(neg_category_ids=7), "a list 'neg_category_ids', got 7"),
        (lambda image: image.update(neg_category_ids=[9999]), "unknown category 9999"),
        (lambda image: image.update(coco_url="7.jpg"), "'coco_url', with a folder, got '7.jpg'"),
        (lambda image: image.update(coco_url=None), "text as 'coco_url'"),
    ],
)
def test_an_incomplete_lvis_file(download: Download, change, message: str) -> None:
    root = download("lvis")
    path = root / "lvis/lvis_v1_val.json"
    content = json.loads(path.read_text())
    change(content["images"][0])
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        open_dataset("openvocab_lvis_v1_val", root=root)
    assert len(open_dataset("openvocab_lvis_v1_val", root=root, skip_bad=True)) == 1


class TestBadInput:
    """Each names the file; what can be seen in advance is seen before any picture is read."""

    def spoiled(self, download: Download, path: str, spoil: Callable[[Path], object]) -> Path:
        root = download("coco")
        spoil(root / path)
        return root

    def open(self, root: Path, **options):
        return open_dataset(COCO_VAL, root=root, tasks=["panoptic", "instance"], **options)

    def edit(self, change: Callable[[dict], object]) -> Callable[[Path], object]:
        def apply(path: Path) -> None:
            content = json.loads(path.read_text())
            change(content)
            path.write_text(json.dumps(content))

        return apply

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda c: c.pop("annotations"), "has no list 'annotations'"),
            (
                lambda c: c["images"].append(c["images"][0]),
                r"images\[2\] has the id 139 of another image",
            ),
            (
                lambda c: c["annotations"].append(c["annotations"][0]),
                r"annotations\[2\] is the second one for image 139",
            ),
            (
                lambda c: c["annotations"][0]["segments_info"].append(
                    c["annotations"][0]["segments_info"][0]
                ),
                r"annotations\[0\] \(image 139\) lists segment 3226956 twice",
            ),
            (
                lambda c: c["annotations"][0]["segments_info"][0].update(category_id=12),
                r"\(segment 3226956\) has the unknown category 12",
            ),
            (
                lambda c: c["annotations"][0]["segments_info"][0].pop("category_id"),
                r"segments_info\[0\] has no 'category_id'",
            ),
        ],
    )
    def test_a_panoptic_file_with_a_fault(self, download: Download, change, message: str) -> None:
        path = "coco/annotations/panoptic_val2017.json"
        root = self.spoiled(download, path, self.edit(change))
        with pytest.raises(UserError, match=rf"panoptic_val2017.json:? .*{message}"):
            self.open(root)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda c: c["images"].append(c["images"][0]),
                r"images\[2\] has the id 139 of another image",
            ),
            (
                lambda c: c["annotations"][0].update(category_id=12),
                r"annotations\[0\] \(id 1, image 139\) has the unknown category 12",
            ),
            (lambda c: c["annotations"][0].update(image_id=7), "an object in image 7"),
            (lambda c: c["annotations"][0].pop("segmentation"), "has no 'segmentation'"),
        ],
    )
    def test_an_instance_file_with_a_fault(self, download: Download, change, message: str) -> None:
        path = "coco/annotations/instances_val2017.json"
        root = self.spoiled(download, path, self.edit(change))
        with pytest.raises(UserError, match=rf"instances_val2017.json: .*{message}"):
            self.open(root)

    def test_an_image_that_only_the_panoptic_file_knows(self, download: Download) -> None:
        path = "coco/annotations/instances_val2017.json"
        root = self.spoiled(download, path, self.edit(lambda c: c["images"].pop()))
        samples = self.open(root)
        with pytest.raises(UserError, match=r"instances_val2017.json does not list image 285"):
            samples[1]

    @pytest.mark.parametrize(
        "path",
        ["coco/val2017/000000000139.jpg", "coco/panoptic_val2017/000000000139.png"],
    )
    def test_a_listed_file_that_is_absent(self, download: Download, path: str) -> None:
        root = self.spoiled(download, path, Path.unlink)
        with pytest.raises(UserError, match=rf"{path} is missing: .*--skip-bad"):
            self.open(root)
        samples = self.open(root, skip_bad=True)
        assert [samples.image_id(k) for k in range(len(samples))] == [285]
        assert samples[0].image_id == 285
        assert [(bad.path, bad.reason) for bad in samples.skipped] == [(root / path, "missing")]

    def test_nothing_left_is_an_error_even_when_skipping(self, download: Download) -> None:
        root = download("coco")
        for path in (root / "coco/val2017").iterdir():
            path.unlink()
        with pytest.raises(UserError, match=r"none of 2 samples is complete.*139\.jpg"):
            self.open(root, skip_bad=True)

    def test_a_missing_annotation_file(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"no annotation file .*panoptic_val2017.json"):
            self.open(tmp_path)

    def test_nothing_downloaded_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"get it from http.*prepare pascal_context"):
            open_dataset(CONTEXT_59, root=tmp_path)

    def test_a_segment_that_the_json_does_not_know(self, download: Download, layouts) -> None:
        ids = layouts.COCO_IDS.copy()
        ids[0, 0] = 99
        root = self.spoiled(
            download,
            "coco/panoptic_val2017/000000000139.png",
            lambda path: layouts.save_png(path, layouts.colors(ids)),
        )
        with pytest.raises(UserError, match=r"000000000139.png has segment 99, which panoptic_val"):
            self.open(root)[0]

    def test_a_file_without_images(self, download: Download) -> None:
        path = "coco/annotations/panoptic_val2017.json"
        change = self.edit(lambda c: c.update(images=[], annotations=[]))
        root = self.spoiled(download, path, change)
        for skip_bad in (False, True):
            with pytest.raises(UserError, match="none of 0 samples is complete"):
                self.open(root, skip_bad=skip_bad)

    def test_a_map_of_another_size(self, download: Download, layouts) -> None:
        root = self.spoiled(
            download,
            "coco/val2017/000000000139.jpg",
            lambda path: layouts.save_picture(path, (5, 6)),
        )
        with pytest.raises(UserError, match=r"139.png is 6 x 4 pixels, but .*139.jpg 6 x 5"):
            self.open(root)[0]

    def test_a_grey_segment_map(self, download: Download, layouts) -> None:
        root = self.spoiled(
            download,
            "coco/panoptic_val2017/000000000139.png",
            lambda path: layouts.save_png(path, layouts.ADE_SEMANTIC),
        )
        with pytest.raises(UserError, match=r"139.png has segment 65793"):  # grey 1 in all bytes
            self.open(root)[0]

    @pytest.mark.parametrize(
        "path", ["coco/val2017/000000000139.jpg", "coco/panoptic_val2017/000000000139.png"]
    )
    def test_a_truncated_picture(self, download: Download, path: str) -> None:
        root = self.spoiled(download, path, lambda p: p.write_bytes(p.read_bytes()[:-40]))
        with pytest.raises(UserError, match=rf"{path} is damaged"):
            self.open(root)[0]

    def test_a_label_above_the_class_count(self, download: Download, layouts) -> None:
        root = download("bdd100k")
        path = root / "bdd100k/labels/sem_seg/masks/val/7d06fefd.png"
        layouts.save_png(path, layouts.VOC_LABELS)  # has a 20
        with pytest.raises(UserError, match=r"7d06fefd.png has label 20, but there are 19 classes"):
            open_dataset("bdd10k_val_sem_seg", root=root)[0]

    def test_a_coloured_label_map(self, download: Download, layouts) -> None:
        root = download("bdd100k")
        path = root / "bdd100k/labels/sem_seg/masks/val/7d06fefd.png"
        layouts.save_png(path, layouts.colors(layouts.COCO_IDS))
        with pytest.raises(UserError, match=r"7d06fefd.png is a colour image"):
            open_dataset("bdd10k_val_sem_seg", root=root)[0]

    def test_a_picture_without_its_label_map(self, download: Download, layouts) -> None:
        root = download("bdd100k")
        layouts.save_picture(root / "bdd100k/images/10k/val/another.jpg", (2, 3))
        with pytest.raises(UserError, match=r"masks/val/another.png is missing"):
            open_dataset("bdd10k_val_sem_seg", root=root)
