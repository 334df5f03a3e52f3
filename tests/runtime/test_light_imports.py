"""A cold start does not load torch's compiler, and leaves it usable."""

import subprocess
import sys

AFTER_IMPORT = """
import sys
import frozenseg.builders.segmenter
assert not [name for name in sys.modules if name.startswith("torch._dynamo")]
"""
COMPILED = """
import torch
doubled = torch.compile(lambda x: 2 * x, backend="eager")
assert doubled(torch.ones(2)).tolist() == [2, 2]
from torchvision.ops.roi_align import is_compile_supported
assert is_compile_supported("cpu") is torch._dynamo.utils.is_compile_supported("cpu")
"""
OTHER_ACCESS = """
import sys
from types import ModuleType
from frozenseg.runtime.light_imports import import_without_compiler
sys.path.insert(0, sys.argv[1])
import_without_compiler("uses_more")
import uses_more
assert uses_more.mark_dynamic is sys.modules["torch._dynamo"].mark_dynamic
assert uses_more.counters is sys.modules["torch._dynamo.utils"].counters
"""


def python(code: str, *arguments: object) -> None:
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)


def test_a_segmenter_needs_no_compiler_and_torch_compile_works_afterwards() -> None:
    python(AFTER_IMPORT + COMPILED)


def test_a_library_that_needs_more_of_the_compiler_gets_the_real_one(tmp_path) -> None:
    (tmp_path / "uses_more.py").write_text(
        "from torch._dynamo import mark_dynamic\nfrom torch._dynamo.utils import counters\n"
    )
    python(OTHER_ACCESS, tmp_path)


def test_a_segmenter_loads_no_scipy_before_a_drawing() -> None:
    python(AFTER_IMPORT + "assert 'scipy' not in sys.modules\n")
