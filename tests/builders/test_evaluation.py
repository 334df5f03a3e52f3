"""Every data set from its official files to its numbers, by its own file below ``configs/eval``."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from frozenseg.builders.evaluation import check_test_sets, evaluate_dataset, save_report
from frozenseg.builders.options import RunOptions
from frozenseg.builders.scoring import build_evaluators, evaluated_outputs
from frozenseg.builders.vocabularies import build_known_vocabulary, build_test_vocabulary
from frozenseg.cli.train_net import main
from frozenseg.config import CONFIG_ROOT, ConfigError, load_config
from frozenseg.data.catalog import dataset_samples, dataset_vocabulary
from frozenseg.data.registry import dataset_spec
from frozenseg.data.specs import SPECS
from frozenseg.errors import UserError
from frozenseg.structures import InputImage, Instances, Result, Sample, Segment, boxes_of
from frozenseg.vocabulary import Vocabulary

Download = Callable[..., Path]

EVALUATED = SPECS[1:13]  # without COCO's training split and COCO-Stuff
FILES = {spec.name: CONFIG_ROOT / "eval" / f"{spec.vocabulary}.yaml" for spec in EVALUATED}
DOWNLOADS = {
    "coco_panoptic": ("coco", "prepare_coco"),
    "ade20k_150": ("ade20k", "prepare_ade20k"),
    "ade20k_847": ("ade20k_full", "prepare_ade20k_full"),
    "cityscapes": ("cityscapes", None),
    "mapillary_vistas": ("mapillary_vistas", None),
    "bdd100k_panoptic": ("bdd100k", None),
    "bdd100k_semantic": ("bdd100k", None),
    "pascal_context_459": ("pascal_context", "prepare_pascal_context"),
    "pascal_context_59": ("pascal_context", "prepare_pascal_context"),
    "pascal_voc_21": ("pascal_voc", "prepare_pascal_voc"),
    "pascal_voc_20": ("pascal_voc", "prepare_pascal_voc"),
    "lvis_v1": ("lvis", None),
}
PANOPTIC = {"panoptic/PQ", "panoptic/things/SQ", "panoptic/stuff/RQ"}
SEMANTIC = {"semantic/mIoU", "semantic/FWIoU", "semantic/pixel_accuracy"}
INSTANCE = {"instance/AP", "instance/AP50", "instance/APs"}
CITYSCAPES = {"cityscapes/IoU", "cityscapes/iIoU", "cityscapes/category_IoU"}
MEASURED = {
    "coco_panoptic": PANOPTIC | SEMANTIC | INSTANCE,
    "ade20k_150": PANOPTIC | SEMANTIC | INSTANCE,
    "cityscapes": PANOPTIC | SEMANTIC | CITYSCAPES | {"cityscapes/AP", "cityscapes/AP50"},
    "mapillary_vistas": PANOPTIC | SEMANTIC,
    "bdd100k_panoptic": PANOPTIC,
    "lvis_v1": {"lvis/AP", "lvis/APr", "lvis/APc", "lvis/APf"},
}
BDD = "bdd10k_val_sem_seg"
VOC = "openvocab_pascal20_sem_seg_val"
BDD_PICTURE = "bdd100k/images/10k/val/7d06fefd.jpg"
BDD_LABELS = "bdd100k/labels/sem_seg/masks/val/7d06fefd.png"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the words of these tests are embedded once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def on_disk(
    download: Download,
    prepare: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    cache: Path,
) -> Callable[[str], Path]:
    """Lays a data set out by its vocabulary's name and prepares it as its makers or we do."""
    monkeypatch.setenv("FROZENSEG_CACHE", str(cache))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))

    def lay_out(vocabulary: str) -> Path:
        written, script = DOWNLOADS[vocabulary]
        root = download(written)
        if script is not None:
            prepare(script, root)
        if vocabulary == "cityscapes":
            conversion = pytest.importorskip("cityscapesscripts.preparation.createPanopticImgs")
            folder = str(root / "cityscapes/gtFine")
            conversion.convert2panoptic(folder, folder, useTrainId=False, setNames=["val"])
        return root

    return lay_out


