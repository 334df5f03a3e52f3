import pytest
import torch

from frozenseg.errors import UserError
from frozenseg.runtime.compiled import compile_parts
from frozenseg.vocabulary.text_classifier import TextClassifier


@pytest.mark.parametrize("kind", ["convnext", "resnet"])
def test_every_part_is_one_graph_and_gives_the_same(small_model, kind: str) -> None:
    """A graph break would be an error; a size that was seen before compiles nothing."""
    torch._dynamo.reset()
    rows = torch.nn.functional.normalize(torch.randn(4, 24), dim=-1)
    text = TextClassifier(rows, torch.tensor([0, 1, 1, 2]))
    eager, compiled = small_model(kind), small_model(kind)
    compile_parts(compiled, backend="eager")
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
