"""This project's evaluators in Detectron2's evaluation loop."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2", reason="needs Detectron2")

from frozenseg.data.catalog import dataset_vocabulary
from frozenseg.data.shapes import ShapesDataset
from frozenseg.detectron2 import EvaluatorsAdapter, Trainer, build_evaluator, detectron2_config
from frozenseg.detectron2.datasets import records_of
from frozenseg.detectron2.records import entry_of, result_of
from frozenseg.evaluation.evaluators import EvaluatorSpec
from frozenseg.structures import (
    InputImage,
    Instances,
    PanopticMap,
    Result,
    Sample,
    Segment,
    boxes_of,
)
from tests.detectron2.conftest import Configure

pytestmark = pytest.mark.detectron2


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """The first three of the validation split, which is made no longer than that."""
    records = records_of("shapes_val")[:3]
    monkeypatch.setattr("frozenseg.detectron2.loaders.records_of", lambda *_: records)
    return [ShapesDataset("val")[index] for index in range(3)]


def perfect(sample: Sample, num_classes: int) -> Result:
    """What a model without fault returns."""
    ids, segments = sample.panoptic
    things = [segment for segment in segments if segment.is_thing]
    masks = torch.stack([ids == segment.id for segment in things])
    classes = torch.tensor([segment.class_id for segment in things])
    maps = torch.nn.functional.one_hot(sample.semantic, num_classes).permute(2, 0, 1).float()
    instances = Instances(classes, torch.ones(len(things)), masks, boxes_of(masks))
    return Result(
        semantic=sample.semantic, panoptic=sample.panoptic, instances=instances, class_maps=maps
    )


class Oracle(torch.nn.Module):
    """Returns each image's annotation."""

    def forward(self, entries: list[dict]) -> list[dict]:
        return [entry_of(perfect(entry["sample"], len(entry["vocabulary"]))) for entry in entries]


def test_a_model_without_fault_scores_100(configure: Configure, scenes: list[Sample]) -> None:
    results = Trainer.test(detectron2_config(configure()), Oracle())
    assert results["panoptic"]["PQ"] == pytest.approx(100)
    assert results["semantic"]["mIoU"] == pytest.approx(100)
    assert results["instance"]["AP"] == pytest.approx(100)
    assert results["panoptic"]["unseen/PQ"] == pytest.approx(100)
    report = Path(configure().OUTPUT_DIR) / "inference" / "shapes_val"
    assert json.loads((report / "metrics.json").read_text())["panoptic/PQ"] == pytest.approx(100)
    assert "red circle" in (report / "per_class_panoptic.csv").read_text()


def test_scores_are_those_of_the_projects_own_evaluation(
    configure: Configure, scenes: list[Sample]
) -> None:
    cfg = detectron2_config(configure())
    torch.manual_seed(0)
    model = Trainer.build_model(cfg).eval()
    results = Trainer.test(cfg, model)
    outputs = ("panoptic", "semantic", "instance")
    predict = model.segmenter.build_predictor(dataset_vocabulary("shapes_val"), outputs=outputs)
    entries = [entry for batch in Trainer.build_test_loader(cfg, "shapes_val") for entry in batch]
    adapter = build_evaluator(cfg, "shapes_val")
    for spec in adapter.specs:
        evaluator = spec.make()
        for index, sample in enumerate(scenes):
            (result,) = predict([InputImage(entries[index]["image"], sample.image, (256, 256))])
            spec.feed(evaluator, result, sample)
        for name, value in evaluator.evaluate().items():
            task, measure = name.split("/", 1)
            assert results[task][measure] == pytest.approx(value, nan_ok=True)


def test_recall_is_measured_where_it_is_asked_for(
    configure: Configure, scenes: list[Sample]
) -> None:
    test = "MODEL.MASK_FORMER.TEST."
    asked = {"RECALL_ON": True, "PANOPTIC_ON": False, "SEMANTIC_ON": False, "INSTANCE_ON": False}
    cfg = detectron2_config(configure(**{test + key: value for key, value in asked.items()}))
    results = Trainer.test(cfg, Trainer.build_model(cfg))
    assert list(results) == ["recall"]
    assert results["recall"]["R50"] >= results["recall"]["R90"] >= 0


def test_other_words_are_taken_from_the_file_that_is_set(
    configure: Configure, scenes: list[Sample], tmp_path: Path
) -> None:
    words = tmp_path / "words.txt"
    words.write_text(
        "\n".join(f"{i}:thing {i}" for i in range(len(dataset_vocabulary("shapes_val"))))
    )
    cfg = detectron2_config(configure(**{"DATASETS.TEST_VOCABULARY": (str(words),)}))
    results = Trainer.test(cfg, Trainer.build_model(cfg))
    assert np.isnan(results["panoptic"]["seen/PQ"])  # training knew none of these words


def test_a_result_survives_detectron2s_form() -> None:
    sample = ShapesDataset("val")[0]
    result = perfect(sample, len(dataset_vocabulary("shapes_val")))
    back = result_of(entry_of(result))
    assert torch.equal(back.semantic, result.semantic)
    assert torch.equal(back.panoptic.ids, result.panoptic.ids)
    assert back.panoptic.segments == result.panoptic.segments
    for part, expected in zip(back.instances, result.instances, strict=True):
        assert torch.equal(part, expected)
    assert entry_of(Result()) == {}


class Pixels:
    """Counts pixels."""

    def __init__(self) -> None:
        self.state = {"pixels": np.zeros(1)}

    def process(self, prediction: PanopticMap) -> None:
        self.state["pixels"] += prediction.ids.numel()

    def evaluate(self) -> dict[str, float]:
        return {"panoptic/things/pixels": float(self.state["pixels"][0])}

    def per_class(self) -> list:
        return []

    def state_dict(self) -> dict[str, np.ndarray]:
        return self.state

    def merge(self, other: dict[str, np.ndarray]) -> None:
        self.state["pixels"] += other["pixels"]


@pytest.fixture
def counting() -> EvaluatorsAdapter:
    spec = EvaluatorSpec("panoptic", Pixels, lambda spec, result, _: spec.process(result.panoptic))
    return EvaluatorsAdapter([spec])


def feed(adapter: EvaluatorsAdapter) -> None:
    ids = PanopticMap(torch.zeros(2, 3, dtype=torch.int32), (Segment(1, 0, is_thing=True),))
    adapter.process([{"sample": None}], [entry_of(Result(panoptic=ids))])


def test_numbers_come_by_task_and_a_reset_forgets(counting: EvaluatorsAdapter) -> None:
    feed(counting)
    feed(counting)
    assert counting.evaluate() == {"panoptic": {"things/pixels": 12.0}}
    counting.reset()
    feed(counting)
    assert counting.evaluate() == {"panoptic": {"things/pixels": 6.0}}


def test_processes_are_added_up_in_the_main_one(
    counting: EvaluatorsAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"panoptic": {"pixels": np.array([100.0])}}
    monkeypatch.setattr("detectron2.utils.comm.gather", lambda state: [state, other])
    feed(counting)
    assert counting.evaluate() == {"panoptic": {"things/pixels": 106.0}}
    monkeypatch.setattr("detectron2.utils.comm.is_main_process", lambda: False)
    assert counting.evaluate() is None
