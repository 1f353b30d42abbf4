"""No image stops a run for good: too large for the memory there is, or the death of its process again and again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from generating import rows
from PIL import Image

import clipes
from clipes.runs import generation
from clipes.store.in_hand import InHand, deaths, remove_stale_hands
from clipes.store.lease import take_lease
from clipes.store.record import Recorder
from clipes.store.row import Row
from clipes.store.rows import LatestRows

NAME = "20990101T000000.000000-00000000-{pid}-{pid:08x}"

DEADLY = """
import os, signal, sys
import clipes.cams.compute
from clipes.cli import main
real = clipes.cams.compute.encode_images
def encode(vision, images, config):
    if any(image.size == (70, 50) for image in images):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(vision, images, config)
clipes.cams.compute.encode_images = encode
sys.exit(main(sys.argv[1:]))
"""


def died(folder: Path, pid: int, ids: list[str], settings: str = "x", memory: float = 8e9) -> Path:
    """The file of a process of another machine that was killed."""
    (folder / "records").mkdir(exist_ok=True)
    path = folder / "records" / f"{NAME.format(pid=pid)}.hand"
    path.write_text(json.dumps({"settings": settings, "memory": memory, "ids": ids}))
    return path


def test_the_images_in_hand_are_on_the_disk(tmp_path: Path) -> None:
    with Recorder(tmp_path, {"settings": "x"}) as recorder:
        hand = InHand(recorder.path, "x", 8e9)
        assert not hand.path.exists()
        with hand.hold(["a", "b"]), hand.hold(["b", "c"]):
            assert json.loads(hand.path.read_text())["ids"] == ["a", "b", "c"]
        assert json.loads(hand.path.read_text())["ids"] == []
        hand.close()
        assert not hand.path.exists()


def test_deaths_are_counted_by_settings_and_memory(tmp_path: Path) -> None:
    assert deaths(tmp_path, "x", 8e9) == Counter()
    died(tmp_path, 1, ["a", "b"])
    died(tmp_path, 2, ["a"])
    died(tmp_path, 3, ["a"], settings="y")
    died(tmp_path, 4, ["a"], memory=4e9)  # there is twice as much now
    died(tmp_path, 5, ["a"]).write_text('{"settings": "x", "mem')
    assert deaths(tmp_path, "x", 8e9) == Counter(a=2, b=1)
    assert deaths(tmp_path, "x", 3e9) == Counter(a=3, b=1)
    assert deaths(tmp_path, "x", 16e9) == Counter()


def test_what_the_dead_had_in_hand_goes_when_it_is_made(tmp_path: Path) -> None:
    """By a start of the same number or a later one: an older mask says nothing, as its image was to be made again."""
    with Recorder(tmp_path, {"settings": "x"}) as recorder:
        recorder.add(Row("old", "ok"))
    for number, images in enumerate((["old"], ["made"], ["made", "failed"], []), start=1):
        path = died(tmp_path, number, images).with_suffix(".jsonl")
        path.write_text(json.dumps({"settings": "x", "start": 2, "started": "2026-01-01T00:00:00+00:00"}) + "\n")
    died(tmp_path, 5, ["old"], settings="y")
    died(tmp_path, 6, []).write_text("{")
    with InHand(recorder.path, "x", 8e9).hold(["made"]):  # this process lives, as its lease says
        with take_lease(tmp_path, "x"), LatestRows(tmp_path, "x") as latest:
            remove_stale_hands(tmp_path, "x", latest)
            assert len(_hands(tmp_path)) == 4, "1, 2 and 3, and that of this process"
        Path(tmp_path, "records", f"{NAME.format(pid=7)}.jsonl").write_text(
            json.dumps({"settings": "x", "start": 2, "started": "2026-01-01T00:00:00+00:00"})
            + f"\n{Row('made', 'ok').to_json()}\n{Row('failed', 'failed').to_json()}\n"
        )
        with take_lease(tmp_path, "x"), LatestRows(tmp_path, "x") as latest:
            remove_stale_hands(tmp_path, "x", latest)
    assert _hands(tmp_path) - {recorder.path.stem} == {NAME.format(pid=1), NAME.format(pid=3)}


def _hands(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "records").glob("*.hand")}


@pytest.mark.slow
def test_an_image_that_kills_its_process_stops_no_other(photos: Path) -> None:
    """The command is killed at every start. The third one does all the others first, and says what has failed."""
    shutil.copy(photos / "b.png", photos / "sub" / "d.png")  # comes after the one that kills
    out, table = photos.parent / "m", photos.parent / "labels.csv"
    table.write_text(table.read_text() + "sub/d.png,cat\n")
    arguments = ["generate", str(photos), "--labels", str(table), "--out", str(out), "--batch-size", "2"]
    for start in range(3):
        assert start < 2 or "sub/d" not in rows(out)
        code = subprocess.run([sys.executable, "-c", DEADLY, *arguments], capture_output=True, check=False).returncode
        assert code == -9
    found = rows(out)
    assert {name: row.status for name, row in found.items()} == {
        "a": "ok",
        "b": "ok",
        "sub/c": "failed",
        "sub/d": "ok",
    }
    assert "its process was killed 2 times while it was worked on" in found["sub/c"].reason
    assert len(_hands(out)) == 3
    assert clipes.run(photos, out, labels=table).ok == 4
    assert clipes.run(photos, out, labels=table).ok == 4 and not _hands(out)


def test_an_image_that_the_memory_cannot_hold_fails_alone(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (900, 700), "red").save(photos / "large.png")
    table = photos.parent / "labels.csv"
    table.write_text(table.read_text() + "large.png,cat\n")
    needs = 900 * 700 * 220
    monkeypatch.setattr(generation, "memory_limit", lambda: 1e9 + needs / 2)
    monkeypatch.setattr(generation, "memory_in_use", lambda: int(1e9))
    status = clipes.run(photos, photos.parent / "m", labels=table)
    assert (status.ok, status.failed) == (3, 1)
    assert "GB of memory, and this process may have 0.1 GB more; give it more" in status.reasons[0].text


GROUPS = Path("/sys/fs/cgroup/memory")


@pytest.mark.slow
@pytest.mark.skipif(not os.access(GROUPS / "cgroup.procs", os.W_OK), reason="no memory cgroup can be made here")
def test_a_large_picture_in_a_small_cgroup(photos: Path, tmp_path: Path) -> None:
    """35 megapixels in 2 GB: the image has failed, and the others are done at the first start."""
    Image.new("RGB", (7000, 5000), "red").save(photos / "aa.png")
    table = photos.parent / "labels.csv"
    table.write_text(table.read_text() + "aa.png,cat\n")
    group = GROUPS / f"clipes-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(2 * 2**30))
    except OSError:
        pytest.skip("no memory cgroup can be made here")
    try:
        arguments = ["generate", str(photos), "--labels", str(table), "--out", str(tmp_path / "m")]
        command = f"echo $$ > {group}/cgroup.procs; exec {sys.executable} -m clipes.cli " + " ".join(arguments)
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    finally:
        group.rmdir()
    assert done.returncode == 3, done.stderr
    found = rows(str(tmp_path / "m"))
    assert [row.status for _, row in sorted(found.items())] == ["ok", "failed", "ok", "ok"]
    assert "GB of memory, and this process may have" in found["aa"].reason
