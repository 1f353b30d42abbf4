"""clipes.store.record: whole lines or nothing, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, tzinfo
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipes.store import record
from clipes.store.record import Recorder, Unreadable, read_records
from clipes.store.row import Row

posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")
HEADER = {"settings": "x", "total": 3, "shard": None}
TEXTS = st.text(st.characters(exclude_categories=()))  # lone surrogates, too: file names that are no UTF-8
ROWS = st.builds(
    Row,
    id=TEXTS,
    status=st.sampled_from(["ok", "skipped", "failed"]),
    reason=TEXTS,
    labels=st.lists(TEXTS, max_size=3).map(tuple),
    size=st.none() | st.tuples(st.integers(1, 2**40), st.integers(1, 9)),
    seconds=st.none() | st.floats(0, allow_nan=False, allow_infinity=False),
    confidence=st.none() | st.floats(0, 1),
    checksum=st.none() | TEXTS,
    shard=st.none() | TEXTS,
    time=st.floats(0, 1e10),
)


def _rows(folder: Path) -> list[Row]:
    return [row for record in read_records(folder) for row in record.rows()]


def _child(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_record_holds_its_header_and_its_rows(tmp_path: Path) -> None:
    before = time.time()
    with Recorder(tmp_path, {**HEADER, "pid": -1, "machine": "the driver's"}) as recorder:
        recorder.add(Row("a/b", "ok", labels=("cat", "dog"), size=(4, 6), seconds=0.5, checksum="ff", shard="m-0.tar"))
        recorder.add(Row("c", "failed", "c.jpg: the file\nis \u2028 empty"))
    (found,) = read_records(tmp_path)
    assert found.path == recorder.path and found.path.parent == tmp_path / "records"
    assert re.fullmatch(rf"\d{{8}}T\d{{6}}\.\d{{6}}-[0-9a-f]{{8}}-{os.getpid()}-[0-9a-f]{{8}}\.jsonl", found.path.name)
    assert found.header["total"] == 3 and found.settings == "x"
    assert found.header["pid"] == os.getpid() and found.header["machine"] != "the driver's"
    assert before - 0.01 <= found.started <= time.time()
    first, second = found.rows()
    assert (first.id, first.status, first.labels, first.size) == ("a/b", "ok", ("cat", "dog"), (4, 6))
    assert (first.seconds, first.checksum, first.shard, first.reason) == (0.5, "ff", "m-0.tar", "")
    assert second.reason == "c.jpg: the file\nis \u2028 empty" and second.labels == () and second.size is None
    assert before - 0.01 <= first.time <= second.time <= time.time() + 0.01
    text = found.path.read_bytes()
    assert text.isascii() and text.count(b"\n") == 3 and b"null" not in text.split(b"\n", 1)[1]


@given(row=ROWS)
def test_rows_survive_the_round_trip(row: Row) -> None:
    line = row.to_json()
    assert line.isascii() and "\n" not in line
    assert Row.from_json(line) == row and type(Row.from_json(line).labels) is tuple


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "broken JSON"),
        ("[" * 100_000, "broken JSON"),
        ("[]", "no JSON object"),
        ('{"id": "a"}', "id or status is missing"),
        ('{"status": "ok"}', "id or status is missing"),
        ('{"id": 1, "status": "ok"}', "id is 1"),
        ('{"id": "a", "status": "done"}', "the status is 'done'; it is one of ok, skipped, failed"),
        ('{"id": "a", "status": "ok", "labels": "dog"}', "labels is 'dog'"),
        ('{"id": "a", "status": "ok", "labels": [1]}', "labels is"),
        ('{"id": "a", "status": "ok", "size": [1]}', "size is"),
        ('{"id": "a", "status": "ok", "size": [1, true]}', "size is"),
        ('{"id": "a", "status": "ok", "seconds": true}', "seconds is True"),
        ('{"id": "a", "status": "ok", "seconds": NaN}', "seconds is nan"),
        ('{"id": "a", "status": "ok", "confidence": 1.5}', "confidence is 1.5"),
        ('{"id": "a", "status": "ok", "time": -1}', "time is -1"),
        ('{"id": "a", "status": "ok", "time": 1e12}', "time is 1000000000000.0"),
        ('{"id": "a", "status": "ok", "more": 1}', "more is 1"),
    ],
)
def test_broken_rows_are_passed_over_and_named_with_their_line(tmp_path: Path, line: str, why: str) -> None:
    with Recorder(tmp_path, HEADER) as recorder:
        recorder.add(Row("a", "ok"))
    with open(recorder.path, "a") as file:
        file.write(f"{line}\n{Row('b', 'ok').to_json()}\n")
    assert [row.id for row in _rows(tmp_path)] == ["a", "b"]
    (record,) = read_records(tmp_path)
    (unreadable,) = (item for item in record.items() if isinstance(item, Unreadable))
    assert re.search(rf"^{re.escape(str(recorder.path))}, line 3: .*{why}", str(unreadable))
    assert unreadable.damaged == why.startswith(("broken JSON", "no JSON object"))


def test_numbers_that_json_lacks_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with Recorder(tmp_path, HEADER) as recorder, pytest.raises(ValueError, match="not JSON compliant"):
        recorder.add(Row("a", "ok", seconds=float("nan")))
    assert _rows(tmp_path) == []


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "-",
        '{"settings": 1}',
        '{"settings": "x"}',
        '{"settings": "x", "started": 1}',
        '{"settings": "x", "started": "?"}',
        '{"settings": "x", "started": "0001-01-01T00:00:00+00:00"}',
        '{"settings": "x", "started": "9999-01-01T00:00:00+00:00"}',
        '{"id": "a", "status": "ok"}',
    ],
)
def test_broken_headers_are_named_and_their_records_are_of_no_run(tmp_path: Path, line: str) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "a.jsonl").write_text(f"{line}\n")
    with Recorder(tmp_path, HEADER):
        pass
    first, second = read_records(tmp_path)
    assert first.settings == "" and str(first.fault).startswith(f"{first.path}, line 1: ")
    assert first.fault and first.fault.damaged == (line == "-" or "id" in line)
    assert second.settings == "x" and second.fault is None


LINES = st.binary(max_size=40) | st.sampled_from([b'{"id": "a", "status": "ok", "time": %s}' % (b"9" * 400), b"1e999"])


@given(lines=st.lists(LINES), first=st.none() | LINES)
def test_any_bytes_are_rows_or_a_value_error(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], first: bytes | None
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "records").mkdir()
    head = b'{"settings": "x", "started": "2026-01-01T00:00:00+00:00"}' if first is None else first
    (folder / "records" / "a.jsonl").write_bytes(b"\n".join([head, *lines]))
    with suppress(ValueError):
        assert all(isinstance(row, Row) for row in _rows(folder))


def test_every_cut_of_a_record_gives_the_rows_before_it(tmp_path: Path) -> None:
    with Recorder(tmp_path, HEADER) as recorder:
        for name in "abc":
            recorder.add(Row(name, "ok"))
    whole = recorder.path.read_bytes()
    for end in range(len(whole) + 1):
        recorder.path.write_bytes(whole[:end])
        assert [row.id for row in _rows(tmp_path)] == list("abc")[: max(whole[:end].count(b"\n") - 1, 0)]
        assert len(list(read_records(tmp_path))) == (b"\n" in whole[:end])


def test_records_come_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    for name in "abc":
        with Recorder(tmp_path, {"settings": name}):
            pass
    assert [record.settings for record in read_records(tmp_path)] == ["a", "b", "c"]


def test_other_files_are_not_records(tmp_path: Path) -> None:
    assert list(read_records(tmp_path)) == []
    with Recorder(tmp_path, HEADER):
        pass
    (tmp_path / "records" / "._x.jsonl").write_bytes(b"\0\n")
    (tmp_path / "records" / "notes.txt").write_bytes(b"\0\n")
    assert len(list(read_records(tmp_path))) == 1


@posix
def test_links_are_refused(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a", HEADER) as recorder:
        pass
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "records").symlink_to(tmp_path / "a" / "records")
    for refused in (lambda: list(read_records(tmp_path / "b")), lambda: Recorder(tmp_path / "b", HEADER)):
        with pytest.raises(ValueError, match=r"b/records is a link.*remove the link"):
            refused()
    (tmp_path / "a" / "records" / "z.jsonl").symlink_to(recorder.path)
    with pytest.raises(ValueError, match=r"z\.jsonl is a link"):
        list(read_records(tmp_path / "a"))


def test_a_header_needs_settings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'settings' is None; give the digest"):
        Recorder(tmp_path, {})
    assert list(tmp_path.iterdir()) == []


def test_a_closed_record_takes_no_more(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, HEADER)
    recorder.close()
    recorder.close()
    for call in (lambda: recorder.add(Row("a", "ok")), recorder.sync):
        with pytest.raises(ValueError, match="is closed; open another Recorder"):
            call()


def test_closing_and_syncing_reach_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    recorder = Recorder(tmp_path, HEADER)
    recorder.add(Row("a", "ok"))
    recorder.sync()
    recorder.add(Row("b", "ok"))
    recorder.close()
    assert len(synced) == 2 and synced[0] < synced[1] == recorder.path.stat().st_size


class _Disk:
    """os.write that takes so many bytes at each call; "full" and "stop" raise instead."""

    def __init__(self, takes: Sequence[int | str]) -> None:
        self.takes, self.write = list(takes), os.write

    def __call__(self, file: int, data: bytes) -> int:
        take = self.takes.pop(0) if self.takes else len(data)
        if take == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if take == "stop":
            raise KeyboardInterrupt
        return self.write(file, data[: int(take)])


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Recorder(tmp_path, HEADER) as recorder:
        monkeypatch.setattr(os, "write", _Disk([1, 2, 3]))
        recorder.add(Row("a", "ok"))
    assert [row.id for row in _rows(tmp_path)] == ["a"]


@pytest.mark.parametrize("takes", [["full"], [5, "full"], [5, 4, "stop"]])
def test_a_write_that_fails_leaves_nothing_of_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes: list[int | str]
) -> None:
    with Recorder(tmp_path, HEADER) as recorder:
        recorder.add(Row("a", "ok"))
        with monkeypatch.context() as patch, pytest.raises((OSError, KeyboardInterrupt)):
            patch.setattr(os, "write", _Disk(takes))
            recorder.add(Row("b", "ok"))
        recorder.add(Row("c", "ok"))
    assert [row.id for row in _rows(tmp_path)] == ["a", "c"]


def test_a_header_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", _Disk([5, "full"]))
    with pytest.raises(OSError, match="No space left"):
        Recorder(tmp_path, HEADER)
    assert list((tmp_path / "records").iterdir()) == []


LIMITED = """
import resource, signal, sys
from clipes.store.record import Recorder
from clipes.store.row import Row
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
recorder = Recorder(sys.argv[1], {"settings": "x"})
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
done = 0
try:
    while True:
        recorder.add(Row(f"{done:050}", "ok"))
        done += 1
