"""Several devices: the same masks by a process each, whatever happens to them. The processes are real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from clipes.cli import main
from clipes.device.errors import DeviceLost
from clipes.runs import launch
from clipes.runs.execute import Run
from clipes.runs.plan import Faults, LocalEngine, Placement, Plan
from clipes.runs.prepare import prepare
from clipes.runs.shards import Shard
from clipes.scenes import draw_scenes
from clipes.store.output import Output
from clipes.store.record import read_records

COUNT, BAD = 24, "05"
DEVICES = LocalEngine(("cpu", "cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn pictures in photos/, of which 05 cannot be read; alone/ has what one process makes of them."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "photos").mkdir()
    for index, scene in enumerate(draw_scenes(COUNT, 3_000_700, (48, 64))):
        Image.fromarray(scene.image).save(folder / "photos" / f"{index:02}.png")
    (folder / "photos" / f"{BAD}.png").write_bytes(b"no image")
    assert main([*_arguments(folder, folder / "alone")]) == 0
    return folder


def _arguments(data: Path, out: Path, *more: str) -> list[str]:
    flags = ["--labels", "cat,tree", "--refine", "none", "--max-failure-rate", "0.1", "--save-confidence"]
    return ["generate", str(data / "photos"), "--out", str(out), *flags, *more]


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def _recorded(folder: Path) -> list[str]:
    return sorted(row.id for record in read_records(folder) for row in record.rows())


def _plan(data: Path, out: Path, **parts: object) -> Plan:
    return Plan(str(data / "photos"), Output(out), labels=("cat", "tree"), **parts)  # type: ignore[arg-type]


@pytest.fixture
def start(data: Path, tmp_path: Path) -> Iterator[object]:
    """Starts the command with two processes, and ends it after the test."""
    begun: list[subprocess.Popen[str]] = []

    def started(*more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "clipes", *_arguments(data, tmp_path / "m", "--devices", "cpu,cpu", *more)]
        begun.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return begun[-1]

    yield started
    for process in begun:
        process.kill()


def _wait(condition: object, what: str) -> None:
    until = time.monotonic() + 300
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until, f"waited for {what}"
        time.sleep(0.05)


def _processes(folder: Path) -> list[int]:
    """Those that have a record."""
    return [int(record.path.name.split("-")[2]) for record in read_records(folder)] if folder.exists() else []


def _is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.slow
def test_the_masks_of_one_process(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m"
    assert main(_arguments(data, out, "--devices", "cpu,cpu")) == 0
    said = capsys.readouterr()
    assert f"{COUNT - 1} of {COUNT} masks written" in said.out and "05" in said.err
    assert _files(out) == _files(data / "alone")
    assert {record.header["shard"] for record in read_records(out)} == {"0/2", "1/2"}
    assert _recorded(out) == [f"{index:02}" for index in range(COUNT)]
    assert main(_arguments(data, out, "--devices", "cpu,cpu", "--strict")) == 3  # tries 05 again
    again = capsys.readouterr()
    assert f"{COUNT - 1} finished before" in again.out and "05" in again.err


@pytest.mark.slow
def test_each_process_reads_the_regions_of_its_images(data: Path, tmp_path: Path) -> None:
    (tmp_path / "regions").mkdir()
    for index in range(COUNT):
        Image.new("L", (64, 48), 1).save(tmp_path / "regions" / f"{index:02}.png")
    given = ("--regions", str(tmp_path / "regions"))
    assert main(_arguments(data, tmp_path / "alone", *given)) == 0
    assert main(_arguments(data, tmp_path / "m", *given, "--devices", "cpu,cpu")) == 0
    assert _files(tmp_path / "m") == _files(tmp_path / "alone") != _files(data / "alone")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_killed_process_is_started_again(data: Path, tmp_path: Path, start) -> None:
    process = start()
    _wait(lambda: any(_recorded(tmp_path / "m")) if (tmp_path / "m/records").exists() else False, "a row")
    os.kill(_processes(tmp_path / "m")[0], signal.SIGKILL)
    _out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert _files(tmp_path / "m") == _files(data / "alone")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_stopped_run_goes_on_where_it_stopped(data: Path, tmp_path: Path, start, number: int, code: int) -> None:
    """Also where the launching process is killed: the others notice."""
    process = start()
    _wait(lambda: len(_processes(tmp_path / "m")) == 2, "two records")
    workers = _processes(tmp_path / "m")
    process.send_signal(number)
    process.communicate(timeout=300)
    assert process.returncode == code
    _wait(lambda: not any(map(_is_alive, workers)), "the end of the processes")
    whole = _files(data / "alone")
    assert _files(tmp_path / "m").items() <= whole.items(), "a file is there as a whole or not at all"
    assert main(_arguments(data, tmp_path / "m")) == 0
    assert _files(tmp_path / "m") == whole


def test_signals_may_interrupt_each_other() -> None:
    """Where a handler holds a lock, the next one would wait for it for good: here one comes at each line of it."""
    script = """
