"""An OVSeg configuration from end to end, in tiny: build, load, segment, train, convert."""

from pathlib import Path

import numpy as np
import pytest
import torch

import frozenseg
from frozenseg.builders.model import build_model
from frozenseg.builders.options import RunOptions
from frozenseg.builders.segmenter import build_segmenter, load_model
from frozenseg.builders.trainer import build_training
from frozenseg.builders.training import build_mapper, build_schedule
from frozenseg.builders.weight_conversion import to_official_layout, to_own_layout
from frozenseg.checkpoint import ovseg
from frozenseg.checkpoint.weights import save_weights
from frozenseg.config import ConfigError, load_config
from frozenseg.data.semantic_mapper import SemanticMapper
from frozenseg.errors import UserError
from frozenseg.inference.segmenter import Segmenter
from frozenseg.losses.maskformer_criterion import MaskFormerCriterion
from frozenseg.pipeline.fusion.product import Product
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.pipeline.region_classifiers.masked_crops import Crops, MaskedCrops
from frozenseg.pipeline.region_classifiers.pooled_map import PooledMap
from frozenseg.towers.clip_vit import PROMPTS, CropClip
from frozenseg.towers.map_crops import MapCrops
from tests.fixtures.ovseg import write_coco_stuff

LARGE = "ovseg/ovseg_swin_base_vit_l14.yaml"
CPU = torch.device("cpu")


def system(tiny_ovseg: list[str], *keys: str) -> SegmentationModel:
    torch.manual_seed(0)
    return build_model(load_config(LARGE, [*tiny_ovseg, *keys])).eval()


def official(model: SegmentationModel) -> dict[str, torch.Tensor]:
    state = {f"proposer.{name}": v for name, v in model.proposer.trainable_state().items()}
    assert isinstance(model.region_classifier, MaskedCrops)
    clip = {f"region_classifier.{n}": v for n, v in model.region_classifier.state_dict().items()}
    named, unknown = ovseg.to_official(state | clip)
    assert not unknown
    return named


def picture() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 48, 64), dtype=np.uint8))


def test_the_members_have_the_configured_values(tiny_ovseg) -> None:
    keys = ("MODEL.OVSEG.EXPONENT", "0.45", "MODEL.OVSEG.INVALID_MASKS", "official")
    model = system(tiny_ovseg, *keys)
    crops = model.region_classifier
    assert isinstance(crops, MaskedCrops) and isinstance(crops.clip, CropClip)
    assert crops.clip.mask_prompt_depth == 3 and crops.threshold == 0.4
    assert model.text_encoder is crops.clip and model.region_text_encoder is None
    assert model.fusion == Product(exponent=0.45, invalid="official")


@pytest.mark.parametrize(("precision", "used"), [("auto", torch.bfloat16), ("float32", None)])
def test_crops_use_bfloat16_where_it_is_fast(tiny_ovseg, monkeypatch, precision, used) -> None:
    monkeypatch.setattr("frozenseg.runtime.reduced_precision.bfloat16_is_fast", lambda _: True)
    crops = system(tiny_ovseg, "MODEL.OVSEG.PRECISION", precision).region_classifier
    assert isinstance(crops, MaskedCrops)
    found = []
    monkeypatch.setattr(
        crops.clip, "embed_crops", lambda x, _: found.append(x @ x) or torch.zeros(len(x), 8)
    )
    crops.embed(Crops(torch.ones(1, 3, 12, 12), torch.ones(1, 12, 12) > 0, *([torch.ones(1)] * 2)))
    assert found[0].dtype == (used or torch.float32)


def test_it_segments_and_refuses_other_tasks_in_one_sentence(tiny_ovseg) -> None:
    cfg = load_config(LARGE, tiny_ovseg)
    segmenter = build_segmenter(cfg, model=build_model(cfg))
    found = segmenter(picture(), "road, route; cat")
    assert found.task == "semantic" and found.semantic.shape == (48, 64)
    assert found.vocabulary.synonyms == (("road, route",), ("cat",))
    alone = segmenter(picture(), "cat", task="semantic")
    assert alone.vocabulary.names == ("cat", "others")
    for task in ("panoptic", "instance"):
        with pytest.raises(UserError, match=r"semantic results only.*choose the task semantic"):
            segmenter(picture(), "cat; dog", task=task)
    with pytest.raises(UserError, match="semantic results have no scores"):
        segmenter(picture(), "cat; dog", threshold=0.5)