class Oracle:
    """A segmenter that returns what is annotated, and notes what it was asked for."""

    model = torch.nn.Module()
    model.trainable_state = dict

    def __init__(self, name: str) -> None:
        self.samples: Iterator[Sample] = iter(dataset_samples(name))
        self.num_classes = len(dataset_vocabulary(name))

    def build_predictor(
        self, vocabulary: Vocabulary, *, outputs: tuple[str, ...], training: Vocabulary
    ) -> Callable[..., list[Result]]:
        self.words, self.outputs, self.training = vocabulary, outputs, training
        return self.predict

    def predict(self, images: list[InputImage]) -> list[Result]:
        self.sizes = [tuple(image.pixels.shape[-2:]) for image in images]
        return [self.result(next(self.samples)) for _ in images]

    def result(self, sample: Sample) -> Result:
        labels = proposals = panoptic = instances = None
        if sample.semantic is not None:
            labels = sample.semantic.where(sample.semantic < self.num_classes, 0)
            proposals = sample.semantic == sample.semantic.unique()[:, None, None]
        if sample.panoptic is not None:
            panoptic = sample.panoptic._replace(
                segments=tuple(
                    each for each in sample.panoptic.segments if self.shows(sample, each)
                )
            )
        if sample.instances is not None or panoptic is not None:
            instances = self.objects(sample)
        extras = {} if proposals is None else {"proposals": proposals}
        return Result(semantic=labels, panoptic=panoptic, instances=instances, extras=extras)

    def shows(self, sample: Sample, segment: Segment) -> bool:
        return bool((sample.panoptic.ids == segment.id).any())

    def objects(self, sample: Sample) -> Instances:
        if sample.instances is not None:
            pairs = [(each.class_id, each.mask) for each in sample.instances if not each.is_crowd]
        else:
            pairs = [
                (each.class_id, sample.panoptic.ids == each.id)
                for each in sample.panoptic.segments
                if each.is_thing and not each.is_crowd
            ]
        masks = torch.stack(
            [mask for _, mask in pairs] or [torch.zeros(sample.image.shape[1:], dtype=torch.bool)]
        )[: len(pairs)]
        class_ids = torch.tensor([class_id for class_id, _ in pairs], dtype=torch.int64)
        return Instances(class_ids, torch.ones(len(pairs)), masks, boxes_of(masks))


@pytest.mark.parametrize("spec", EVALUATED, ids=lambda spec: spec.vocabulary)
def test_what_is_annotated_scores_100_by_the_papers_measures(on_disk, tmp_path, spec) -> None:
    on_disk(spec.vocabulary)
    keys = ["MODEL.MASK_FORMER.TEST.RECALL_ON", "True", "DATALOADER.NUM_WORKERS", "0"]
    cfg = load_config(FILES[spec.name], keys)
    oracle = Oracle(spec.name)
    limit = 1 if spec.vocabulary == "ade20k_847" else None  # the second picture is large
    options = RunOptions(limit=limit)
    report = evaluate_dataset(cfg, oracle, spec.name, tmp_path / "out", options)
    save_report(report, tmp_path / "out")
    expected = MEASURED.get(spec.vocabulary, SEMANTIC)
    recall = {"recall/R50", "recall/seen/R75", "recall/unseen/R90"}
    expected = expected | recall if "semantic" in spec.tasks else expected
    assert expected <= report.metrics.keys()
    assert {key.split("/")[0] for key in report.metrics} == {key.split("/")[0] for key in expected}
    defined = {key: value for key, value in report.metrics.items() if value == value}
    least = 60.0 if spec.vocabulary == "ade20k_150" else 99.99  # stated areas exceed visible ones
    assert all(value >= least for value in defined.values()), defined
    main_measures = {"panoptic/PQ", "semantic/mIoU", "instance/AP", "lvis/AP", "cityscapes/IoU"}
    assert main_measures & expected <= defined.keys()
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written.keys() == report.metrics.keys()
    assert set(oracle.outputs) == set(spec.tasks) | (
        {"proposals"} if "semantic" in spec.tasks else set()
    )
    assert min(oracle.sizes[0]) == spec.short_side or max(oracle.sizes[0]) == spec.long_side


