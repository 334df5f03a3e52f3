"""Choosing the device of a process."""

import os

import torch

from frozenseg.errors import UserError

NO_CUDA = "MODEL.DEVICE is cuda but PyTorch finds no CUDA device: set it to auto or cpu"


def choose_device(name: str) -> torch.device:
    """Returns the device of a name; ``auto`` is CUDA where available, else the CPU.

    Raises:
        UserError: PyTorch knows no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UserError(
            f"MODEL.DEVICE is {name}: set it to auto, cpu, cuda, or one device such as cuda:1"
        ) from error


def process_device(name: str) -> torch.device:
    """Returns the device of this process in a group; ``cuda`` means the one of its local rank.

    Args:
        name: "auto", "cpu", "cuda", or one device such as "cuda:1".

    Raises:
        UserError: PyTorch knows no such device, or finds no CUDA device.
    """
    device = choose_device(name)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise UserError(NO_CUDA)
    if device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    return device
