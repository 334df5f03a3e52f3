"""What several processes say to each other; a process alone answers itself."""

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

VOTE_PERIOD = 5  # iterations between questions to all processes whether to stop


def is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def process_rank() -> int:
    return dist.get_rank() if is_distributed() else 0


def num_processes() -> int:
    return dist.get_world_size() if is_distributed() else 1


def is_main_process() -> bool:
    """The process that writes files and shows progress."""
    return process_rank() == 0


def wait_for_all() -> None:
    """Returns once every process has come here."""
    if is_distributed():
        dist.barrier()


def share_weights(tensors: Iterable[Tensor]) -> None:
    """Every process takes over the main process's values."""
    if is_distributed():
        for tensor in tensors:
            dist.broadcast(tensor.detach(), src=0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replaces each gradient by its mean over processes, in one exchange after the backward pass.

    A parameter without gradient (an injector that nothing reads) has none in any process and is
    passed over. One exchange of the trained part's 100 MB takes milliseconds between GPUs, so
    nothing is overlapped with the backward pass; in return accumulation and unused parameters need
    no special care.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if is_distributed() and gradients:
        for block, mean in zip(gradients, average(gradients), strict=True):
            block.copy_(mean)


def average(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The mean over processes of tensors of one type, in one exchange."""
    if not is_distributed():
        return list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether ``flag`` holds in at least one process."""
    if not is_distributed():
        return flag
    votes = torch.tensor(float(flag), device=device)
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return bool(votes)


def agreed_to_stop(requested: bool, *, iteration: int, due: bool, device: torch.device) -> bool:
    """Whether any process was asked to stop; all get the same answer at the same iteration.

    They ask each other now and then, and always where a checkpoint is ``due``: after it, nothing
    may be left of the run.
    """
    if is_distributed() and iteration % VOTE_PERIOD and not due:
        return False
    return any_process(requested, device)


def share_text(text: str | None) -> str | None:
    """Every process learns the main process's text."""
    message = [text]
    if is_distributed():
        dist.broadcast_object_list(message, src=0)
    return message[0]


def gather(tensor: Tensor, device: torch.device) -> list[Tensor]:
    """Every process's tensor, by rank, on the CPU; lengths along the first axis may differ."""
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
