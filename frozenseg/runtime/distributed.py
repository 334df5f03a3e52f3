"""Communication between the processes of a run; a single process gets its own values."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

VOTE_PERIOD = 5  # iterations between votes of all processes on stopping


def is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def process_rank() -> int:
    return dist.get_rank() if is_distributed() else 0


def num_processes() -> int:
    return dist.get_world_size() if is_distributed() else 1


def is_main_process() -> bool:
    """Returns True in the process that writes files and shows progress."""
    return process_rank() == 0


def wait_for_all() -> None:
    """Returns once every process has called this. Collective."""
    if is_distributed():
        dist.barrier()


def share_weights(tensors: Iterable[Tensor]) -> None:
    """Copies the main process's values to every process. Collective."""
    if is_distributed():
        for tensor in tensors:
            dist.broadcast(tensor.detach(), src=0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replaces each gradient by its mean over processes, after the backward pass. Collective.

    A parameter without gradient (the last injection is never used) has none in any process and is
    skipped. One exchange of 100 MB takes milliseconds between GPUs, so nothing overlaps with the
    backward pass, and accumulation and unused parameters need no special handling.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if is_distributed() and gradients:
        for block, mean in zip(gradients, average(gradients), strict=True):
            block.copy_(mean)


def average(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Returns the means over processes of tensors of one type, in one exchange. Collective."""
    if not is_distributed():
        return list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def any_process(flag: bool, device: torch.device) -> bool:
    """Returns True if ``flag`` is True in at least one process. Collective."""
    if not is_distributed():
        return flag
    votes = torch.tensor(float(flag), device=device)
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return bool(votes)


def agreed_to_stop(requested: bool, *, iteration: int, due: bool, device: torch.device) -> bool:
    """Returns True if any process was asked to stop; all agree at the same iteration. Collective.

    Args:
        requested: this process was asked to stop.
        iteration: processes vote every ``VOTE_PERIOD`` iterations.
        due: a checkpoint is due, so they vote in any case: the run may end after it.
        device: for the exchange.
    """
    if is_distributed() and iteration % VOTE_PERIOD and not due:
        return False
    return any_process(requested, device)


def share_text(text: str | None) -> str | None:
    """Returns the main process's text in every process. Collective."""
    message = [text]
    if is_distributed():
        dist.broadcast_object_list(message, src=0)
    return message[0]


def gather_objects(value: Any) -> list[Any]:
    """Returns the picklable values of all processes, by rank. Collective."""
    values = [value] * num_processes()
    if is_distributed():
        dist.all_gather_object(values, value)
    return values


def gather_rows(rows: Tensor) -> Tensor:
    """Returns the (N, D) rows of all processes, by rank; N is equal everywhere. Collective.

    Gradient flows to this process's rows only, times the number of processes: after
    ``average_gradients`` it is that of a single process with all rows.
    """
    if not is_distributed():
        return rows
    own = rows.detach().contiguous()
    blocks = [torch.empty_like(own) for _ in range(num_processes())]
    dist.all_gather(blocks, own)
    blocks[process_rank()] = own + num_processes() * (rows - own)
    return torch.cat(blocks)


def gather(tensor: Tensor, device: torch.device) -> list[Tensor]:
    """Returns the tensors of all processes, by rank, on the CPU. Collective.

    Args:
        tensor: lengths along the first axis may differ between processes.
        device: for the exchange.
    """
    if not is_distributed():
        return [tensor.cpu()]
    length = torch.tensor([len(tensor)], device=device)
    lengths = [torch.empty_like(length) for _ in range(dist.get_world_size())]
    dist.all_gather(lengths, length)
    longest = max(int(each) for each in lengths)
    padded = tensor.new_zeros((longest, *tensor.shape[1:]), device=device)
    padded[: len(tensor)] = tensor.to(device)
    parts = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(parts, padded)
    return [part[: int(each)].cpu() for part, each in zip(parts, lengths, strict=True)]
