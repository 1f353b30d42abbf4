"""How many batches and threads of torch work side by side."""

from __future__ import annotations

import torch


def default_jobs(device: torch.device) -> int:
    """Batches worked on side by side unless told otherwise: 1 on a CPU, else 2."""
    return 1 if device.type == "cpu" else 2


def split_threads(each: int | None, device: torch.device, images: int) -> int:
    """Give an image on a CPU ``each`` threads of torch: by default one, which wastes least, or all where there is one.

    Returns how many batches side by side keep all threads busy that torch had; on a GPU :func:`default_jobs`.
    """
    if device.type != "cpu":
        return default_jobs(device)
    threads = torch.get_num_threads()
    each = each or (threads if images == 1 else 1)
    torch.set_num_threads(each)
    return max(1, threads // each)


def begin_thread(threads: int, device: torch.device) -> None:
    """What torch remembers for each thread: how many threads it computes with, and a GPU's stream."""
    torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.synchronize()  # the weights are there
        torch.cuda.set_stream(torch.cuda.Stream())  # type: ignore[no-untyped-call]
