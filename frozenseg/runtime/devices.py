"""Choosing the device of a process."""

import os

import torch

from frozenseg.errors import UserError
from frozenseg.io.text import quoted

NO_CUDA = "MODEL.DEVICE is cuda but PyTorch finds no CUDA device: set it to auto or cpu"


def choose_device(name: str) -> torch.device:
    """Returns the device of a name; ``auto`` is CUDA where available, else the CPU.

    Raises:
        UserError: PyTorch knows no such device, or this machine has none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(_unknown(name)) from error
    _check_available(device)
    return device


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


def _check_available(device: torch.device) -> None:
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise UserError(NO_CUDA)
        if device.index is not None and device.index >= count:
            raise UserError(
                f"MODEL.DEVICE is {device} but this machine has {count} CUDA devices, from cuda:0: "
                "set it to one of them"
            )
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise UserError("MODEL.DEVICE is mps but PyTorch finds no such device: set it to auto")
    elif device.type != "cpu":
        raise UserError(_unknown(str(device)))


def _unknown(name: str) -> str:
    return (
        f"MODEL.DEVICE is {quoted(name)}: set it to auto, cpu, cuda, or one device such as cuda:1"
    )