except OSError as error:
    first = error.errno
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
recorder.add(Row("after", "ok"))
recorder.close()
print(first, done)
"""


@posix
def test_a_full_disk_cuts_no_line(tmp_path: Path) -> None:
    """The limit lies in the middle of a line: the kernel takes a part of it, and refuses the rest."""
    out, err = _child(LIMITED, tmp_path).communicate(timeout=60)
    code, done = map(int, out.split() or [0, 0])
    assert code == errno.EFBIG, err
    assert done >= 3 and [row.id for row in _rows(tmp_path)] == [*(f"{n:050}" for n in range(done)), "after"]


ENDLESS = """
import itertools, sys
from clipes.store.record import Recorder
from clipes.store.row import Row
recorder = Recorder(sys.argv[1], {"settings": "x"})
print("begun", flush=True)
for number in itertools.count():
    recorder.add(Row(f"{number:0200}", "ok"))
"""


@posix
def test_a_kill_costs_no_row(tmp_path: Path) -> None:
    for number in range(5):
        child = _child(ENDLESS, tmp_path / str(number))
        assert child.stdout is not None and child.stdout.readline() == "begun\n"
        time.sleep(0.01 + 0.02 * number)
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=60)
        rows = _rows(tmp_path / str(number))
        assert [int(row.id) for row in rows] == list(range(len(rows)))
    assert rows


COUNTED = """
import sys
from clipes.store.record import Recorder
from clipes.store.row import Row
with Recorder(sys.argv[1], {"settings": sys.argv[2]}) as recorder:
    for number in range(500):
        recorder.add(Row(f"{sys.argv[2]}{number}", "ok"))