def test_a_whole_official_file_loads_by_frozenseg_load(tiny_ovseg, tmp_path: Path) -> None:
    model = system(tiny_ovseg)
    torch.manual_seed(5)
    for value in model.state_dict().values():
        value.copy_(torch.randn_like(value) * 0.1 if value.is_floating_point() else value)
    torch.save({"model": official(model)}, tmp_path / "ovseg.pth")
    segmenter = frozenseg.load(LARGE, weights=tmp_path / "ovseg.pth", overrides=tiny_ovseg)
    assert isinstance(segmenter, Segmenter)
    loaded, expected = segmenter.model.state_dict(), model.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.items())


def test_a_file_that_lacks_its_prompts_is_refused(tiny_ovseg, tmp_path: Path) -> None:
    state = official(system(tiny_ovseg))
    del state[f"clip_adapter.clip_model.{PROMPTS}"]
    torch.save({"model": state}, tmp_path / "ft.pth")
    with pytest.raises(UserError, match=r"no mask prompts.*MODEL\.OVSEG\.PROMPT_DEPTH is 3"):
        load_model(load_config(LARGE, tiny_ovseg), tmp_path / "ft.pth")


@pytest.mark.parametrize("part", ["sem_seg_head.pixel_decoder.mask_features.bias", "visual.proj"])
def test_a_file_that_lacks_a_weight_is_refused(tiny_ovseg, tmp_path: Path, part: str) -> None:
    state = official(system(tiny_ovseg))
    state = {name: value for name, value in state.items() if not name.endswith(part)}
    torch.save({"model": state}, tmp_path / "part.pth")
    with pytest.raises(UserError, match=r"part\.pth"):
        load_model(load_config(LARGE, tiny_ovseg), tmp_path / "part.pth")


def test_the_configured_clip_stays_if_the_files_is_skipped(tiny_ovseg, tmp_path: Path) -> None:
    model = system(tiny_ovseg)
    own = model.text_encoder.fingerprint
    assert isinstance(model.text_encoder, CropClip)
    model.text_encoder.model.visual.proj.zero_()
    torch.save({"model": official(model)}, tmp_path / "ovseg.pth")
    cfg = load_config(LARGE, [*tiny_ovseg, "MODEL.WEIGHTS_TOWERS", "skip"])
    assert load_model(cfg, tmp_path / "ovseg.pth").text_encoder.fingerprint == own


def test_files_are_converted_both_ways(tiny_ovseg, tmp_path: Path) -> None:
    cfg, model = load_config(LARGE, tiny_ovseg), system(tiny_ovseg)
    expected = official(model)
    first, own, last = (tmp_path / name for name in ("a.pth", "b.safetensors", "c.pth"))
    torch.save({"model": expected}, first)
    to_own_layout(first, own, cfg)
    assert load_model(cfg, own).text_encoder.fingerprint == model.text_encoder.fingerprint
    to_official_layout(own, last, cfg)
    back = torch.load(last)["model"]
    assert back.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in back.items())


def test_a_proposer_alone_becomes_official_with_the_configured_clip(
    tiny_ovseg, tmp_path: Path
) -> None:
    cfg, model = load_config(LARGE, tiny_ovseg), system(tiny_ovseg)
    save_weights(model.proposer, tmp_path / "own.safetensors")  # type: ignore[arg-type]
    to_official_layout(tmp_path / "own.safetensors", tmp_path / "whole.pth", cfg)
    assert torch.load(tmp_path / "whole.pth")["model"].keys() == official(model).keys()
    to_official_layout(tmp_path / "own.safetensors", tmp_path / "alone.pth", cfg, with_towers=False)
    assert not ovseg.holds_clip(torch.load(tmp_path / "alone.pth")["model"])


def test_two_iterations_train_are_saved_and_resumed(tiny_ovseg, tmp_path: Path, monkeypatch):
    write_coco_stuff(tmp_path)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    keys = [*tiny_ovseg, "OUTPUT_DIR", str(tmp_path / "run"), "SEED", "1"]
    cfg = load_config(LARGE, [*keys, "SOLVER.CHECKPOINT_PERIOD", "1"])
    model, trainer = build_training(cfg, device=CPU)
    before = {name: value.clone() for name, value in model.trainable_state().items()}
    assert isinstance(trainer.step.criterion, MaskFormerCriterion)
    assert trainer.run()
    after = model.trainable_state()
    assert any(not torch.equal(value, before[name]) for name, value in after.items())

    longer = load_config(LARGE, [*keys, "SOLVER.MAX_ITER", "3"])
    resumed, trainer = build_training(longer, device=CPU, options=RunOptions(resume=True))
    assert trainer.iteration == 2
    for name, value in resumed.trainable_state().items():
        assert torch.equal(value, after[name]), name
    assert trainer.run()

    weights = tmp_path / "run" / "checkpoints"
    newest = max(path for path in weights.iterdir() if path.is_dir())
    loaded = load_model(load_config(LARGE, tiny_ovseg), newest)
    for name, value in loaded.trainable_state().items():
        assert torch.equal(value, resumed.trainable_state()[name])


