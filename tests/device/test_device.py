"""Sharing a machine's memory and threads, and bringing results to the host."""

from __future__ import annotations

import math
import os
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from clipes.device import process_memory
from clipes.device.choice import choose_device, choose_dtype
from clipes.device.memory import MemoryBudget, cpu_memory_limit, free_gpu_memory
from clipes.device.pixels import to_host
from clipes.device.process_memory import memory_in_use, memory_limit
from clipes.device.threads import configure_threads

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("each", "images", "jobs", "left"), [(None, 9, 6, 1), (None, 1, 1, 6), (2, 9, 3, 2), (4, 1, 1, 4), (9, 9, 1, 9)]
)
def test_threads_are_split_among_images(each: int | None, images: int, jobs: int, left: int) -> None:
    assert configure_threads(each, CPU, images) == jobs
    assert torch.get_num_threads() == left


def test_a_gpu_has_two_batches_and_leaves_the_threads() -> None:
    assert configure_threads(3, GPU, 100) == 2
    assert torch.get_num_threads() == 6


def test_a_budget_is_never_exceeded_but_by_one_alone() -> None:
    budget, lock, inside, most = MemoryBudget(10), threading.Lock(), [], []

    def work(amount: int) -> None:
        for _ in range(20):
            with budget.reserve(amount):
                with lock:
                    inside.append(amount)
                    most.append(tuple(inside))
                time.sleep(0.0005)
                with lock:
                    inside.remove(amount)

    threads = [threading.Thread(target=work, args=(amount,)) for amount in (3, 4, 6, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(most) == 80 and not inside
    assert all(sum(some) <= 10 or some == (25,) for some in most)
    assert any(len(some) > 1 for some in most)


def test_a_budget_comes_back_after_an_error() -> None:
    budget = MemoryBudget(1)
    for _ in range(3):
        with pytest.raises(KeyError), budget.reserve(1):
            raise KeyError


@pytest.mark.parametrize("total", [1.0, math.inf])
def test_a_budget_leaves_no_residue(total: float) -> None:
    """Fractions and infinities: when nobody has any, everybody gets what he asks for."""
    budget = MemoryBudget(total)
    with budget.reserve(0.1), budget.reserve(0.2), budget.reserve(0.3):
        pass
    for amount in (5, math.inf, math.nan, 5):
        with budget.reserve(amount):
            pass


V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n35 31 0:32 {root} {place} rw,relatime - cgroup cgroup rw,memory\n"
)
V2 = "41 31 0:38 {root} {place} rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(
    ("mount", "line", "name"),
    [
        (V1, "4:memory:", "memory.limit_in_bytes"),
        (V1, "4:cpu,memory:", "memory.limit_in_bytes"),
        (V2, "0::", "memory.max"),
    ],
)
@pytest.mark.parametrize(
    ("root", "group", "limited"),
    [
        ("/", "/", ""),
        ("/", "/slurm/job_7/step_0", "slurm/job_7/step_0"),
        ("/", "/slurm/job_7/step_0", "slurm/job_7"),  # of a cgroup around the process's own
        ("/docker/abc", "/docker/abc/inner", "inner"),  # a container sees its part of the host's paths
        ("/docker/abc", "/elsewhere", ""),
    ],
)
def test_the_lowest_limit_of_all_cgroups_counts(
    mount: str,
    line: str,
    name: str,
    root: str,
    group: str,
    limited: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    process, place = tmp_path / "process", tmp_path / "mount point"
    process.mkdir()
    (place / "slurm" / "job_7" / "step_0").mkdir(parents=True)
    (place / "inner").mkdir()
    (process / "cgroup").write_text(f"9:pids:/x\n{line}{group}\n")
    escaped = str(place).replace(" ", "\\040")
    (process / "mountinfo").write_text(mount.format(root=root, place=escaped))
    monkeypatch.setattr(process_memory, "_PROC", process)
    whole = memory_limit()
    (place / "slurm" / name).write_text("max\n")
    (place / limited / name).write_text("1000000\n")
    assert memory_limit() == 1_000_000 < whole
    assert cpu_memory_limit(CPU) == 500_000 and cpu_memory_limit(CPU, 2) == 250_000


def test_no_cgroups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process_memory, "_PROC", tmp_path)
    assert memory_limit() > 2**28 and memory_in_use() == 0


def test_there_is_one_cpu() -> None:
    assert choose_device("cpu:0").type == "cpu"
    with pytest.raises(ValueError, match="device 'cpu:7': there is one CPU; use 'cpu'"):
        choose_device("cpu:7")


def test_memory_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_memory, "_PROC", Path("none"))
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**20}.__getitem__, raising=False)
    assert cpu_memory_limit(CPU) == 2**31 and cpu_memory_limit(CPU, 4) == 2**29
    assert cpu_memory_limit(GPU) == free_gpu_memory(CPU) == math.inf


def test_arrays_of_a_cpu_are_the_tensors_themselves() -> None:
    tensors = [torch.arange(3), torch.ones(2, 2)]
    arrays = to_host(tensors)
    arrays[0][0] = 7
    assert tensors[0].tolist() == [7, 1, 2] and arrays[1].shape == (2, 2)
    assert to_host([]) == []


@pytest.mark.parametrize(
    ("capabilities", "warned"),
    [({"avx512_bf16": False, "amx_bf16": False}, True), ({"avx512_bf16": True, "amx_bf16": False}, False), ({}, False)],
)
def test_bf16_without_arithmetic_for_it(monkeypatch: pytest.MonkeyPatch, capabilities: Any, warned: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert choose_dtype("bf16", CPU) == torch.bfloat16
        assert choose_dtype("bf16", GPU) == torch.bfloat16
    assert [str(one.message) for one in caught] == [
        "this CPU emulates bf16 in fp32, which is slower than fp32 itself"
    ] * warned
