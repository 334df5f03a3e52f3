"""Types of 16 bits, and bfloat16 where the processor has units for it."""

import pytest
import torch

from frozenseg.runtime.reduced_precision import autocast_to, bfloat16_is_fast

CPU = torch.device("cpu")


@pytest.mark.parametrize(("amx", "avx512"), [(True, False), (False, True), (False, False)])
def test_auto_follows_the_cpu(monkeypatch, amx, avx512) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert bfloat16_is_fast(CPU) == (amx or avx512)
    matrix = torch.ones(2, 2)
    with autocast_to("auto", CPU):
        assert ((matrix @ matrix).dtype == torch.bfloat16) == (amx or avx512)


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_auto_follows_the_gpu(monkeypatch, capability, fast) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert bfloat16_is_fast(torch.device("cuda")) == fast


def test_a_precision_that_is_named_is_taken(monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    matrix = torch.ones(2, 2)
    with autocast_to("float32", CPU):
        assert (matrix @ matrix).dtype == torch.float32
    with autocast_to("bfloat16", CPU):
        assert (matrix @ matrix).dtype == torch.bfloat16
    with autocast_to("float16", CPU):
        assert (matrix @ matrix).dtype == torch.float16