def test_the_recipe_is_chosen_by_the_configuration(tiny_ovseg) -> None:
    keys = ("SOLVER.MAX_ITER", "100", "SOLVER.WARMUP_ITERS", "10")
    cfg = load_config(LARGE, [*tiny_ovseg, *keys])
    assert isinstance(build_mapper(cfg), SemanticMapper)
    schedule = build_schedule(cfg)
    assert schedule(0) == pytest.approx(1e-6)
    assert schedule(50) == pytest.approx(0.5**0.9)


def test_masked_crops_take_the_masks_of_frozenseg(tiny_vit_folder, picture_of_shapes) -> None:
    keys = ["MODEL.PIPELINE.REGION_CLASSIFIER", "masked_crops"]
    other = ["MODEL.PIPELINE.REGION_CLIP_NAME", str(tiny_vit_folder), "MODEL.OVSEG.PROMPT_DEPTH"]
    for chosen in (keys, [*keys, *other, "3"]):
        cfg = frozenseg.model_config("shapes", device="cpu", overrides=chosen)
        segmenter = build_segmenter(cfg)
        found = segmenter(picture_of_shapes, "red circle; grass [stuff]", task="semantic")
        assert found.semantic.shape == picture_of_shapes.shape[1:]
    assert segmenter.model.region_text_encoder is not segmenter.model.text_encoder


def test_a_pooled_map_takes_the_masks_of_maskformer(tiny_ovseg) -> None:
    keys = ("MODEL.PIPELINE.REGION_CLASSIFIER", "pooled_map")
    own = ("MODEL.PIPELINE.REGION_CLIP_NAME", "shapes")
    cfg = load_config(LARGE, [*tiny_ovseg, *keys, *own])
    model = build_model(cfg)
    assert isinstance(model.region_classifier, PooledMap)
    found = build_segmenter(cfg, model=model)(picture(), "cat; dog", task="semantic")
    assert found.semantic.shape == (48, 64)
    with pytest.raises(ConfigError, match="pooled_map needs the maps of a ConvNeXt or ResNet"):
        build_model(load_config(LARGE, [*tiny_ovseg, *keys, "MODEL.OVSEG.PROMPT_DEPTH", "0"]))


def test_masked_crops_take_the_masks_of_sam(tiny_vit_folder, picture_of_shapes) -> None:
    keys = [
        *("MODEL.PIPELINE.PROPOSER", "sam_points", "MODEL.PIPELINE.FUSION", "product"),
        *("MODEL.PIPELINE.REGION_CLASSIFIER", "masked_crops"),
        *("MODEL.PIPELINE.REGION_CLIP_NAME", str(tiny_vit_folder)),
        *("MODEL.OVSEG.PROMPT_DEPTH", "3", "MODEL.MASK_ENSEMBLE.POINTS_PER_SIDE", "4"),
    ]
    with pytest.raises(ConfigError, match="product needs class logits"):
        build_model(frozenseg.model_config("shapes", device="cpu", overrides=keys))
    alone = [*keys, "MODEL.OVSEG.EXPONENT", "0.0"]
    cfg = frozenseg.model_config("shapes", device="cpu", overrides=alone)
    found = build_segmenter(cfg)(picture_of_shapes, "red circle; grass", task="semantic")
    assert found.semantic.shape == picture_of_shapes.shape[1:]


def test_a_convnext_has_no_prompts(tiny_ovseg) -> None:
    keys = ["MODEL.PIPELINE.REGION_CLASSIFIER", "masked_crops", "MODEL.OVSEG.PROMPT_DEPTH"]
    with pytest.raises(UserError, match=r"without patch tokens.*PROMPT_DEPTH is 3"):
        build_model(frozenseg.model_config("shapes", device="cpu", overrides=[*keys, "3"]))
    model = build_model(frozenseg.model_config("shapes", device="cpu", overrides=[*keys, "0"]))
    assert isinstance(model.region_classifier, MaskedCrops)
    assert isinstance(model.region_classifier.clip, MapCrops)


def test_another_width_of_text_is_refused(tiny_ovseg) -> None:
    with pytest.raises(ConfigError, match=r"EMBEDDING_DIM is 16 .* embeds in 8: set it to 8"):
        system(tiny_ovseg, "MODEL.SEM_SEG_HEAD.EMBEDDING_DIM", "16")


@pytest.fixture
def picture_of_shapes() -> torch.Tensor:
    from frozenseg.data.shapes import ShapesDataset

    return ShapesDataset("val")[1].image