"""


def test_workers_of_one_folder_do_not_mix(tmp_path: Path) -> None:
    children = [_child(COUNTED, tmp_path, name) for name in "ab"]
    assert [child.communicate(timeout=60)[1] for child in children] == ["", ""]
    found = {record.settings: [row.id for row in record.rows()] for record in read_records(tmp_path)}
    assert found == {name: [f"{name}{number}" for number in range(500)] for name in "ab"}


class _Noon(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return datetime(2026, 1, 1, 12, tzinfo=tz)


def test_names_of_the_same_moment_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "datetime", _Noon)
    for _ in range(20):
        Recorder(tmp_path, HEADER).close()
    assert len(os.listdir(tmp_path / "records")) == 20
    monkeypatch.setattr(record.secrets, "token_hex", lambda count: "0" * 8)
    with Recorder(tmp_path, HEADER) as recorder, pytest.raises(FileExistsError):
        Recorder(tmp_path, HEADER)
    assert recorder.path.name.startswith("20260101T120000.000000-") and recorder.path.stat().st_size


def test_files_of_different_users_are_readable_as_the_umask_says(tmp_path: Path) -> None:
    with Recorder(tmp_path, HEADER) as recorder:
        pass
    (tmp_path / "other").touch()
    assert recorder.path.stat().st_mode == (tmp_path / "other").stat().st_mode
