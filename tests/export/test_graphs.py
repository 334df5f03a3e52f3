"""Graphs of the shipped model, against the model itself."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from frozenseg.data.shapes import ShapesDataset
from frozenseg.errors import UserError
from frozenseg.export.graphs import IMAGE_INPUTS, IMAGE_OUTPUTS
from frozenseg.export.image_part import ImagePart
from frozenseg.inference.outputs import OutputSettings
from frozenseg.inference.predictor import Predictor
from frozenseg.inference.segmenter import Segmenter
from frozenseg.modeling.deformable_encoder import DeformableEncoder
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.structures import InputImage
from frozenseg.vocabulary.text_classifier import TextClassifier

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.xdist_group("export")  # one worker exports once

CLASS_IDS = torch.tensor([0, 1, 1, 2, 3, 3])
SEEN = torch.tensor([True, False, True, False])
# at 256 pixels, SAM's map and CLIP's of stride 16 have equal sizes; 90 x 150 needs padding
SIZES = [(256, 256), (90, 150), (160, 320)]


@pytest.fixture(scope="module")
def model(segmenter: Segmenter) -> SegmentationModel:
    return segmenter.model


@pytest.fixture(scope="module")
def program(exported: Path) -> torch.export.ExportedProgram:
    return torch.export.load(exported / "image.pt2")


def inputs_for(size: tuple[int, int], rows: Tensor) -> tuple[Tensor, ...]:
    # a real scene, because noise lies near the threshold of some cell of the attention masks, which
    # the last bits of a number then decide
    scene = ShapesDataset("val")[size[1] // 2].image.float()
    pixels = scene.repeat(1, 1, 2)[:, : size[0], : size[1]]
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
def test_both_formats_compute_what_the_model_computes(model, exported, program, size) -> None:
    rows = F.normalize(torch.randn(6, 128), dim=-1)
    probs, masks = expected(model, size, rows)
    found = run_onnx(exported / "image.onnx", inputs_for(size, rows))
    np.testing.assert_allclose(found[0], probs, atol=1e-3)
    np.testing.assert_allclose(found[1], masks, atol=1e-3)
    with torch.no_grad():
        found = program.module()(*inputs_for(size, rows))
    torch.testing.assert_close(found, (probs, masks), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_the_number_of_rows_and_classes_is_open(model, exported: Path) -> None:
    rows = F.normalize(torch.randn(1, 128), dim=-1)
    probs, _ = expected(model, (96, 96), rows)
    assert probs.shape[1] == 2
    found = run_onnx(exported / "image.onnx", inputs_for((96, 96), rows))
    np.testing.assert_allclose(found[0], probs, atol=1e-3)


@pytest.mark.slow
def test_the_graph_holds_standard_operators_alone(exported: Path, program) -> None:
    import onnx

    graph = onnx.load(exported / "image.onnx")
    assert {node.domain for node in graph.graph.node} == {""}
    assert not graph.functions
    assert "GridSample" in {node.op_type for node in graph.graph.node}
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any("frozenseg" in target for target in targets)


def test_the_text_part_embeds_any_number_of_prompts(model, exported: Path) -> None:
    import onnxruntime

    clip = model.text_encoder
    session = onnxruntime.InferenceSession(exported / "text.onnx")
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
