"""clipes.store.rows and Store.are_done: the newest row of each image, and masks that are still what the record says."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from clipes.store import record
from clipes.store.layout import Kind, tar_key
from clipes.store.lease import take_lease
from clipes.store.record import Recorder
from clipes.store.row import Row
from clipes.store.rows import LatestRows
from clipes.store.status import read_status
from clipes.store.store import Store


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that rows get; to be changed by the test."""
    now = [4e9]
    monkeypatch.setattr(record.time, "time", lambda: now[0])
    return now


def _store(folder: Path) -> Store:
    return Store(folder, {"settings": {}, "digest": "x"})


def _is_done(run: Store, id: str, labels: Sequence[str], kinds: Sequence[Kind] = ()) -> bool:
    (done,) = run.are_done([(id, tuple(labels))], kinds)
    return done


def _recorder(folder: Path, settings: str = "x", **header: Any) -> Recorder:
    return Recorder(folder, {"settings": settings, **header})


def test_no_records_no_rows(tmp_path: Path) -> None:
    with _store(tmp_path) as run:
        rows = run.latest
        assert len(rows) == 0 and rows.get("a") is None and rows.counts() == {} and rows.workers == []
        assert not _is_done(run, "a", ()) and list(rows) == list(rows.not_done()) == []


def test_the_newest_row_counts(tmp_path: Path, clock: list[float]) -> None:
    with take_lease(tmp_path, "x"), _recorder(tmp_path) as first, _recorder(tmp_path) as second:
        first.add(Row("in one file", "failed"))
        first.add(Row("in one file", "ok"))
        first.add(Row("in both at once", "failed"))
        second.add(Row("in both at once", "skipped"))
        second.add(Row("in the first last", "ok"))
        clock[0] += 1
        first.add(Row("in the first last", "failed", "gone"))
    with LatestRows(tmp_path, "x") as rows:
        found = {name: getattr(rows.get(name), "status", None) for name in ("in one file", "in both at once")}
        assert found == {"in one file": "ok", "in both at once": "skipped"}
        assert rows.get("in the first last") == Row("in the first last", "failed", "gone", time=4e9 + 1)
        assert len(rows) == 3 and rows.counts() == {"ok": 1, "skipped": 1, "failed": 1}
        assert {row.id for row in rows.not_done()} == {"in both at once", "in the first last"}
        assert [worker.file for worker in rows.workers] == [first.path.name, second.path.name]
        worker = rows.workers[0]
        assert (worker.failed, worker.ok, worker.skipped, worker.last) == (3, 1, 0, 4e9 + 1)


@pytest.mark.parametrize("later", [-400 * 86400, -3600, -3600 * 24 * 365 * 80], ids=["year", "hour", "before 1970"])
def test_a_later_start_counts_whatever_its_clock_says(tmp_path: Path, clock: list[float], later: float) -> None:
    """A first start with a clock in the future, and a second one with the right clock."""
    with _recorder(tmp_path) as first:
        first.add(Row("a", "failed", "broken"), Row("b", "failed", "broken"))
    clock[0] += later
    with _recorder(tmp_path) as second:
        second.add(Row("a", "failed"))
        clock[0] -= 10  # set back in mid-run
        second.add(Row("a", "ok"))
    with _recorder(tmp_path) as third:
        third.add(Row("b", "ok"))
    with LatestRows(tmp_path, "x") as rows:
        assert [row.status for row in rows] == ["ok", "ok"]
        assert rows.order("a") < rows.order("b") and rows.order("c") is None


def test_records_of_other_settings_are_left_out(tmp_path: Path) -> None:
    for settings in ("x", "y", "y"):
        with _recorder(tmp_path, settings) as recorder:
            recorder.add(Row(settings, "ok"))
    with LatestRows(tmp_path, "x") as rows:
        assert rows.get("x") and not rows.get("y") and len(rows) == 1
        assert rows.other_records == 2 and len(rows.workers) == 1


