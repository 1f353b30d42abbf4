"""`clipes tag` by several processes, by Ray, killed and started again: bank and table are those of one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import clipes
from clipes.store.record import read_records

COUNT = 12
FLAGS = ("--tags", "bank", "--bank-patches", "9", "--bank-temperature", "0.05", "--max-failure-rate", "0.5")
pytestmark = pytest.mark.slow


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, bytes]:
    """The bank and the table of one process, over pictures of which one is broken."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("photos")
    for index in range(COUNT):
        Image.fromarray(clipes.scenes.draw_scene(seed=300 + index).image).save(f"photos/{index:02}.png")
    Path("photos/05.png").write_bytes(b"broken")
    assert start("plain").wait() == 0
    return written("plain")


def start(name: str, *flags: str) -> subprocess.Popen[bytes]:
    """`clipes tag` with a bank of its own."""
    own = ("--out", f"{name}.csv", "--bank-file", f"{name}.npz", "--model", "tiny")
    device = () if "--devices" in flags or "--engine" in flags else ("--device", "cpu")
    command = [sys.executable, "-m", "clipes", "tag", "photos", *own, *FLAGS, *device, *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def written(name: str) -> tuple[bytes, bytes]:
    return Path(f"{name}.npz").read_bytes(), Path(f"{name}.csv").read_bytes()


def done(folder: str) -> int:
    """How many images have a row."""
    return len({row.id for record in read_records(folder) for row in record.rows()}) if Path(folder).is_dir() else 0


def test_killed_in_each_pass(plain: tuple[bytes, bytes]) -> None:
    for folder, file in (("k.npz.patches", "k.npz"), ("k.csv.scores", "k.csv")):
        process, end = start("k"), time.monotonic() + 100
        while done(folder) < 3 and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not Path(file).exists() or process.returncode == 0
    assert start("k").wait() == 0
    assert written("k") == plain


def test_interrupted(plain: tuple[bytes, bytes]) -> None:
    process, end = start("i"), time.monotonic() + 100
    while done("i.npz.patches") < 2 and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait() in (0, 130)
    assert start("i").wait() == 0
    assert written("i") == plain


def test_two_at_once(plain: tuple[bytes, bytes]) -> None:
    both = [start("b"), start("b")]
    assert [process.wait() for process in both] == [0, 0]
    assert written("b") == plain


def test_shards_at_once(plain: tuple[bytes, bytes]) -> None:
    for _ in range(2):  # those that end first in the first pass score in the second start
        both = [start("s", "--shard", f"{index}/2") for index in range(2)]
        assert [process.wait() for process in both] == [0, 0]
    assert written("s") == plain


def test_several_devices(plain: tuple[bytes, bytes]) -> None:
    assert start("d", "--devices", "cpu,cpu").wait() == 0
    assert written("d") == plain


def test_by_ray(plain: tuple[bytes, bytes]) -> None:
    pytest.importorskip("ray")
    assert start("r", "--engine", "ray", "--actors", "1").wait() == 0
    assert written("r") == plain
