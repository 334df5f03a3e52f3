"""Installing from source: with a compiler, without one, and the CUDA kernel where nvcc is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LOAD_AND_CHECK = """
import torch
torch.ops.load_library("{library}")
from frozenseg.ops.ms_deform_attn import implementation
print(implementation("cuda"))
"""


def build(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs what pip runs, into ``folder``."""
    command = [
        sys.executable,
        "setup.py",
        "build_ext",
        "--build-lib",
        folder,
        "--build-temp",
        folder,
    ]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_broken_compiler_leaves_one_warning_and_a_working_installation(tmp_path: Path) -> None:
    result = build(tmp_path, CXX="false", FROZENSEG_BUILD_CUDA="0")
    assert result.returncode == 0, result.stderr
    assert not list(tmp_path.rglob("*.so"))
    assert result.stderr.count("deformable attention falls back to plain PyTorch") == 1


def test_broken_compiler_is_an_error_when_the_cuda_kernel_is_demanded(tmp_path: Path) -> None:
    assert build(tmp_path, CXX="false", FROZENSEG_BUILD_CUDA="1").returncode != 0


def test_unknown_choice_of_cuda_is_named(tmp_path: Path) -> None:
    result = build(tmp_path, FROZENSEG_BUILD_CUDA="yes")
    assert result.returncode != 0
    assert "FROZENSEG_BUILD_CUDA must be 0, 1 or unset, not 'yes'" in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
def test_cuda_kernel_compiles_links_and_registers_itself(tmp_path: Path) -> None:
    result = build(tmp_path, FROZENSEG_BUILD_CUDA="1", TORCH_CUDA_ARCH_LIST="9.0")
    assert result.returncode == 0, result.stderr
    (library,) = tmp_path.rglob("_cuda.so")
    check = [sys.executable, "-c", LOAD_AND_CHECK.format(library=library)]
    assert subprocess.check_output(check, cwd=ROOT, text=True).strip() == "compiled CUDA"