def test_lines_that_cannot_be_read_cost_their_images_only(tmp_path: Path) -> None:
    with _recorder(tmp_path) as recorder:
        recorder.add(Row("a", "ok"))
    with open(recorder.path, "ab") as file:
        file.write(b'{"id": "b", "status": "ok", "more": 1}\n')
    with LatestRows(tmp_path, "x") as rows, pytest.warns(UserWarning, match=r"line 3: .*more is 1; a newer clipes may"):
        rows.warn_of_unreadable()
    with open(recorder.path, "ab") as file:
        file.write(b"\0\n" + Row("c", "ok").to_json().encode() + b"\n")
    (tmp_path / "records" / "z.jsonl").write_bytes(b"\0\n" + Row("d", "ok").to_json().encode() + b"\n")
    with LatestRows(tmp_path, "x") as rows:
        assert [row.id for row in rows] == ["a", "c"] and rows.unreadable == 3 and rows.other_records == 0
        with pytest.warns(UserWarning, match=rf"^3 line.*z\.jsonl, line 1: broken JSON.*`clipes repair {tmp_path}`"):
            rows.warn_of_unreadable()
    with LatestRows(tmp_path, "") as rows:
        assert len(rows) == 0


def test_rows_that_were_only_found_have_no_speed(tmp_path: Path) -> None:
    with Recorder(tmp_path, {"settings": "x", "repair": True}) as recorder:
        recorder.add(Row("a", "ok"))
    with LatestRows(tmp_path, "x") as rows:
        assert rows.workers[0].repair and rows.workers[0].rate is None
        assert read_status(tmp_path, rows).rate is None and read_status(tmp_path, rows).ok == 1


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", ["a", "sub/é.b", "not\udcffutf-8"])
def test_finished_masks_are_as_the_record_says(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"mask")
    with _recorder(tmp_path) as recorder:
        recorder.add(Row(name, "ok", labels=("cat", "dog"), checksum=_sha(b"mask")))
    with _store(tmp_path) as run:
        assert _is_done(run, name, ["cat", "dog"])
        assert not _is_done(run, name, ["dog", "cat"]) and not _is_done(run, name, ["cat"])
        assert not _is_done(run, "other", ["cat", "dog"])
        assert not _is_done(run, name, ["cat", "dog"], ["cams"])
        (cams := tmp_path / "cams" / f"{name}.npz").parent.mkdir(parents=True)
        cams.touch()
        assert _is_done(run, name, ["cat", "dog"], ["cams"])
        path.write_bytes(b"other")
        assert not _is_done(run, name, ["cat", "dog"])
        path.unlink()
        assert not _is_done(run, name, ["cat", "dog"])
        path.mkdir()
        assert not _is_done(run, name, ["cat", "dog"])


@pytest.mark.parametrize(
    "row",
    [
        Row("a", "failed", checksum=_sha(b"mask")),
        Row("a", "skipped", checksum=_sha(b"mask")),
        Row("a", "ok"),
        Row("a", "ok", checksum=_sha(b"other")),
        Row("a", "ok", checksum=_sha(b"mask"), shard="none.tar"),
    ],
    ids=["failed", "skipped", "no checksum", "other checksum", "no shard"],
)
def test_what_is_not_finished_is_done_again(tmp_path: Path, row: Row) -> None:
    (tmp_path / "a.png").write_bytes(b"mask")
    with _recorder(tmp_path) as recorder:
        recorder.add(row)
    with _store(tmp_path) as run:
        assert not _is_done(run, "a", ())


def test_a_failure_after_a_success_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"mask")
    with _recorder(tmp_path) as recorder:
        recorder.add(Row("a", "ok", checksum=_sha(b"mask")))
        recorder.add(Row("a", "failed"))
    with _store(tmp_path) as run:
        assert not _is_done(run, "a", ())


def test_neither_mask_nor_checksum_is_not_finished(tmp_path: Path) -> None:
    with _recorder(tmp_path) as recorder:
        recorder.add(Row("a", "ok"))
    with _store(tmp_path) as run:
        assert not _is_done(run, "a", ())


def test_any_text_is_an_id(tmp_path: Path) -> None:
    with _recorder(tmp_path) as recorder:
        for name in ("\ud800", "\udcff", "a\0b", ""):
            recorder.add(Row(name, "ok", reason=name))
    with LatestRows(tmp_path, "x") as rows:
        assert [getattr(rows.get(name), "reason", None) for name in ("\ud800", "\udcff", "a\0b", "")] == [
            "\ud800",
            "\udcff",
            "a\0b",
            "",
        ]


def test_a_nul_in_an_id_is_no_file(tmp_path: Path) -> None:
    with _recorder(tmp_path) as recorder:
        recorder.add(Row("a\0b", "ok", checksum=_sha(b"")))
    with _store(tmp_path) as run:
        assert not _is_done(run, "a\0b", ())


