"""How many batches run concurrently, and how many of torch's threads each uses."""

from __future__ import annotations

import torch


def default_concurrency(device: torch.device) -> int:
    """The default number of concurrent batches: 1 on a CPU, 2 on a GPU.

    Two batches on a GPU overlap one batch's CPU work with the other's GPU work.
    """
    return 1 if device.type == "cpu" else 2


def configure_threads(per_image: int | None, device: torch.device, images: int) -> int:
    """Let torch use ``per_image`` threads for an image on a CPU; returns how many batches to run concurrently.

    The default is one thread per image, which is the most efficient, or all threads for a single image. The batches
    together use as many threads as torch had before. On a GPU the result is that of :func:`default_concurrency`.
    """
    if device.type != "cpu":
        return default_concurrency(device)
    threads = torch.get_num_threads()
    per_image = per_image or (threads if images == 1 else 1)
    torch.set_num_threads(per_image)
    return max(1, threads // per_image)


def init_worker_thread(threads: int, device: torch.device) -> None:
    """Set torch's per-thread state: intra-op threads, CUDA device, CUDA stream."""
    torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.synchronize()  # the weights were copied on another stream
        torch.cuda.set_stream(torch.cuda.Stream())  # type: ignore[no-untyped-call]
