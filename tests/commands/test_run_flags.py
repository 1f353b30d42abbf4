"""The flags of a run: what they take, what the launcher's environment says, and what does not go together."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from clipes.cli import main
from clipes.commands.run_flags import add_run_flags, output_of, place, worker_count
from clipes.runs.shards import Shard
from clipes.store.output import Output

LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_STEP_ID", "SLURM_ARRAY_TASK_ID")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)


def _options(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_run_flags(parser)
    parser.add_argument("--device")
    return parser.parse_args(["--out", "m", *given])


def test_defaults() -> None:
    options = _options()
    assert output_of(options) == Output(Path("m")) and place(options) == (Shard(0, 1), None)
    assert (options.unknown, options.missing, options.max_failure_rate, options.strict) == (
        "refuse",
        "refuse",
        0.01,
        False,
    )
    assert (options.engine, options.actors, options.gpus_per_actor, options.cpus_per_actor) == (
        "here",
        (1, None),
        0,
        None,
    )


def test_what_is_given_is_taken() -> None:
    flags = "--save-confidence --save-patch-cams --out-format tar --tar-size 7 --shard 2/5 --workers 0 --actors 2-8"
    options = _options(*flags.split())
    assert output_of(options) == Output(Path("m"), confidence=True, cams="patch", format="tar", tar_size=7)
    assert place(options) == (Shard(2, 5), None) and options.workers == 0 and options.actors == (2, 8)
    assert _options("--actors", "3").actors == (3, 3)


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--actors", "0", "not a whole number of at least 1"),
        ("--actors", "4-2", "the least is more than the most"),
        ("--actors", "1,4", "not a whole number"),
        ("--gpus-per-actor", "-1", "not a number of at least 0"),
        ("--gpus-per-actor", "inf", "not a number of at least 0"),
        ("--cpus-per-actor", "two", "not a number of at least 0"),
        ("--max-failure-rate", "2", "'2' is no share; give a number between 0 and 1"),
        ("--max-failure-rate", "nan", "no share"),
        ("--max-failure-rate", "1%", "no share"),
        ("--workers", "-1", "not a whole number"),
        ("--tar-size", "0", "not a whole number of at least 1"),
        ("--engine", "spark", "invalid choice"),
    ],
)
def test_what_is_none_is_told(flag: str, value: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentError, match=message):
        _options(f"{flag}={value}")


def test_the_launcher_says_which_part_and_which_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert place(_options()) == (Shard(5, 8), None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert place(_options()) == (Shard(5, 8), "cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert place(_options()) == (Shard(5, 8), "cuda:0")  # each process sees only its own
    assert place(_options("--device", "cpu")) == (Shard(5, 8), "cpu")
    assert place(_options("--shard", "0/2")) == (Shard(0, 2), None)
    with pytest.raises(ValueError, match="--overwrite by one of 8 shards would remove what the others write"):
        place(_options("--overwrite"))


@pytest.mark.parametrize(
    ("device", "given", "images", "expected"),
    [
        ("cpu", [], 100, 1),
        ("cpu", [], 1, 0),
        ("cuda", [], 1, 0),
        ("cpu", ["--workers", "3"], 100, 3),
        ("cpu", ["--workers", "0"], 100, 0),
    ],
)
def test_reading_processes(device: str, given: list[str], images: int, expected: int) -> None:
    assert worker_count(_options(*given), device, images) == expected


def test_a_gpu_is_fed_by_several(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, expected in ((1, 1), (2, 1), (6, 5), (64, 8)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert worker_count(_options(), "cuda", 100) == expected


def test_ray_that_is_not_there_is_told_before_anything(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos.parent)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["generate", "photos", "--labels", "labels.csv", "--out", "m", "--engine", "ray"]) == 2
    assert 'pip install "clipes[ray]"' in capsys.readouterr().err and not Path("m").exists()


@pytest.mark.parametrize(
    ("flags", "device", "dtype"),
    [
        ([], "cpu", "float32"),
        (["--gpus-per-actor", "1"], "cuda", "float16"),
        (["--gpus-per-actor", "1", "--precision", "bf16"], "cuda", "bfloat16"),
        (["--gpus-per-actor", "0.5", "--device", "cuda:0"], "cuda:0", "float16"),
        (["--gpus-per-actor", "1", "--device", "cpu"], "cpu", "float32"),
    ],
)
def test_a_driver_without_a_gpu(
    photos: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], device: str, dtype: str
) -> None:
    """It loads the model on its CPU, whatever the actors have; `run.json` tells of theirs."""
    pytest.importorskip("ray")
    asked: list[partial[Any]] = []

    def write(load: partial[Any], *rest: Any, **options: Any) -> Iterator[Any]:
        asked.append(load)
        yield from ()

    monkeypatch.chdir(photos.parent)
    monkeypatch.setattr("clipes.runs.ray_engine.write_with_ray", write)
    assert main(["generate", "photos", "--labels", "labels.csv", "--out", "m", "--engine", "ray", *flags]) == 3
    assert asked[0].args[0]["device"] == device
    assert json.loads(Path("m/run.json").read_text())["settings"]["dtype"] == dtype


def test_the_parts_of_a_run_are_the_whole(photos: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """And each says how many of its own it has done."""
    monkeypatch.chdir(photos.parent)
    said = []
    for index in range(3):
        flags = ["--labels", "labels.csv", "--shard", f"{index}/3", "--max-failure-rate", "1"]
        assert main(["generate", "photos", *flags, "--out", "m"]) == 0
        said.append(capsys.readouterr().out.split(" masks")[0])
    counts = [int(text.split(" of ")[1]) for text in said]
    assert sum(counts) == 3 and said == [f"{count} of {count}" for count in counts]
    assert main(["status", "m"]) == 0
    words = capsys.readouterr().out.split()
    assert words[:10] == ["images", "3", "ok", "3", "skipped", "0", "failed", "0", "left", "0"]


def test_devices_for_each_process_of_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert place(_options("--devices", "cpu,cpu")) == (Shard(1, 2), "cpu")  # one process on each machine
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ValueError, match="--devices cpu,cpu for each of several processes that torchrun started"):
        place(_options("--devices", "cpu,cpu"))
