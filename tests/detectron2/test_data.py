"""Data sets, mappers and the configuration as Detectron2 sees them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

pytest.importorskip("detectron2", reason="needs Detectron2")

from detectron2.config import get_cfg
from detectron2.data import (
    DatasetCatalog,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)

from frozenseg.builders.training import build_schedule
from frozenseg.config import default_config, known_keys
from frozenseg.data.shapes import ShapesDataset, shapes_vocabulary
from frozenseg.detectron2 import (
    TestMapper,
    Trainer,
    TrainMapper,
    add_frozenseg_config,
    detectron2_config,
)
from frozenseg.detectron2.config import check_part_names
from frozenseg.detectron2.datasets import sample_of
from frozenseg.errors import UserError
from frozenseg.structures import Segment
from tests.detectron2.conftest import Configure

pytestmark = pytest.mark.detectron2
FACTS = json.loads((Path(__file__).parents[1] / "golden" / "official_config_keys.json").read_text())
BASES = ("Base-COCO-PanopticSegmentation.yaml", "maskformer2_R50_bs16_50ep.yaml")
OFFICIAL = [
    (project, name)
    for project in ("frozenseg", "fcclip")
    for name in FACTS[project]
    if name not in BASES
]


def test_every_key_of_the_project_is_there_with_its_default() -> None:
    cfg, ours = get_cfg(), default_config()
    add_frozenseg_config(cfg)
    for name in known_keys():
        value, expected = cfg, ours
        for part in name.split("."):
            value, expected = value[part], expected[part]
        assert value == expected or name == "MODEL.DEVICE"
    torch.device(cfg.MODEL.DEVICE)
    assert cfg.INPUT.MIN_SIZE_TRAIN  # Detectron2's own keys stay


def test_the_projects_files_load_by_detectron2s_own_reader() -> None:
    cfg = get_cfg()
    add_frozenseg_config(cfg)
    root = Path(__file__).resolve().parents[2]
    cfg.merge_from_file(str(root / "configs" / "shapes" / "frozenseg.yaml"))
    assert cfg.DATASETS.TRAIN == ("shapes_train",)


@pytest.mark.parametrize(("project", "name"), OFFICIAL)
def test_official_files_load_by_detectron2s_own_reader(
    tmp_path: Path, project: str, name: str
) -> None:
    content: dict = {}
    for key, value in FACTS[project][name]["keys"].items():
        *sections, leaf = key.split(".")
        node = content
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = value
    (tmp_path / name).write_text(yaml.safe_dump(content))
    cfg = get_cfg()
    add_frozenseg_config(cfg)
    cfg.merge_from_file(str(tmp_path / name))
    assert cfg.SOLVER.BASE_LR == 1e-4
    check_part_names(cfg)
    assert build_schedule(cfg)(cfg.SOLVER.STEPS[-1]) == pytest.approx(0.01)
    assert cfg.DATASETS.TEST[0] in DatasetCatalog


def test_a_configuration_of_the_project_keeps_its_values(configure: Configure) -> None:
    cfg = detectron2_config(configure(**{"MODEL.DEVICE": "auto", "MODEL.WEIGHTS": "a/b.pth"}))
    assert cfg.SOLVER.IMS_PER_BATCH == 2
    assert cfg.MODEL.DEVICE in ("cpu", "cuda")
    assert cfg.MODEL.WEIGHTS.endswith("a/b.pth")
    with pytest.raises(AttributeError):
        cfg.SEED = 4


def test_data_sets_are_registered_with_their_classes() -> None:
    assert len(DatasetCatalog.get("shapes_val")) == 200
    metadata, words = MetadataCatalog.get("shapes_val"), shapes_vocabulary("val")
    assert metadata.stuff_classes == list(words.names)
    assert len(metadata.stuff_colors) == len(words)
    things = metadata.thing_dataset_id_to_contiguous_id
    assert [index in things for index in range(len(words))] == list(words.is_thing)


def test_the_training_mapper_gives_the_crop_and_its_instances(configure: Configure) -> None:
    mapper = TrainMapper.from_config(detectron2_config(configure()))
    record = DatasetCatalog.get("shapes_train")[3]
    entry = mapper(record, np.random.default_rng(0))
    image, target = mapper.augment(ShapesDataset("train")[3], np.random.default_rng(0))
    assert torch.equal(entry["image"], image)
    assert torch.equal(entry["instances"].gt_masks, target.masks)
    assert torch.equal(entry["instances"].gt_classes, target.class_ids)
    assert (entry["height"], entry["width"]) == (256, 256)
    assert "image" not in record


def test_without_a_generator_numpys_seed_decides(configure: Configure) -> None:
    mapper = TrainMapper.from_config(detectron2_config(configure()))
    record = DatasetCatalog.get("shapes_train")[0]
    images = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        images.append(mapper(record)["image"])
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_mappers_serve_detectron2s_own_loaders(configure: Configure) -> None:
    cfg = detectron2_config(configure())
    batch = next(iter(build_detection_train_loader(cfg, mapper=TrainMapper.from_config(cfg))))
    assert [entry["image"].shape for entry in batch] == [(3, 64, 64)] * 2
    mapper = TestMapper.from_config(cfg, "shapes_val")
    loader = build_detection_test_loader(cfg, "shapes_val", mapper=mapper)
    ((entry,), *_) = (next(iter(loader)),)
    assert entry["image"].shape == (3, 64, 64)
    assert (entry["height"], entry["width"]) == (256, 256)
    assert entry["vocabulary"] == shapes_vocabulary("val")
    assert entry["outputs"] == ("panoptic", "semantic", "instance")
    assert entry["original"].shape == (3, 256, 256)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_where_the_stream_was_cut(
    configure: Configure, workers: int
) -> None:
    cfg = detectron2_config(configure(**{"DATALOADER.NUM_WORKERS": workers}))
    whole = iter(Trainer.build_train_loader(cfg))
    for _ in range(2):
        next(whole)
    resumed = iter(Trainer.build_train_loader(cfg, start=4))
    for first, second in zip(next(whole), next(resumed), strict=True):
        assert first["image_id"] == second["image_id"]
        assert torch.equal(first["image"], second["image"])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_file_ends_in_the_readers_own_sentence(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    bad = {"file_name": "cat.jpg", "image_id": 1}
    monkeypatch.setitem(DatasetCatalog.data, "shapes_train", lambda: [bad])
    monkeypatch.setattr("frozenseg.detectron2.loaders.records_of", lambda *_: [bad])
    cfg = detectron2_config(configure(**{"DATALOADER.NUM_WORKERS": workers}))
    for loader in (Trainer.build_train_loader(cfg), Trainer.build_test_loader(cfg, "shapes_val")):
        with pytest.raises(UserError, match=r"^cat\.jpg has no pan_seg_file_name"):
            next(iter(loader))


def test_a_panoptic_record_of_detectron2_is_read(tmp_path: Path) -> None:
    colors = np.zeros((4, 6, 3), dtype=np.uint8)
    colors[:, 3:] = (7, 1, 0)  # 7 + 256
    Image.fromarray(colors).save(tmp_path / "ids.png")
    Image.fromarray(np.full((4, 6, 3), 9, dtype=np.uint8)).save(tmp_path / "image.png")
    sample = sample_of(
        {
            "file_name": str(tmp_path / "image.png"),
            "image_id": 5,
            "pan_seg_file_name": str(tmp_path / "ids.png"),
            "segments_info": [{"id": 263, "category_id": 2, "isthing": False, "iscrowd": 1}],
        }
    )
    assert sample.panoptic.ids.tolist() == [[0, 0, 0, 263, 263, 263]] * 4
    assert sample.panoptic.segments == (Segment(263, 2, is_thing=False, is_crowd=True, area=12),)
    assert sample.image.unique().tolist() == [9]


def test_a_record_without_panoptic_annotation_is_refused() -> None:
    with pytest.raises(UserError, match=r"cat\.jpg has no pan_seg_file_name"):
        sample_of({"file_name": "cat.jpg", "image_id": 1})
