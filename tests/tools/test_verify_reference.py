"""The comparison with recorded outputs: on the official ones, and on folders made here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
import verify_reference
from reference_checks.compare import Row, compare
from reference_checks.model import Inspection
from reference_checks.reference_model import (
    build_reference,
    checksum,
    drawn_weights,
    reference_clip,
    reference_config,
    reference_sam,
)
from typer.testing import CliRunner

from frozenseg.builders.frozenseg import build_frozenseg
from frozenseg.checkpoint.weights import official_state

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"

app = typer.Typer()
app.command()(verify_reference.main)
Rows = dict[str, Row]


def verified(folder: Path) -> dict[str, Rows]:
    return {name: {row.name: row for row in rows} for name, rows in verify_reference.verify(folder)}


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rows]:
    """The rows of the stored official outputs; full-size models have a test of their own."""
    folder = tmp_path_factory.mktemp("official")
    for path in GOLDEN.glob("*.*"):
        if path.suffix in (".json", ".npz"):
            (folder / path.name).symlink_to(path)
    return verified(folder)


@pytest.mark.golden
@pytest.mark.parametrize(
    "name",
    [
        "frozenseg_convnext",
        "openseg_ensemble",
        "criterion",
        "msdeformattn",
        "mask_adapter_fcclip",
        "ovrcoat",
        "ovseg_second_stage",
        "pq",
        "sam_vit_t",
    ],
)
def test_the_official_outputs_are_ours(official: dict[str, Rows], name: str) -> None:
    verdicts = {row.name: row.verdict for row in official[name].values()}
    assert "pass" in verdicts.values()
    assert set(verdicts.values()) <= {"pass", "not compared"}, verdicts


@pytest.mark.golden
def test_no_official_array_is_overlooked(official: dict[str, Rows]) -> None:
    for name in ("frozenseg_convnext", "openseg_ensemble", "criterion", "msdeformattn"):
        arrays = json.loads((GOLDEN / f"{name}.json").read_text())["arrays"]
        assert arrays.keys() <= official[name].keys()
    compared = [r for r in official["frozenseg_convnext"].values() if r.verdict == "pass"]
    assert len(compared) == 33  # all but the image and three arrays of another function
    assert official["openseg_ensemble"]["A_variant_aligned_masks_kept"].verdict == "pass"


SIZES = {
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 2, "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 32, "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 1,
    "MODEL.MASK_FORMER.HIDDEN_DIM": 32, "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 6,
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": 32, "DATASETS.TEST": ["not known here"],
}  # fmt: skip
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
RESNET = {"layers": [1, 1, 1, 1], "width": 16, "image_size": 64, "patch_size": None}
CONVNEXT = {
    "timm_model_name": "convnext_of_this_test", "timm_model_pretrained": False, "timm_pool": "",
    "timm_proj": "mlp", "image_size": 64,
}  # fmt: skip
SAM = {
    "embed_dim": 16, "depth": 2, "num_heads": 2, "global_attn_indexes": [1], "img_size": 64,
    "patch_size": 8, "window_size": 3, "mlp_ratio": 4, "out_chans": 32, "qkv_bias": True,
    "use_rel_pos": True, "prompt_embed_dim": 32,
    "mask_decoder": {
        "transformer_depth": 1, "transformer_mlp_dim": 16, "num_heads": 2,
        "num_multimask_outputs": 3, "iou_head_depth": 2, "iou_head_hidden_dim": 16,
    },
}  # fmt: skip


def rule(name: str, value: torch.Tensor) -> dict[str, Any]:
    """How a weight is drawn, so that nothing explodes and nothing is trivial."""
    facts = {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
    if name.endswith("num_batches_tracked"):
        return facts | {"rule": "const", "value": 0}
    if name == "criterion.empty_weight":
        return facts | {"rule": "const", "value": 1.0}
    if name.endswith("running_var"):
        return facts | {"rule": "abs", "mean": 1.0, "std": 0.3}
    vector = value.dim() < 2
    spread = 0.1 if vector else 1.4 / value[0].numel() ** 0.5
    mean = 1.0 if vector and name.endswith("weight") else 0.0
    return facts | {"rule": "normal", "mean": mean, "std": spread}


def describe(kind: str, *, sam: bool) -> dict[str, Any]:
    """The description of a model that nobody recorded."""
    section = "FROZEN_SEG" if sam else "FC_CLIP"
    vision = RESNET if kind == "resnet" else CONVNEXT
    config = {
        "base_config_file": f"configs/{'r50x64' if kind == 'resnet' else 'convnext'}_eval.yaml",
        "overrides": {**SIZES, f"MODEL.{section}.EMBED_DIM": 24},
        "clip_model_config": {"embed_dim": 24, "vision_cfg": vision, "text_cfg": TEXT},
        "resolved": {"geometric_ensemble_alpha": 1, "pixel_decoder_ffn_dim": 32},
    }
    if sam:
        config["sam"] = SAM
    if kind == "convnext":
        sizes = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32], "note": "otherwise as ever"}
        config["timm_convnext"] = {"name": CONVNEXT["timm_model_name"], **sizes}
    case: dict[str, Any] = {
        "config": config,
        "weights": {"sam.": {}} if sam else {},
        "vocabulary": {
            "train": ["cat, kitten", "sky"],
            "train_thing_contiguous_ids": [0],
            "test": ["kitten", "tree,oak", "sky"],
            "test_thing_contiguous_ids": [0],
        },
        "input": {"output_height_width": [40, 50]},
    }
    cfg = reference_config(case)
    cfg.defrost()
    cfg.MODEL.FROZEN_SEG.SAM_ATTENTION_LAYOUT = "three_level"
    model = build_frozenseg(cfg, clip=reference_clip(case), sam=reference_sam(case))
    state = official_state(model, num_classes=2, no_object_weight=0.1)
    case["weights"] = {name: rule(name, value) for name, value in state.items()}
    case["weights_crc32"] = checksum(drawn_weights(case["weights"]))
    return case


def record(folder: Path, name: str, case: dict[str, Any], inputs: dict[str, np.ndarray]) -> None:
    """Writes what our own model gives, as if it were the official one."""
    model, cfg = build_reference(case)
    inspection = Inspection(model, cfg, case, inputs)
    arrays = {key: value.numpy() for key, value in inspection.values.items()}
    for prefix, make_result in inspection.make_result.items():
        for threshold in ("0.8", "0.0"):
            result = make_result(overlap_threshold=float(threshold)).panoptic
            arrays[f"{prefix}panoptic_{threshold}"] = result.ids.numpy()
            listed = [
                {"id": s.id, "isthing": s.is_thing, "category_id": s.class_id}
                for s in result.segments
            ]
            facts = case["images"][prefix[:-1]] if prefix else case
            facts.setdefault("panoptic", {})[threshold] = listed
    write(folder, name, case, {**arrays, **inputs})


def write(folder: Path, name: str, case: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    (folder / f"{name}.json").write_text(json.dumps(case))
    np.savez(folder / f"{name}.npz", **arrays)


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (3, height, width), dtype=np.uint8)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ResNet FC-CLIP and a ConvNeXt FrozenSeg that got SAM's masks."""
    folder = tmp_path_factory.mktemp("recorded")
    record(folder, "resnet", describe("resnet", sam=False), {"image": image(50, 70)})
    case = describe("convnext", sam=True)
    case["images"] = {"B": {"output": [40, 50]}}
    masks = np.random.default_rng(6).normal(size=(4, 40, 50)).astype(np.float32)
    record(folder, "masks", case, {"image_B": image(50, 70), "sam_masks_B": masks})
    return folder