import signal, sys
from clipes.runs.launch import stop_on_signals
stop, left = stop_on_signals(), 20
def again(frame, event, argument):
    global left
    left -= 1
    if left >= 0:
        signal.raise_signal(signal.SIGTERM)
    return again
sys.settrace(again)
signal.raise_signal(signal.SIGTERM)
sys.settrace(None)
print(stop(), left < 20)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True True\n", done.stderr


def test_no_images_need_no_process(data: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(launch, "_launch", lambda plan: pytest.fail("processes were started"))
    (data / "photos" / f"{BAD}.png").rename(data / "bad")
    try:
        assert main(_arguments(data, data / "alone", "--devices", "cpu,cpu")) == 0
    finally:
        (data / "bad").rename(data / "photos" / f"{BAD}.png")
    assert f"0 of {COUNT - 1} masks" in capsys.readouterr().out


def test_an_error_of_a_process_keeps_its_type(data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(launch, "_launch", lambda plan: DeviceLost("CUDA error: unspecified launch failure"))
    assert main(_arguments(data, tmp_path / "m", "--devices", "cpu,cpu")) == 5
    assert "the GPU was lost, and no image is to blame" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA error: unspecified launch failure"), DeviceLost),
        (OSError(28, "No space left on device"), OSError),
    ],
)
def test_what_a_process_returns(data: Path, tmp_path: Path, monkeypatch, error: Exception, expected: type) -> None:
    def fail(run: Run) -> Iterator[None]:
        assert run.plan.placement.shard == Shard(1, 2) and run.plan.placement.device == "cpu"
        raise error
        yield

    for name, value in {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launch, "write_here", fail)
    monkeypatch.setattr(launch.signal, "signal", lambda *given: None)
    monkeypatch.setattr(launch.warnings, "showwarning", launch.warnings.showwarning)
    threads = torch.get_num_threads()
    try:
        plan = _plan(data, tmp_path / "m", placement=Placement(DEVICES), faults=Faults(overwrite=True))
        assert type(launch._work(plan, os.getppid())) is expected
    finally:
        torch.set_num_threads(threads)


def test_shards_of_a_shard_are_its_images() -> None:
    """Three machines, of which one divides its shard among two devices: every image is done once."""
    plan = Plan("photos", Output(Path("m")), placement=Placement(LocalEngine(("cpu", "cpu")), Shard(1, 3)))
    parts = [launch._plan_of_rank(plan, rank).placement.shard for rank in (0, 1)]
    ids = [str(number) for number in range(300)]
    inside = [[part.holds(id) for part in parts] for id in ids]
    assert [sum(held) for held in inside] == [int(Shard(1, 3).holds(id)) for id in ids]
    assert any(held[0] for held in inside) and any(held[1] for held in inside)


def test_a_prepared_run_counts_its_shard(data: Path, tmp_path: Path) -> None:
    parts = [
        prepare(_plan(data, tmp_path / "m", placement=Placement(shard=Shard(index, 3)))).images for index in range(3)
    ]
    assert sum(parts) == COUNT and all(count < COUNT for count in parts)


def test_all_are_the_gpus_that_torch_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert launch.choose_devices("all") == ("cuda:0", "cuda:1", "cuda:2")


def test_a_row_in_the_middle_of_being_written_waits(tmp_path: Path) -> None:
    path, places = tmp_path / "r.jsonl", {}
    rows = [b'{"header": 1}\n', b'{"id": "a", "status": "ok"}\n', b'{"id": "b", "status": "ok"}\n']
    path.write_bytes(b"".join(rows)[:-5])
    assert [row.id for row in launch._new_rows(path, places)] == ["a"]
    path.write_bytes(b"".join(rows))
    assert [row.id for row in launch._new_rows(path, places)] == ["b"]
    assert list(launch._new_rows(path, places)) == []
