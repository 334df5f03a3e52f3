import pytest
import torch
from torch import nn

from frozenseg.errors import UserError
from frozenseg.runtime.compiled import compile_parts
from frozenseg.vocabulary.text_classifier import TextClassifier

# tracing takes as long as there are layers; each kind of layer is among these
LAYERS = {
    "MODEL__MASK_FORMER__DEC_LAYERS": 4,
    "MODEL__FROZEN_SEG__QUERY_INJECTOR_LAYERS": (2,),
    "MODEL__FROZEN_SEG__FEATURE_INJECTOR_LAYERS": (1, 3),
}


@pytest.mark.parametrize("kind", ["convnext", "resnet"])
def test_every_part_is_one_graph_and_gives_the_same(small_model, kind: str) -> None:
    """A graph break would be an error; a size that was seen before compiles nothing."""
    torch._dynamo.reset()
    rows = torch.nn.functional.normalize(torch.randn(4, 24), dim=-1)
    text = TextClassifier(rows, torch.tensor([0, 1, 1, 2]))
    eager, compiled = small_model(kind, **LAYERS), small_model(kind, **LAYERS)
    # the parts but for the tower are the same in both
    parts = compiled if kind == "convnext" else nn.ModuleList([compiled.backbone])
    compile_parts(parts, backend="eager")
    names = list(eager.state_dict())
    graphs = []
    for height, width in ((64, 96), (128, 160), (64, 96)):
        image = torch.rand(3, height, width) * 255
        with torch.inference_mode():
            expected, found = (each([image], text).predictions[-1] for each in (eager, compiled))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[2] == graphs[1]
    assert list(compiled.state_dict()) == names


def test_a_machine_without_a_compiler_is_one_sentence(small_model, monkeypatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"C\+\+ compiler and found none of no-such-compiler"):
        compile_parts(small_model())