def changed(folder: Path, target: Path, **arrays: np.ndarray | None) -> Rows:
    """The rows after some arrays of the ResNet model are replaced, or left out."""
    with np.load(folder / "resnet.npz") as stored:
        kept = {**stored, **arrays}
    case = json.loads((folder / "resnet.json").read_text())
    write(target, "resnet", case, {k: v for k, v in kept.items() if v is not None})
    return verified(target)["resnet"]


def test_a_folder_not_seen_before_is_compared_whole(recorded: Path) -> None:
    rows = verified(recorded)
    for name in ("resnet", "masks"):
        verdicts = {row.name: row.verdict for row in rows[name].values()}
        inputs = [key for key, verdict in verdicts.items() if verdict == "not compared"]
        assert set(verdicts.values()) == {"pass", "not compared"}, verdicts
        assert all(key.startswith(("image", "sam_masks")) for key in inputs)
    assert "sam_branch" not in rows["resnet"]
    assert {"B_sam_branch", "B_variant_aligned_sem_seg", "B_panoptic_0.0"} <= rows["masks"].keys()


@pytest.mark.parametrize("name", ["clip_res4", "pred_masks", "final_log_probs", "inst_scores"])
def test_a_wrong_number_fails(recorded: Path, tmp_path: Path, name: str) -> None:
    with np.load(recorded / "resnet.npz") as stored:
        wrong = stored[name].copy()
    wrong.flat[0] += 0.01
    rows = changed(recorded, tmp_path, **{name: wrong})
    assert rows[name].verdict == "fail"
    assert rows[name].largest == pytest.approx(0.01, rel=0.02)
    run = CliRunner().invoke(app, [str(tmp_path)])
    assert run.exit_code == 1
    assert "1 fail" in run.output


