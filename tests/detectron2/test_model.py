"""The model behind Detectron2's interfaces: inputs, outputs, and which weights it reads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from fvcore.common.config import CfgNode
from torch import Tensor

pytest.importorskip("detectron2", reason="needs Detectron2")

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_backbone, build_model
from detectron2.structures import BitMasks, PolygonMasks
from detectron2.structures import Instances as DetectronInstances

from frozenseg.builders.segmenter import build_segmenter
from frozenseg.checkpoint.weights import official_state, save_weights
from frozenseg.data.augmentation import resize_for_test
from frozenseg.data.shapes import ShapesDataset, shapes_vocabulary
from frozenseg.detectron2 import FrozenSeg, Trainer, detectron2_config
from frozenseg.detectron2.records import instances_of
from frozenseg.errors import UserError
from frozenseg.ops.maps import size_of
from frozenseg.structures import InputImage, Sample, Target
from frozenseg.vocabulary.text_classifier import build_text_classifier
from tests.detectron2.conftest import Configure

pytestmark = pytest.mark.detectron2
NUM_CLASSES = len(shapes_vocabulary("val"))


def build(cfg: CfgNode) -> FrozenSeg:
    torch.manual_seed(1)
    return build_model(detectron2_config(cfg))


@pytest.fixture
def model(configure: Configure) -> FrozenSeg:
    return build(configure()).eval()


@pytest.fixture
def sample() -> Sample:
    return ShapesDataset("val")[0]


def two_squares(size: int = 64) -> Target:
    masks = torch.zeros(2, size, size, dtype=torch.bool)
    masks[0, 4:20, 4:20] = masks[1, 30:50, 30:50] = True
    return Target(torch.tensor([0, 5]), masks)


def same_weights(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


def test_the_output_has_detectron2s_form(model: FrozenSeg) -> None:
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    (output,) = model([{"image": image, "height": 50, "width": 40}])
    assert output["sem_seg"].shape == (NUM_CLASSES, 50, 40)
    ids, segments = output["panoptic_seg"]
    assert ids.shape == (50, 40)
    assert set(ids.unique().tolist()) - {0} == {info["id"] for info in segments}
    is_thing = shapes_vocabulary("val").is_thing
    assert all(info["isthing"] == is_thing[info["category_id"]] for info in segments)
    found = output["instances"]
    assert found.image_size == (50, 40)
    assert found.pred_masks.shape == (len(found), 50, 40)
    assert len(found.pred_boxes) == len(found.scores) == len(found.pred_classes) == len(found)


def test_it_segments_as_the_project_itself_does(
    configure: Configure, model: FrozenSeg, sample: Sample
) -> None:
    (output,) = model([{"image": sample.image}])
    segmenter = build_segmenter(configure(), model=model.segmenter.model)
    expected = segmenter.build_predictor(shapes_vocabulary("val"), class_maps=True)(
        [InputImage(sample.image, sample.image, size_of(sample.image))]
    )[0]
    assert torch.equal(output["sem_seg"], expected.class_maps)
    assert torch.equal(output["panoptic_seg"][0], expected.panoptic.ids)
    assert torch.equal(output["instances"].pred_masks, expected.instances.masks)


def test_an_image_may_bring_its_own_words(model: FrozenSeg, sample: Sample) -> None:
    entries = [
        {"image": sample.image},
        {"image": sample.image, "vocabulary": "red circle; sea, water [stuff]"},
        {"image": sample.image},
    ]
    ours, own, again = model(entries)
    assert (len(ours["sem_seg"]), len(own["sem_seg"])) == (NUM_CLASSES, 2)
    assert torch.equal(ours["sem_seg"], again["sem_seg"])


def test_training_gives_every_layers_weighted_losses(model: FrozenSeg) -> None:
    model.train()
    entry = {"image": torch.zeros(3, 64, 64), "instances": instances_of(two_squares())}
    losses = model([entry, entry])
    layers = ("", "_0", "_1", "_2")
    assert set(losses) == {f"loss_{kind}{n}" for kind in ("ce", "mask", "dice") for n in layers}
    sum(losses.values()).backward()
    assert all(p.grad is None for p in model.network.backbone.parameters())
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []  # what Detectron2's distributed training relies on
    assert not model.network.backbone.training


def test_words_are_embedded_in_full_precision_whatever_the_trainer_does(model: FrozenSeg) -> None:
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        model([{"image": torch.zeros(3, 64, 64), "instances": instances_of(two_squares())}])
    expected = build_text_classifier(
        model.network.backbone.encode_text, shapes_vocabulary("train"), cache_dir=None
    )
    assert torch.equal(model._classifier().embeddings, expected.embeddings)


def test_masks_of_smaller_images_count_as_padded(model: FrozenSeg) -> None:
    model.train()
    target = two_squares()
    small = Target(target.class_ids, target.masks[:, :50, :60])
    torch.manual_seed(0)
    ours = model([{"image": torch.zeros(3, 50, 60), "instances": instances_of(small)}])
    bitmasks = DetectronInstances(
        (64, 64), gt_classes=target.class_ids, gt_masks=BitMasks(target.masks)
    )
    torch.manual_seed(0)
    theirs = model([{"image": torch.zeros(3, 50, 60), "instances": bitmasks}])
    assert all(torch.equal(loss, theirs[name]) for name, loss in ours.items())


def test_polygons_are_refused_with_what_to_do(model: FrozenSeg) -> None:
    polygons = PolygonMasks([[np.array([0.0, 0, 8, 0, 8, 8])]])
    instances = DetectronInstances((64, 64), gt_classes=torch.tensor([0]), gt_masks=polygons)
    with pytest.raises(UserError, match="MASK_FORMAT"):
        model.train()([{"image": torch.zeros(3, 64, 64), "instances": instances}])


def test_state_holds_trained_weights_alone(model: FrozenSeg) -> None:
    assert same_weights(dict(model.state_dict()), model.network.trainable_state())
    assert not any(name.startswith(("clip.", "sam.")) for name in model.state_dict())
    parallel = torch.nn.Sequential(model)  # as a parallel wrapper asks for it
    assert {name.removeprefix("0.") for name in parallel.state_dict()} == set(model.state_dict())


def test_detectron2s_checkpointer_writes_what_it_reads(
    configure: Configure, model: FrozenSeg, tmp_path: Path
) -> None:
    DetectionCheckpointer(model, str(tmp_path)).save("model")
    torch.manual_seed(2)
    other = build_model(detectron2_config(configure()))
    assert not same_weights(other.state_dict(), model.state_dict())
    DetectionCheckpointer(other).load(str(tmp_path / "model.pth"))
    assert same_weights(other.state_dict(), model.state_dict())


def bgr(sample: Sample) -> np.ndarray:
    return np.ascontiguousarray(sample.image.flip(0).permute(1, 2, 0).numpy())


def test_default_predictor_reads_the_projects_weights(
    configure: Configure, model: FrozenSeg, sample: Sample, tmp_path: Path
) -> None:
    save_weights(model.network, tmp_path / "trained.safetensors")
    torch.manual_seed(2)
    cfg = configure(**{"MODEL.WEIGHTS": str(tmp_path / "trained.safetensors")})
    predictor = DefaultPredictor(detectron2_config(cfg))
    assert predictor.metadata.thing_classes == list(shapes_vocabulary("val").names)
    output = predictor(bgr(sample))
    scaled = resize_for_test(sample.image, 64, 64)
    (expected,) = model([{"image": scaled, "height": 256, "width": 256}])
    assert torch.equal(output["sem_seg"], expected["sem_seg"])


def test_default_predictor_reads_official_weights(
    configure: Configure, sample: Sample, tmp_path: Path
) -> None:
    three = {"MODEL.FROZEN_SEG.SAM_ATTENTION_LAYOUT": "three_level"}
    model = build(configure(**three)).eval()
    state = official_state(model.network, num_classes=48, no_object_weight=0.1)
    torch.save({"model": state}, tmp_path / "official.pth")
    torch.manual_seed(2)
    cfg = detectron2_config(configure()).clone()  # the layout follows the file
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(tmp_path / "official.pth")
    predictor = DefaultPredictor(cfg)
    assert same_weights(predictor.model.state_dict(), model.state_dict())


def test_weights_of_another_tower_are_refused(
    configure: Configure, model: FrozenSeg, tmp_path: Path
) -> None:
    torch.nn.init.normal_(next(model.network.backbone.parameters()))
    save_weights(model.network, tmp_path / "trained.safetensors")
    cfg = configure(**{"MODEL.WEIGHTS": str(tmp_path / "trained.safetensors")})
    with pytest.raises(UserError, match="another clip tower"):
        DefaultPredictor(detectron2_config(cfg))


def test_fcclip_is_the_model_without_sam(configure: Configure, sample: Sample) -> None:
    cfg = {"MODEL.META_ARCHITECTURE": "FCCLIP", "MODEL.SEM_SEG_HEAD.NAME": "FCCLIPHead"}
    model = build(configure(**cfg)).eval()
    assert model.network.sam is None
    assert "panoptic_seg" in model([{"image": sample.image}])[0]


def test_only_sam_segments_without_a_trained_part(
    configure: Configure, towers: Path, sample: Sample
) -> None:
    test, masks = "MODEL.MASK_FORMER.TEST.", "MODEL.MASK_ENSEMBLE."
    cfg = configure(
        **{
            "MODEL.PIPELINE.PROPOSER": "sam_points",
            "MODEL.PIPELINE.FUSION": "clip_alone",
            test + "PANOPTIC_ON": False,
            test + "INSTANCE_ON": False,
            masks + "SAM_NAME": str(towers),
            masks + "POINTS_PER_SIDE": 2,
            masks + "IOU_THRESHOLD": 0.0,
            masks + "STABILITY_THRESHOLD": 0.0,
        }
    )
    model = build(cfg).eval()
    (output,) = model([{"image": sample.image}])
    assert output["sem_seg"].shape == (NUM_CLASSES, 256, 256)
    with pytest.raises(UserError, match="no part to train"):
        Trainer(detectron2_config(cfg))


@pytest.mark.parametrize(
    "key",
    [
        "BACKBONE.NAME",
        "SEM_SEG_HEAD.NAME",
        "SEM_SEG_HEAD.PIXEL_DECODER_NAME",
        "MASK_FORMER.TRANSFORMER_DECODER_NAME",
    ],
)
def test_an_unknown_part_is_not_passed_over(configure: Configure, key: str) -> None:
    with pytest.raises(UserError, match=rf"MODEL\.{key} must be .*; got 'Swin'"):
        build(configure(**{f"MODEL.{key}": "Swin"}))


def test_the_clip_tower_is_a_backbone(configure: Configure) -> None:
    backbone = build_backbone(detectron2_config(configure()))
    features = backbone(torch.zeros(1, 3, 64, 96))
    for name, spec in backbone.output_shape().items():
        expected = (1, spec.channels, 64 // spec.stride, 96 // spec.stride)
        assert tuple(features[name].shape) == expected
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_a_trained_clip_comes_from_the_weights_and_is_in_the_state(
    configure: Configure, tmp_path: Path
) -> None:
    keys = {"MODEL.META_ARCHITECTURE": "FCCLIP", "MODEL.SEM_SEG_HEAD.NAME": "FCCLIPHead"}
    source = build(configure(**keys))
    tower = source.network.backbone
    tower.load({name: 1.01 * value for name, value in tower.model.state_dict().items()})
    path = str(tmp_path / "trained.safetensors")
    save_weights(source.network, path)
    model = build(configure(**keys, **{"MODEL.WEIGHTS_TOWERS": "use", "MODEL.WEIGHTS": path}))
    model.load_weights(path)
    assert model.network.backbone.fingerprint == tower.fingerprint
    stem = "clip.model.visual.trunk.stem.0.weight"
    assert torch.equal(model.state_dict()[stem], source.state_dict()[stem])
