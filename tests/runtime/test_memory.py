"""Exhausted memory is one sentence; every other error passes unchanged."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frozenseg.errors import UserError
from frozenseg.runtime.memory import OutOfMemory, is_out_of_memory, memory_gate

ALLOCATIONS = {
    "python": lambda: bytearray(1 << 60),
    "numpy": lambda: np.zeros(1 << 57, np.uint8),
    "torch": lambda: torch.zeros(1 << 57, dtype=torch.uint8),
}


@pytest.mark.parametrize("kind", ALLOCATIONS)
def test_real_allocations_that_fail_are_one_sentence(kind: str) -> None:
    message = r"^a\.png does not fit in memory: make it smaller"
    with pytest.raises(OutOfMemory, match=message), memory_gate(Path("a.png")):
        ALLOCATIONS[kind]()


def test_what_a_gpu_says_is_recognised() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"))


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), UserError("no"), KeyError("a")])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, memory_gate("a.png"):
        raise error
    assert raised.value is error


def test_a_command_continues_with_the_next_image(tmp_path: Path) -> None:
    for name, side in (("large", 9000), ("small", 64)):
        Image.new("L", (side, side)).save(tmp_path / f"{name}.png")
    limit = 5_200_000_000  # bytes of addresses; the imports alone take about 3.5e9
    command = [sys.executable, "-m", "frozenseg", "segment", "large.png", "small.png"]
    done = subprocess.run(
        [*command, "-w", "red circle", "--task", "instance", "-o", "out", "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        check=False,
    )
    assert done.returncode == 2
    assert "error: large.png does not fit in memory: make it smaller" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out/small.json").exists() and not (tmp_path / "out/large.json").exists()