def test_a_wrong_pixel_in_a_hundred_fails_a_panoptic_map(recorded: Path, tmp_path: Path) -> None:
    with np.load(recorded / "resnet.npz") as stored:
        wrong = stored["panoptic_0.0"].copy()
    wrong[0, :20] += 1
    assert changed(recorded, tmp_path, **{"panoptic_0.0": wrong})["panoptic_0.0"].verdict == "fail"


def test_strided_last_and_left_out_arrays_are_compared_by_their_names(recorded, tmp_path) -> None:
    with np.load(recorded / "resnet.npz") as stored:
        last, level = stored["pred_masks"][-1], stored["clip_res2"]
    rows = changed(
        recorded,
        tmp_path,
        pred_masks=None,
        pred_masks_last_s2=last[..., ::2, ::2],
        clip_res2=None,
        clip_res2_s3=level[None, ..., ::3, ::3],
        sem_seg=None,
    )
    assert rows["pred_masks_last_s2"].verdict == rows["clip_res2_s3"].verdict == "pass"
    assert "sem_seg" not in rows


def test_unknown_arrays_are_listed_and_do_no_harm(recorded: Path, tmp_path: Path) -> None:
    rows = changed(recorded, tmp_path, something_else=np.zeros(3), sam_branch=np.zeros((2, 2)))
    assert rows["something_else"].verdict == rows["sam_branch"].verdict == "unknown"
    run = CliRunner().invoke(app, [str(tmp_path)])
    assert run.exit_code == 0
    assert "2 unknown" in run.output


def test_what_the_official_code_left_undefined_is_not_asked_for(recorded, tmp_path) -> None:
    with np.load(recorded / "resnet.npz") as stored:
        logits = stored["clip_region_logits"].copy()
    logits[2] = np.nan
    row = changed(recorded, tmp_path, clip_region_logits=logits)["clip_region_logits"]
    assert (row.verdict, row.note) == ("pass", "4 undefined values left out")


def test_a_missing_image_or_another_shape_is_a_failure(recorded: Path, tmp_path: Path) -> None:
    rows = changed(recorded, tmp_path, sem_seg=np.zeros((3, 41, 50)))
    assert rows["sem_seg"].verdict == "fail"
    assert rows["sem_seg"].note == "shape (3, 40, 50), recorded (3, 41, 50)"
    rows = changed(recorded, tmp_path, image=None)
    assert rows["image"].note == "the input is missing"


def test_other_weights_than_described_are_noticed(recorded: Path, tmp_path: Path) -> None:
    case = json.loads((recorded / "resnet.json").read_text())
    case["weights_crc32"] += 1
    write(tmp_path, "resnet", case, {"image": image(50, 70)})
    (row,) = verified(tmp_path)["resnet"].values()
    assert row.verdict == "fail"
    assert "weights_crc32" in row.note


def test_a_folder_without_anything_to_compare_exits_with_1(tmp_path: Path) -> None:
    np.savez(tmp_path / "alone.npz", a=np.zeros(2))
    (tmp_path / "other.json").write_text('{"case": "something else"}')
    run = CliRunner().invoke(app, [str(tmp_path)])
    assert run.exit_code == 1
    assert "nothing to compare" in run.output
    assert "2 unknown" in run.output


def test_a_truncated_file_is_a_failure(recorded: Path, tmp_path: Path) -> None:
    for name in ("resnet.json", "resnet.npz"):
        content = (recorded / name).read_bytes()
        (tmp_path / name).write_bytes(content if name.endswith("json") else content[:9000])
    (row,) = verified(tmp_path)["resnet"].values()
    assert row.verdict == "fail"
    assert "cannot be read" in row.note


def test_differences_are_absolute_and_relative_to_the_largest_value() -> None:
    recorded = np.array([0.0, -20.0, 5.0])
    row = compare("x", torch.tensor([0.1, -20.0, 5.0]), recorded, tolerance=0.2)
    assert row.verdict == "pass"
    assert (row.largest, row.relative) == (pytest.approx(0.1), pytest.approx(0.005))
    assert compare("x", torch.tensor([0.1, -20, 5]), recorded, tolerance=0.05).verdict == "fail"
    wide = compare("x", torch.tensor([0.1, -20, 5]), recorded, tolerance=0.05, relative=0.01)
    assert (wide.verdict, wide.tolerance) == ("pass", pytest.approx(0.2))
    assert compare("x", torch.tensor([np.nan, -20, 5]), recorded, tolerance=1.0).verdict == "fail"
