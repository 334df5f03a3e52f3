"""Graphs of a small model of random weights, against the model itself."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from frozenseg.errors import UserError
from frozenseg.export.graphs import (
    IMAGE_INPUTS,
    IMAGE_OUTPUTS,
    TEXT_INPUTS,
    TEXT_OUTPUTS,
    trace_image_part,
    trace_text_part,
    write_program,
)
from frozenseg.export.image_part import ImagePart
from frozenseg.export.text_part import TextPart
from frozenseg.inference.outputs import OutputSettings
from frozenseg.inference.predictor import Predictor
from frozenseg.modeling.deformable_encoder import DeformableEncoder
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.structures import InputImage
from frozenseg.vocabulary.text_classifier import TextClassifier

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.xdist_group("graphs")  # one worker exports once

CLASS_IDS = torch.tensor([0, 1, 1, 2, 3, 3])
SEEN = torch.tensor([True, False, True, False])
# at 256 pixels, CLIP's map and SAM's have equal sizes; 90 x 150 needs padding
SIZES = [(256, 256), (90, 150), (160, 320)]


@pytest.fixture(scope="module")
def model(small_system) -> SegmentationModel:
    return small_system(
        MODEL__SEM_SEG_HEAD__TRANSFORMER_ENC_LAYERS=1,
        MODEL__MASK_FORMER__DEC_LAYERS=4,
        MODEL__FROZEN_SEG__QUERY_INJECTOR_LAYERS=(2,),
        MODEL__FROZEN_SEG__FEATURE_INJECTOR_LAYERS=(1, 3),
    )


@pytest.fixture(scope="module")
def graphs(model: SegmentationModel, tmp_path_factory) -> Path:
    """A folder with the image part in both formats."""
    folder = tmp_path_factory.mktemp("graphs")
    program = trace_image_part(ImagePart(model))
    names = {"inputs": IMAGE_INPUTS, "outputs": IMAGE_OUTPUTS}
    write_program(program, folder / "image.onnx", "onnx", **names)
    write_program(program, folder / "image.pt2", "torch-export", **names)
    return folder


@pytest.fixture(scope="module")
def program(graphs: Path) -> torch.export.ExportedProgram:
    return torch.export.load(graphs / "image.pt2")


def inputs_for(size: tuple[int, int], rows: Tensor) -> tuple[Tensor, ...]:
    pixels = torch.rand(3, *size, generator=torch.Generator().manual_seed(sum(size))) * 255
    padded = F.pad(pixels, (0, -size[1] % 32, 0, -size[0] % 32), value=99.0)
    return (
        padded,
        torch.tensor(size),
        rows,
        CLASS_IDS[: len(rows)],
        SEEN[: CLASS_IDS[len(rows) - 1] + 1],
    )


def expected(
    model: SegmentationModel, size: tuple[int, int], rows: Tensor
) -> tuple[Tensor, Tensor]:
    """What the ordinary walk computes for the image without padding."""
    padded, _, rows, class_ids, seen = inputs_for(size, rows)
    pixels = padded[:, : size[0], : size[1]]
    predictor = Predictor(
        model=model,
        text=TextClassifier(rows, class_ids),
        is_thing=torch.ones_like(seen),
        seen=seen,
        settings=OutputSettings(),
    )
    image = InputImage(pixels, pixels, size)
    with torch.inference_mode():
        (proposals,) = predictor.propose([image])
        probs = predictor.class_probs(image, proposals).general
    return probs, proposals.mask_logits


def run_onnx(path: Path, inputs: tuple[Tensor, ...]) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    named = zip(IMAGE_INPUTS, inputs, strict=True)
    return session.run(list(IMAGE_OUTPUTS), {name: value.numpy() for name, value in named})


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_both_formats_compute_what_the_model_computes(model, graphs, program, size) -> None:
    rows = F.normalize(torch.randn(6, 24), dim=-1)
    probs, masks = expected(model, size, rows)
    found = run_onnx(graphs / "image.onnx", inputs_for(size, rows))
    np.testing.assert_allclose(found[0], probs, atol=1e-3)
    np.testing.assert_allclose(found[1], masks, atol=1e-3)
    with torch.no_grad():
        found = program.module()(*inputs_for(size, rows))
    torch.testing.assert_close(found, (probs, masks), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_the_number_of_rows_and_classes_is_open(model, graphs: Path) -> None:
    rows = F.normalize(torch.randn(1, 24), dim=-1)
    probs, _ = expected(model, (96, 96), rows)
    assert probs.shape[1] == 2
    found = run_onnx(graphs / "image.onnx", inputs_for((96, 96), rows))
    np.testing.assert_allclose(found[0], probs, atol=1e-3)


@pytest.mark.slow
def test_the_graph_holds_standard_operators_alone(graphs: Path, program) -> None:
    import onnx

    graph = onnx.load(graphs / "image.onnx")
    assert {node.domain for node in graph.graph.node} == {""}
    assert not graph.functions
    assert "GridSample" in {node.op_type for node in graph.graph.node}
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any("frozenseg" in target for target in targets)


def test_the_text_part_embeds_any_number_of_prompts(model, tmp_path: Path) -> None:
    import onnxruntime

    clip = model.text_encoder
    program = trace_text_part(TextPart(clip), context_length=16)
    names = {"inputs": TEXT_INPUTS, "outputs": TEXT_OUTPUTS}
    write_program(program, tmp_path / "text.onnx", "onnx", **names)
    session = onnxruntime.InferenceSession(tmp_path / "text.onnx")
    prompts = ["a red star", "grass", "one of many hexagons"]
    (found,) = session.run(None, {"tokens": clip.tokenize(prompts).numpy()})
    np.testing.assert_allclose(found, clip.encode_text(prompts), atol=1e-4)


def test_portable_attention_agrees_with_the_operator() -> None:
    encoder = DeformableEncoder(dim=32, num_layers=1, num_heads=4, hidden_dim=32)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    maps = [torch.randn(2, 32, side, side + 3) for side in (3, 6, 12)]
    with torch.no_grad():
        ours = encoder(maps)
        encoder.layers[0].attention.portable = True
        portable = encoder(maps)
    torch.testing.assert_close(portable, ours, atol=1e-4, rtol=1e-4)


def test_other_systems_are_refused_in_one_sentence(small_system) -> None:
    coat = small_system(MODEL__PIPELINE__REGION_CLASSIFIER="masked_crops")
    with pytest.raises(UserError, match="only FrozenSeg and FC-CLIP can be exported"):
        ImagePart(coat)