@pytest.mark.parametrize("spec", EVALUATED, ids=lambda spec: spec.vocabulary)
def test_every_data_set_has_a_file_that_says_what_its_record_says(spec) -> None:
    cfg = load_config(FILES[spec.name])
    test = cfg.MODEL.MASK_FORMER.TEST
    assert (spec.name,) == cfg.DATASETS.TEST
    assert (spec.short_side, spec.long_side) == (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    assert spec.object_threshold == test.OBJECT_MASK_THRESHOLD
    flags = {
        "panoptic": test.PANOPTIC_ON,
        "semantic": test.SEMANTIC_ON,
        "instance": test.INSTANCE_ON,
    }
    assert {task for task, on in flags.items() if on} == set(spec.tasks)
    header = FILES[spec.name].read_text()
    assert f"configs/eval/{spec.vocabulary}.yaml" in header
    assert len([line for line in header.splitlines() if not line.startswith("#")]) <= 6


def test_no_file_is_without_a_data_set() -> None:
    assert set((CONFIG_ROOT / "eval").glob("*.yaml")) == set(FILES.values())


def test_lvis_counts_as_seen_what_training_knew_as_things() -> None:
    cfg = load_config(FILES["openvocab_lvis_v1_val"])
    known = build_known_vocabulary(cfg, "openvocab_lvis_v1_val")
    assert len(known) == 80 and all(known.is_thing)
    others = build_known_vocabulary(cfg, "openvocab_ade20k_panoptic_val")
    assert len(others) == 133


def test_a_data_set_makes_only_what_it_is_scored_for() -> None:
    every = load_config("frozenseg_convnext_large.yaml")
    assert evaluated_outputs(every, "openvocab_pascal21_sem_seg_val") == ("semantic",)
    assert evaluated_outputs(every, "openvocab_lvis_v1_val") == ("instance",)


def test_images_of_any_sizes_are_evaluated_in_batches_of_the_configured_size(on_disk, tmp_path):
    on_disk("pascal_voc_21")
    (name,) = (spec.name for spec in EVALUATED if spec.vocabulary == "pascal_voc_21")
    reports, oracles = [], [Oracle(name), Oracle(name)]
    for oracle, batch in zip(oracles, ("1", "2"), strict=True):
        keys = ["TEST.IMS_PER_BATCH", batch, "DATALOADER.NUM_WORKERS", "0"]
        folder = tmp_path / batch
        reports.append(evaluate_dataset(load_config(FILES[name], keys), oracle, name, folder))
    assert reports[0].metrics == pytest.approx(reports[1].metrics, nan_ok=True)
    assert [len(oracle.sizes) for oracle in oracles] == [1, 2]


def test_stuff_among_the_scored_masks_is_no_object(on_disk, tmp_path) -> None:
    on_disk("ade20k_150")
    name = "openvocab_ade20k_panoptic_val"
    cfg = load_config(FILES[name], ["MODEL.MASK_FORMER.TEST.PANOPTIC_ON", "False"])
    (spec,) = [spec for spec in build_evaluators(cfg, name) if spec.name == "instance"]
    sample, evaluator = dataset_samples(name)[0], spec.make()
    found = Oracle(name).objects(sample)
    wall = Instances(
        torch.cat([found.class_ids, torch.tensor([0])]),
        torch.cat([found.scores, torch.tensor([1.0])]),
        torch.cat([found.masks, found.masks[:1]]),
        torch.cat([found.boxes, found.boxes[:1]]),
    )
    spec.feed(evaluator, Result(instances=wall), sample)
    assert evaluator.evaluate()["instance/AP"] == pytest.approx(100.0)


class TestWords:
    """Other words for the same classes, such as the official prompt files."""

    names = (BDD, VOC)

    def config(self, *files: str, train: str = ""):
        keys = ["DATASETS.TEST", str(self.names), "DATASETS.TEST_VOCABULARY", str(files)]
        keys += ["DATASETS.TRAIN_VOCABULARY", train]
        return load_config("frozenseg_convnext_large.yaml", keys)

    def test_each_test_set_has_its_own(self, tmp_path: Path) -> None:
        own = dataset_vocabulary(self.names[1])
        (tmp_path / "words.txt").write_text("\n".join(f"a {name}" for name in own.names))
        cfg = self.config("", str(tmp_path / "words.txt"))
        assert build_test_vocabulary(cfg, self.names[0]) == dataset_vocabulary(self.names[0])
        other = build_test_vocabulary(cfg, self.names[1])
        assert other.names == tuple(f"a {name}" for name in own.names)
        assert (other.is_thing, other.colors) == (own.is_thing, own.colors)

    def test_an_official_file_counts_from_its_placeholder(self, tmp_path: Path) -> None:
        lines = ["0:invalid_class_id", *(f"{k}:word {k},synonym {k}" for k in range(1, 20))]
        (tmp_path / "official.txt").write_text("\n".join(lines))
        words = build_test_vocabulary(
            self.config(str(tmp_path / "official.txt"), ""), self.names[0]
        )
        assert len(words) == 19 and words.synonyms[0] == ("word 1", "synonym 1")

    def test_the_words_of_training_decide_what_is_seen(self, tmp_path: Path) -> None:
        training = dataset_vocabulary(SPECS[0].name)
        lines = [f"never heard of {k}" for k in range(len(training))]
        (tmp_path / "train.txt").write_text("\n".join(lines))
        cfg = self.config(train=str(tmp_path / "train.txt"))
        test = dataset_vocabulary(self.names[1])
        known = build_known_vocabulary(cfg, self.names[1])
        assert not any(test.seen_by(known)) and any(test.seen_by(training))

    def test_every_test_set_or_none_has_a_file(self) -> None:
        with pytest.raises(UserError, match="has 1 files for the 2 data sets"):
            build_test_vocabulary(self.config("words.txt"), self.names[0])

    def test_a_file_for_other_classes_is_refused_before_anything_is_loaded(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "words.txt").write_text("cat\ndog\n")
        with pytest.raises(UserError, match="has 2 classes where 19 are expected"):
            check_test_sets(self.config(str(tmp_path / "words.txt"), ""))


class TestCommands:
    """The miniature model on small files: both commands, from end to end."""

    small = ("INPUT.MIN_SIZE_TEST", "64", "DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu")

    @pytest.fixture
    def run(self, tmp_path: Path):
        from typer.testing import CliRunner

        from frozenseg.cli.main import app

        def call(*arguments: str):
            output = str(tmp_path / "out")
            return CliRunner().invoke(app, ["evaluate", "-o", output, *arguments, *self.small])

        return call

    def metrics(self, folder: Path) -> dict[str, float | None]:
        return json.loads((folder / "metrics.json").read_text())

    def test_evaluate_takes_tasks_from_the_data_sets_own_file(
        self, on_disk, run, tmp_path: Path
    ) -> None:
        on_disk("cityscapes")
        done = run("--dataset", "cityscapes")
        assert done.exit_code == 0, done.output
        assert self.metrics(tmp_path / "out").keys() >= MEASURED["cityscapes"]

    def test_train_net_evaluates_several_sets_each_with_its_own_words(
        self, on_disk, tmp_path: Path
    ) -> None:
        on_disk("bdd100k_semantic")
        on_disk("pascal_voc_20")
        names = (BDD, VOC, "bdd10k_40_panoptic_val")
        weights = str(CONFIG_ROOT.parent / "frozenseg/weights/shapes/head.safetensors")
        arguments = ["--config-file", "shapes/frozenseg.yaml", "--eval-only", "--engine", "native"]
        arguments += ["--output", str(tmp_path / "run"), *self.small, "MODEL.WEIGHTS", weights]
        assert main([*arguments, "DATASETS.TEST", str(names)]) == 0
        for name, measure in zip(
            names, ("semantic/mIoU", "semantic/mIoU", "panoptic/PQ"), strict=True
        ):
            folder = tmp_path / "run" / "inference" / name
            assert measure in self.metrics(folder)
            (table,) = folder.glob("per_class_*.csv")
            classes = len(dataset_vocabulary(name))
            assert len(table.read_text().splitlines()) == 1 + classes
        assert not any("panoptic" in key for key in self.metrics(tmp_path / "run/inference" / BDD))

    def test_a_missing_picture_stops_before_the_model_is_loaded(
        self, on_disk, run, tmp_path: Path
    ) -> None:
        (on_disk("bdd100k_semantic") / BDD_PICTURE).unlink()
        (tmp_path / "broken.safetensors").write_bytes(b"no weights")
        done = run("--dataset", BDD, "--weights", str(tmp_path / "broken.safetensors"))
        assert done.exit_code == 2 and done.stderr.count("\n") == 1
        assert "7d06fefd.jpg is missing" in done.stderr and "--skip-bad" in done.stderr

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (lambda root: (root / BDD_PICTURE).unlink(), "7d06fefd.jpg is missing"),
            (lambda root: (root / BDD_LABELS).write_bytes(b"no picture"), "7d06fefd.png"),
        ],
    )
    def test_skip_bad_goes_on_and_reports_what_it_skipped(
        self, on_disk, layouts, run, tmp_path: Path, spoil, reason: str
    ) -> None:
        root = on_disk("bdd100k_semantic")
        layouts.save_picture(root / "bdd100k/images/10k/val/good.jpg", (2, 3))
        labels = layouts.VOC_LABELS * 0
        layouts.save_png(root / "bdd100k/labels/sem_seg/masks/val/good.png", labels)
        spoil(root)
        stopped = run("--dataset", BDD)
        assert stopped.exit_code == 2 and reason in stopped.stderr
        done = run("--dataset", BDD, "--skip-bad")
        assert done.exit_code == 0, done.output
        assert "left out: 1 bad files" in done.output.replace("\n", " ")
        (line,) = (tmp_path / "out/skipped.txt").read_text().splitlines()
        assert reason in line
        assert self.metrics(tmp_path / "out")["semantic/mIoU"] is not None

    def test_nothing_to_measure_is_a_mistake(self) -> None:
        keys = ["DATASETS.TEST", f"('{BDD}',)", "MODEL.MASK_FORMER.TEST.SEMANTIC_ON", "False"]
        with pytest.raises(ConfigError, match=f"nothing is measured on {BDD}"):
            check_test_sets(load_config("frozenseg_convnext_large.yaml", keys))

    def test_an_unknown_data_set_gets_the_nearest(self, run) -> None:
        done = run("--dataset", "ade20k_panoptic_val")
        assert done.exit_code == 2
        assert f"did you mean {dataset_spec('openvocab_ade20k_panoptic_val').name}" in done.stderr
