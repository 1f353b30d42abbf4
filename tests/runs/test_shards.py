"""clipes.runs.shards: every image in exactly one part, and what torchrun and Slurm say about a process."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipes.runs.shards import Rank, Shard, shard_from


@given(id=st.text(st.characters(exclude_categories=())), count=st.integers(1, 50))
def test_every_id_is_in_exactly_one_part(id: str, count: int) -> None:
    assert sum(Shard(index, count).holds(id) for index in range(count)) == 1


def test_the_parts_are_those_of_sha256() -> None:
    for id in ("2007_000032", "sub/é", "not\udcffutf-8"):
        number = int(hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest(), 16)
        assert Shard(number % 1000, 1000).holds(id) and not Shard((number + 1) % 1000, 1000).holds(id)


def test_the_parts_are_of_like_size() -> None:
    shards = [Shard(index, 4) for index in range(4)]
    counts = Counter(next(shard.index for shard in shards if shard.holds(f"{number:06}")) for number in range(4000))
    assert all(900 < counts[index] < 1100 for index in range(4))  # four standard deviations are 110


def test_text_and_back() -> None:
    assert str(Shard(1, 4)) == "1/4" and Shard.parse(" 1 / 4\n") == Shard(1, 4) == Shard.parse(str(Shard(1, 4)))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("4/4", "shard 4 of 4: shards count from 0, so that the last of 4 is 3/4"),
        ("0/0", "0 shards; there is at least one, 0/1"),
        ("1", "'1' is no shard; write 0/4 for the first of four, 3/4 for the last"),
        ("-1/4", "is no shard"),
        ("a/4", "is no shard"),
        ("1/4/2", "is no shard"),
        ("", "'' is no shard"),
        ("²/4", "is no shard"),
    ],
)
def test_wrong_parts_are_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Shard.parse(text)


def _array(own: int, first: int, last: int, count: int, step: int = 1) -> dict[str, str]:
    names = {"ID": own, "MIN": first, "MAX": last, "COUNT": count, "STEP": step}
    return {"SLURM_ARRAY_JOB_ID": "8", **{f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in names.items()}}


# What a batch script sees, and what a task that it starts by srun does.
BATCH = {"SLURM_JOB_ID": "8", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
STEP = {
    **BATCH,
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"RANK": "", "SLURM_ARRAY_TASK_ID": ""}, None),
        (BATCH, None),
        ({**BATCH, "SLURM_STEP_NUM_TASKS": "8"}, None),
        ({"LOCAL_RANK": "1"}, None),
        (TORCHRUN, Rank(Shard(3, 4), 1, "torchrun")),
        ({"RANK": "0", "WORLD_SIZE": "1"}, Rank(Shard(0, 1), 0, "torchrun")),
        (STEP, Rank(Shard(5, 8), 1, "a Slurm step")),
        (_array(2, 0, 3, 4), Rank(Shard(2, 4), 0, "a Slurm array")),
        (_array(4, 1, 4, 4), Rank(Shard(3, 4), 0, "a Slurm array")),
        (_array(7, 3, 11, 3, 4), Rank(Shard(1, 3), 0, "a Slurm array")),
        (_array(12, 0, 15, 4, 4), Rank(Shard(3, 4), 0, "a Slurm array")),
        (_array(9, 9, 9, 1), Rank(Shard(0, 1), 0, "a Slurm array")),
        ({**BATCH, **_array(2, 0, 3, 4)}, Rank(Shard(2, 4), 0, "a Slurm array")),
        ({**STEP, **_array(2, 0, 3, 4)}, Rank(Shard(21, 32), 1, "a Slurm step in a Slurm array")),
        ({**STEP, **TORCHRUN}, Rank(Shard(3, 4), 1, "torchrun")),
        ({**STEP, **TORCHRUN, **_array(1, 0, 1, 2)}, Rank(Shard(7, 8), 1, "torchrun in a Slurm array")),
    ],
)
def test_launchers_are_understood(environ: dict[str, str], expected: Rank | None) -> None:
    assert shard_from(environ) == expected


def test_the_processes_of_all_jobs_of_an_array_share_the_work() -> None:
    found = [
        shard_from({**STEP, "SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": str(task), **_array(job, 5, 8, 4)})
        for job in range(5, 9)
        for task in range(3)
    ]
    assert {place.shard for place in found if place} == {Shard(index, 12) for index in range(12)}


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        (
            _array(7, 1, 9, 3, 1),
            r"3 jobs from 1 to 9 in steps of 1 is not evenly spaced.*--array=0-2, or .*--shard i/3",
        ),
        (_array(4, 1, 9, 5, 2), "not evenly spaced"),
        (_array(0, 1, 2, 2), "not evenly spaced"),
        (_array(3, 1, 2, 2), "not evenly spaced"),
        (_array(1, 1, 2, 2, 0), "not evenly spaced"),
        ({"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_MIN is '', not a whole number; unset it, or give --shard"),
        ({"RANK": "0"}, "WORLD_SIZE is ''"),
        ({"WORLD_SIZE": "2"}, "RANK is ''"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK is '-1'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2, but WORLD_SIZE is 2; unset them, or give --shard"),
        ({**TORCHRUN, "LOCAL_RANK": "x"}, "LOCAL_RANK is 'x'"),
        ({**STEP, "SLURM_PROCID": "8"}, "SLURM_PROCID is 8, but SLURM_STEP_NUM_TASKS is 8"),
    ],
)
def test_contradictions_are_refused(environ: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        shard_from(environ)
