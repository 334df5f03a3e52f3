"""Seeds and states of all random generators, so that a resumed run continues exactly."""

import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and PyTorch on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Returns the generator states of Python, NumPy, PyTorch and the ``device`` as tensors."""
    _, words, gaussian = random.getstate()
    _, keys, position, has_gaussian, cached = np.random.get_state()
    state = {
        "python": torch.tensor(words),
        "python_gaussian": torch.tensor(
            [] if gaussian is None else [gaussian], dtype=torch.float64
        ),
        "numpy": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
        "numpy_position": torch.tensor([position, has_gaussian]),
        "numpy_gaussian": torch.tensor([cached], dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Restores the states of ``random_state``; the GPU's only if it was saved."""
    gaussian = state["python_gaussian"].tolist()
    random.setstate((3, tuple(state["python"].tolist()), gaussian[0] if gaussian else None))
    position, has_gaussian = state["numpy_position"].tolist()
    keys = state["numpy"].numpy().astype(np.uint32)
    cached = state["numpy_gaussian"].item()
    np.random.set_state(("MT19937", keys, position, has_gaussian, cached))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
