"""Divides a data set among processes by a hash of the images' ids, so that the processes need not communicate."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """Part ``index``, from 0, of ``count`` parts.

    Raises ValueError unless 0 <= index < count.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(
                f"shard {self.index} of {self.count}: shards count from 0, so that the last of {self.count} is "
                f"{self.count - 1}/{self.count}"
                if self.count > 0
                else f"{self.count} shards; there is at least one, 0/1"
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, id: str) -> bool:
        """Whether the image belongs to this part: SHA-256 of the id in UTF-8, modulo ``count``, is ``index``.

        The answer depends on the id alone, not on the machine, the order or the other images.

        >>> [Shard(index, 3).holds("2007_000032") for index in range(3)]
        [False, False, True]
        """
        if self.count == 1:
            return True
        # surrogatepass: a file name that is not UTF-8 gives an id with surrogates
        data = hashlib.sha256(id.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(data, "big") % self.count == self.index

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse a shard written like ``1/4``. Raises ValueError for any other text.

        >>> Shard.parse("1/4")
        Shard(index=1, count=4)
        """
        match = re.fullmatch(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*", text)
        if match is None:
            raise ValueError(f"{text!r} is no shard; write 0/4 for the first of four, 3/4 for the last")
        return cls(int(match[1]), int(match[2]))


WHOLE = Shard(0, 1)
"""The only part of a data set that is not divided."""


@dataclass(frozen=True)
class Rank:
    """The place of this process among those of its launcher. Created by :func:`shard_from`.

    Attributes:
        shard: the process's part of the data set.
        local_rank: number of the process, from 0, among those on its machine; 0 if the launcher does not say. Use it
            modulo the number of visible GPUs, because a launcher may show each process only its own GPU.
        origin: the launchers, for messages: ``"torchrun in a Slurm array"``.
    """

    shard: Shard
    local_rank: int
    origin: str


def shard_from(environ: Mapping[str, str]) -> Rank | None:
    """The part of the data set that torchrun or Slurm assigns to this process, from its environment variables.

    None if the process was started by neither. torchrun sets RANK, WORLD_SIZE and LOCAL_RANK. A task of a Slurm step
    has SLURM_STEP_ID, and is number SLURM_PROCID of SLURM_STEP_NUM_TASKS and number SLURM_LOCALID on its machine. A
    batch script also has SLURM_PROCID, but is not a step. A job of a Slurm array has SLURM_ARRAY_TASK_ID, _MIN, _MAX,
    _STEP and _COUNT. The part of an array's job is divided among the processes of the job. If torchrun runs inside a
    Slurm step, its ranks are used and the step's are ignored.

    Raises ValueError for variables that are missing or contradict each other. It also raises it for an array whose
    numbers are not evenly spaced, because the environment then does not say which job has which part.

    >>> shard_from({"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0"})
    Rank(shard=Shard(index=2, count=4), local_rank=0, origin='torchrun')
    """
    process = _torchrun_rank(environ) or _slurm_step_rank(environ)
    array = _slurm_array_rank(environ)
    if process is None or array is None:
        return process or array
    inner, outer = process.shard, array.shard
    shard = Shard(outer.index * inner.count + inner.index, outer.count * inner.count)
    return Rank(shard, process.local_rank, f"{process.origin} in {array.origin}")


def _torchrun_rank(environ: Mapping[str, str]) -> Rank | None:
    if not environ.get("RANK") and not environ.get("WORLD_SIZE"):
        return None
    shard = _shard(environ, "RANK", "WORLD_SIZE")
    return Rank(shard, _number(environ, "LOCAL_RANK", 0), "torchrun")


def _slurm_step_rank(environ: Mapping[str, str]) -> Rank | None:
    if not environ.get("SLURM_STEP_ID") or not environ.get("SLURM_STEP_NUM_TASKS"):
        return None
    shard = _shard(environ, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS")
    return Rank(shard, _number(environ, "SLURM_LOCALID", 0), "a Slurm step")


def _slurm_array_rank(environ: Mapping[str, str]) -> Rank | None:
    if not environ.get("SLURM_ARRAY_TASK_ID"):
        return None
    own, first, last, step, count = (
        _number(environ, f"SLURM_ARRAY_TASK_{name}") for name in ("ID", "MIN", "MAX", "STEP", "COUNT")
    )
    # MAX may be the end of the requested range instead of the last number: 0-15:4 gives 0, 4, 8, 12.
    even = step > 0 and first <= own <= last and (own - first) % step == 0 and (last - first) // step + 1 == count
    if not even:
        raise ValueError(
            f"a Slurm array of {count} jobs from {first} to {last} in steps of {step} is not evenly spaced (this is "
            f"{own}): use --array=0-{max(count - 1, 0)}, or give each job its --shard i/{count}"
        )
    return Rank(Shard((own - first) // step, count), 0, "a Slurm array")


def _shard(environ: Mapping[str, str], rank: str, size: str) -> Shard:
    index, count = _number(environ, rank), _number(environ, size)
    if index >= count:
        raise ValueError(f"{rank} is {index}, but {size} is {count}; unset them, or give --shard")
    return Shard(index, count)


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environ.get(name, "")
    if not text and default is not None:
        return default
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise ValueError(f"the environment's {name} is {text!r}, not a whole number; unset it, or give --shard")
    return int(text)
