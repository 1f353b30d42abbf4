"""The examples for torchrun and Slurm: every process does its shard, together they do what one does alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from generating import CommandLine, masks

from clipes.store.record import read_records

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.slow


def run(command: list[str | Path], **variables: str) -> str:
    """What a command prints, in an environment without a launcher's variables but these."""
    launchers = ("SLURM_", "RANK", "WORLD_SIZE", "LOCAL_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(launchers)}
    path = os.pathsep.join((os.path.dirname(sys.executable), variables.pop("PATH", ""), environ["PATH"]))
    environ |= {"PATH": path, "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(list(map(str, command)), env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def arguments(photos: Path, out: Path) -> list[str | Path]:
    return [photos, "--labels", photos.parent / "labels.csv", "--out", out, "--device", "cpu", "--threads", "1"]


@pytest.fixture
def alone(photos: Path, tmp_path: Path, cli: CommandLine) -> dict[str, bytes]:
    """The masks that one process makes."""
    assert cli("generate", *arguments(photos, tmp_path / "alone")).code == 0
    return masks(tmp_path / "alone")


def by_shard(folder: Path) -> set[str]:
    """The shards that have a record."""
    return {record.header["shard"] for record in read_records(folder)}


def ids(folder: Path) -> list[str]:
    """The images in all records."""
    return sorted(row.id for record in read_records(folder) for row in record.rows())


def test_torchrun(photos, alone, tmp_path):
    """A bad image must not end the process that does the others; a second start does what is left."""
    good = (photos / "a.jpg").read_bytes()
    (photos / "a.jpg").write_bytes(b"no image")
    command = [EXAMPLES / "torchrun.sh", *arguments(photos, tmp_path / "m")]
    run(command, PROCESSES="2")
    assert masks(tmp_path / "m") == {name: data for name, data in alone.items() if name != "a.png"}
    assert by_shard(tmp_path / "m") == {"0/2", "1/2"}
    (photos / "a.jpg").write_bytes(good)
    run(command, PROCESSES="2")
    assert masks(tmp_path / "m") == alone and len(alone) == 3
    assert ids(tmp_path / "m") == ["a", "a", "b", "sub/c"], "each image once, but for the one that failed"


def test_a_slurm_array(photos, alone, tmp_path):
    """With an srun that does what Slurm's does to the environment."""
    subprocess.run(["bash", "-n", EXAMPLES / "slurm_array.sh"], check=True)
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    step = "SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0"
    srun.write_text(f'#!/bin/sh\nexec env {step} "$@"\n')
    srun.chmod(0o755)
    array = {"SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_MAX": "1", "SLURM_ARRAY_TASK_STEP": "1"}
    for job in ("0", "1"):
        variables = {**array, "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_ID": job, "SLURM_NTASKS": "1"}
        command = ["bash", EXAMPLES / "slurm_array.sh", *arguments(photos, tmp_path / "m")]
        run(command, **variables, SLURM_CPUS_PER_TASK="2", PATH=str(srun.parent))
    assert masks(tmp_path / "m") == alone
    assert by_shard(tmp_path / "m") == {"0/2", "1/2"} and ids(tmp_path / "m") == ["a", "b", "sub/c"]