def _tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_masks_in_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"sub/photo.{number}" for number in range(20)]
    _tar(
        tmp_path / "m-0.tar",
        {f"{tar_key(name)}.{end}": name.encode() for name in names for end in ("json", "png", "confidence.png")},
    )
    with _recorder(tmp_path) as recorder:
        for name in names:
            recorder.add(Row(name, "ok", checksum=_sha(name.encode()), shard="m-0.tar"))
        recorder.add(Row("gone", "ok", checksum=_sha(b"gone"), shard="m-0.tar"))
        recorder.add(Row("changed", "ok", checksum=_sha(b"changed"), shard="m-0.tar"))
    opened: list[str] = []
    original = tarfile.open
    monkeypatch.setattr(tarfile, "open", lambda path, mode: (opened.append(str(path)), original(path, mode))[1])
    with _store(tmp_path) as run:
        assert all(_is_done(run, name, ()) for name in names)
        assert not _is_done(run, "gone", ())
    assert opened == [str(tmp_path / "m-0.tar")]


@pytest.mark.parametrize("cut", [100, 512, 700, 1536, 2000])
def test_a_shard_that_is_cut_holds_what_is_whole(tmp_path: Path, cut: int) -> None:
    """Each member is a header of 512 bytes and a block of 512 bytes of data."""
    path = tmp_path / "m.tar"
    _tar(path, {f"{name}.png": name.encode() * 500 for name in "abc"})
    os.truncate(path, cut)
    with _recorder(tmp_path) as recorder:
        for name in "abc":
            recorder.add(Row(name, "ok", checksum=_sha(name.encode() * 500), shard="m.tar"))
    with _store(tmp_path) as run:
        finished = [name for name in "abc" if _is_done(run, name, ())]
    assert finished == list("abc")[: (cut + 12) // 1024]


def test_a_shard_that_is_no_tar_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.tar").write_bytes(b"not a tar" * 1000)
    with _recorder(tmp_path) as recorder:
        recorder.add(Row("a", "ok", checksum=_sha(b"a"), shard="m.tar"))
    with _store(tmp_path) as run:
        assert not _is_done(run, "a", ())


MEMORY = """
import re, sys
from pathlib import Path
from clipes.store.rows import LatestRows
from clipes.store.status import read_status
def peak():  # ru_maxrss would begin with that of the parent
    return int(re.search(r"VmHWM:[^0-9]*([0-9]+) kB", Path("/proc/self/status").read_text())[1]) // 1024
before = peak()
with LatestRows(sys.argv[1], "x") as rows:
    assert len(rows) == int(sys.argv[2])
    print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """The rows of 100,000 images are 30 MB on disk; with a cache of 2 MiB they take none of it in memory."""
    with _recorder(tmp_path) as recorder:
        line = Row("NAME", "ok", labels=("a" * 150,), checksum=_sha(b"")).to_json()
        with open(recorder.path, "a") as file:
            file.writelines(line.replace("NAME", f"{number:020}") + "\n" for number in range(100_000))
    assert recorder.path.stat().st_size > 25e6
    code = f"import clipes.io.tempdb\nclipes.io.tempdb._CACHE_KIB = 2048\n{MEMORY}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), "100000"], capture_output=True, text=True, timeout=120
    )
    assert done.stdout, done.stderr
    assert int(done.stdout) < 10


def test_many_images_at_once_are_told_as_each_alone(tmp_path: Path) -> None:
    """More than one question to the database, in any order; links are looked for in each folder."""
    (tmp_path / "elsewhere").mkdir()
    (folder := tmp_path / "m").mkdir()
    (folder / "sub").mkdir()
    (folder / "out").symlink_to("../elsewhere")
    ids = [f"{place}{number}" for number in range(400) for place in ("", "sub/", "out/")]
    with _recorder(folder) as recorder:
        recorder.add(*(Row(name, "ok", checksum=_sha(name.encode())) for name in ids))
    for name in ids:
        (folder / f"{name}.png").write_bytes(name.encode())
    (folder / "7.png").write_bytes(b"8")
    (folder / "sub/8.png").unlink()
    with _store(folder) as run:
        asked = [(name, ()) for name in reversed([*ids, "gone"])]
        done = dict(zip([name for name, _ in asked], run.are_done(asked), strict=True))
        assert done == {name: _is_done(run, name, ()) for name, _ in asked}
    wrong = {name for name in done if not done[name]}
    assert wrong == {"gone", "7", "sub/8"} | {name for name in ids if name.startswith("out/")}
