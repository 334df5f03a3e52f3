"""Written predictions of imperfect models, scored by the official packages and by ourselves."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from frozenseg.builders.evaluation import evaluate_dataset
from frozenseg.builders.options import RunOptions
from frozenseg.config import load_config
from frozenseg.data.catalog import dataset_samples, dataset_spec, dataset_vocabulary
from frozenseg.data.readers.panoptic import PanopticReader
from frozenseg.metrics import Classes, PanopticEvaluator, SemanticEvaluator
from frozenseg.structures import Instances, Result, Sample, boxes_of
from frozenseg.vocabulary.class_tables import class_table
from tests.builders.test_evaluation import FILES, Oracle, cache, on_disk  # noqa: F401 (fixtures)

COCO = "openvocab_coco_2017_val_panoptic_with_sem_seg"
ADE20K = "openvocab_ade20k_panoptic_val"
CITYSCAPES = "openvocab_cityscapes_fine_panoptic_val"
LVIS = "openvocab_lvis_v1_val"


class Imperfect(Oracle):
    """Predicts the annotation moved by a pixel, with more and less certain objects."""

    def result(self, sample: Sample) -> Result:
        result = super().result(sample)
        panoptic = result.panoptic
        if panoptic is not None:
            first = torch.arange(panoptic.ids.shape[1]) < 2
            ids = torch.where(first, panoptic.ids, _moved(panoptic.ids))
            listed = set(ids.unique().tolist())
            kept = tuple(each for each in panoptic.segments if each.id in listed)
            known = torch.isin(ids, torch.tensor([each.id for each in kept], dtype=ids.dtype))
            panoptic = panoptic._replace(ids=ids * known, segments=kept)
        semantic = None if result.semantic is None else _moved(result.semantic)
        return Result(semantic=semantic, panoptic=panoptic, instances=result.instances)

    def objects(self, sample: Sample) -> Instances:
        found = super().objects(sample)
        masks = torch.cat([found.masks, _moved(found.masks)])
        count = len(masks)
        scores = (torch.arange(count) * 7 % 11).float() / 13 + 0.1
        return Instances(found.class_ids.repeat(2), scores, masks, boxes_of(masks))


def _moved(maps: Tensor) -> Tensor:
    return maps.roll(1, dims=-1)


@pytest.fixture
def written(on_disk, tmp_path: Path):  # noqa: F811
    """Evaluates the imperfect model: its metrics and the folders of predictions and data sets."""

    def write(name: str) -> tuple[dict[str, float], Path, Path]:
        vocabulary = FILES[name].stem
        root = on_disk(vocabulary)
        cfg = load_config(FILES[name], ["DATALOADER.NUM_WORKERS", "0"])
        folder = tmp_path / "predictions"
        options = RunOptions(save_predictions=folder)
        report = evaluate_dataset(cfg, Imperfect(name), name, tmp_path / "out", options)
        return report.metrics, folder, root

    return write


def _semantic_metrics(name: str, folder: Path, first: int = 0) -> dict[str, float]:
    evaluator = SemanticEvaluator(Classes(len(dataset_vocabulary(name))))
    for sample in dataset_samples(name):
        stem = f"{sample.image_id:012d}" if isinstance(sample.image_id, int) else sample.image_id
        labels = np.array(Image.open(folder / "semantic" / f"{stem}.png")).astype(np.int64)
        evaluator.process(torch.from_numpy(labels - first), sample.semantic)
    return evaluator.evaluate()


def _panoptic_quality(name: str, folder: Path) -> float:
    spec = dataset_spec(name)
    is_thing = spec.class_list.vocabulary.is_thing
    files = replace(spec.panoptic, json="panoptic.json", maps="panoptic")
    reader = PanopticReader(files, root=folder, classes=spec.class_list)
    evaluator = PanopticEvaluator(Classes(len(is_thing), is_thing=is_thing))
    for index, sample in enumerate(dataset_samples(name)):
        evaluator.process(reader.read(index), sample.panoptic)
    return evaluator.evaluate()["panoptic/PQ"]


def test_coco_predictions_give_our_figures(written) -> None:
    metrics, folder, root = written(COCO)
    assert 0 < metrics["panoptic/PQ"] < 100
    assert _panoptic_quality(COCO, folder) == pytest.approx(metrics["panoptic/PQ"])
    assert _semantic_metrics(COCO, folder)["semantic/mIoU"] == metrics["semantic/mIoU"]
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    truth = coco.COCO(str(root / "coco/annotations/instances_val2017.json"))
    found = truth.loadRes(str(folder / "instances.json"))
    evaluation = cocoeval.COCOeval(truth, found, "segm")
    evaluation.params.catIds = sorted(dataset_spec(COCO).class_list.ids)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert 0 < metrics["instance/AP"] < 100
    assert metrics["instance/AP"] == pytest.approx(100 * evaluation.stats[0], abs=1e-9)
    assert metrics["instance/AP50"] == pytest.approx(100 * evaluation.stats[1], abs=1e-9)


def test_the_categories_of_panoptic_predictions_are_those_of_coco(written) -> None:
    _, folder, _ = written(COCO)
    content = json.loads((folder / "panoptic.json").read_text())
    names = {each["id"]: (each["name"], each["isthing"]) for each in content["categories"]}
    assert names[90] == ("toothbrush", 1) and names[199][1] == 0
    assert [each["image_id"] for each in content["annotations"]] == [139, 285]


def test_ade20k_label_maps_count_classes_from_1(written) -> None:
    metrics, folder, _ = written(ADE20K)
    assert 0 < metrics["semantic/mIoU"] < 100
    assert _semantic_metrics(ADE20K, folder, first=1)["semantic/mIoU"] == metrics["semantic/mIoU"]
    assert _panoptic_quality(ADE20K, folder) == pytest.approx(metrics["panoptic/PQ"])


def test_lvis_results_give_our_figures(
    written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lvis = pytest.importorskip("lvis")
    monkeypatch.setattr(np, "float", float, raising=False)  # the package uses NumPy's old name
    metrics, folder, root = written(LVIS)
    content = json.loads((root / "lvis/lvis_v1_val.json").read_text())
    rows = class_table("lvis_v1")
    content["categories"] = [{"id": row.dataset_id, "frequency": row.frequency} for row in rows]
    (tmp_path / "lvis.json").write_text(json.dumps(content))
    truth = lvis.LVIS(str(tmp_path / "lvis.json"))
    results = lvis.LVISResults(truth, str(folder / "instances.json"))
    evaluation = lvis.LVISEval(truth, results, "segm")
    evaluation.run()
    assert 0 < metrics["lvis/AP"] < 100
    assert metrics["lvis/AP"] == pytest.approx(100 * evaluation.get_results()["AP"], abs=1e-9)


def test_cityscapes_predictions_give_our_figures(
    written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cityscapesscripts")
    from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as objects
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as pixels

    monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    metrics, folder, root = written(CITYSCAPES)
    labels = sorted(map(str, root.glob("cityscapes/gtFine/val/*/*_gtFine_labelIds.png")))
    found = []
    for label in labels:  # as the official script looks for the file of an image
        arguments = SimpleNamespace(**vars(pixels.args))
        arguments.predictionWalk = None
        arguments.predictionPath = str(folder / "semantic")
        found.append(pixels.getPrediction(arguments, label))
    arguments.JSONOutput, arguments.quiet = False, True
    expected = pixels.evaluateImgLists(found, labels, arguments)
    assert 0 < metrics["cityscapes/IoU"] < 100
    assert metrics["cityscapes/IoU"] == pytest.approx(100 * expected["averageScoreClasses"])

    arguments = SimpleNamespace(**vars(objects.args))
    arguments.predictionPath = str(folder / "instances")
    arguments.gtInstancesFile = str(tmp_path / "instances.json")
    arguments.JSONOutput, arguments.quiet = False, True
    monkeypatch.setattr(objects, "writeDict2JSON", lambda *_: None)
    annotations = [label.replace("labelIds", "instanceIds") for label in labels]
    lists = [str(folder / "instances" / f"{Path(file).stem}.txt") for file in found]
    averages = objects.evaluateImgLists(lists, annotations, arguments)["averages"]
    assert metrics["cityscapes/AP"] == pytest.approx(100 * averages["allAp"], nan_ok=True)
