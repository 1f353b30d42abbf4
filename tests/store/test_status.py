"""clipes.store.status and ``clipes status``: all workers' records together, each image once."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clipes.commands import status as command
from clipes.commands.parser import Parser
from clipes.datasets.tables import read_table
from clipes.store import record
from clipes.store.manifest import create_or_verify_manifest
from clipes.store.record import Recorder
from clipes.store.row import Row
from clipes.store.rows import SuspectCounts
from clipes.store.status import Reason, Reasons, RunStatus, normalised_reason
from clipes.store.store import Store

SETTINGS = {"model": "tiny"}


def read_status(folder: Path) -> RunStatus:
    with Store.open(folder) as run:
        return run.status()


def _rewrite(path: Path, started: str, times: list[float]) -> None:
    """Give a record another start, and its rows other times."""
    head, *rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [{**row, "time": time} for row, time in zip(rows, times, strict=True)]
    lines = [{**head, "started": started, "machine": f"node{started[17:19]}"}, *rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _worker(folder: Path, start: int, rows: list[tuple[float, Row]], **header: Any) -> None:
    """A worker that began ``start`` seconds after 1970 began, and rows with their times."""
    with Recorder(folder, {"settings": create_or_verify_manifest(folder, SETTINGS, {}), **header}) as recorder:
        for _, row in rows:
            recorder.add(row)
    _rewrite(recorder.path, f"1970-01-01T00:00:{start:02}+00:00", [time for time, _ in rows])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two shards at once from second 10 and 12, 10 s of nothing, one of them again, one without a row yet."""
    folder = tmp_path / "masks"
    ok = [Row(f"a{number}", "ok") for number in range(4)]
    _worker(folder, 10, [(11, ok[0]), (12, ok[1]), (14, Row("b", "failed", "in/b.jpg: empty"))], shard="0/2", total=9)
    _worker(folder, 12, [(13, ok[2]), (20, Row("c", "skipped", "no file in/c.jpg"))], shard="1/2", total=9)
    _worker(folder, 30, [(31, Row("b", "ok")), (32, Row("d", "failed", "in/d.jpg: empty"))], shard="0/2", total=8)
    _worker(folder, 40, [(40, Row("e", "skipped"))])
    _worker(folder, 50, [])
    with Recorder(folder, {"settings": "other"}) as recorder:
        recorder.add(Row("other", "ok"))
    return folder


def test_every_image_counts_once(run: Path) -> None:
    found = read_status(run)
    assert (found.ok, found.skipped, found.failed, found.total, found.left) == (4, 2, 1, 8, 1)
    assert found.folder == str(run) and found.other_records == 1
    assert found.reasons == (Reason("skipped", "no file ...", 1, "c"), Reason("failed", "empty", 1, "d"))


def test_speed_is_over_the_time_in_which_anyone_worked(run: Path) -> None:
    found = read_status(run)
    assert found.rate == pytest.approx(8 / ((20 - 10) + (32 - 30)))
    assert [worker.rate for worker in found.workers] == [pytest.approx(3 / 4), pytest.approx(2 / 8), 1.0, None, None]


def test_speed_of_workers_within_the_time_of_another(tmp_path: Path) -> None:
    for start, end in ((10, 20), (11, 12), (15, 16)):
        _worker(tmp_path, start, [(end, Row(f"{start}", "ok"))])
    assert read_status(tmp_path).rate == pytest.approx(3 / 10)


def test_workers_in_order(run: Path) -> None:
    workers = read_status(run).workers
    assert [(worker.ok, worker.skipped, worker.failed) for worker in workers] == [
        (2, 0, 1),
        (1, 1, 0),
        (1, 0, 1),
        (0, 1, 0),
        (0, 0, 0),
    ]
    assert [worker.shard for worker in workers] == ["0/2", "1/2", "0/2", None, None]
    assert [(worker.started, worker.last) for worker in workers] == [(10, 14), (12, 20), (30, 32), (40, 40), (50, 50)]
    assert [worker.machine for worker in workers] == ["node10", "node12", "node30", "node40", "node50"]
    assert [worker.file for worker in workers] == sorted(worker.file for worker in workers)


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    create_or_verify_manifest(tmp_path, SETTINGS, {})
    found = read_status(tmp_path)
    assert (found.total, found.left, found.rate, found.workers, found.reasons) == (None, None, None, (), ())
    _worker(tmp_path, 10, [(11, Row("a", "ok")), (12, Row("b", "ok"))], total=1)
    assert read_status(tmp_path).left == 0  # the data set has become smaller


def test_no_run_and_no_folder(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match=r"has no run\.json; give the --out folder of a `clipes generate`"):
            read_status(folder)


@pytest.mark.parametrize(
    ("id", "reason", "bare"),
    [
        ("a", "in/a.jpg: the file is empty", "the file is empty"),
        ("sub/a", "C:\\my data\\sub/a.jpg: the file is empty", "the file is empty"),
        ("sub/a", "/my data/shard-0.tar/sub/a.seg.png: ends 3 bytes too early", "ends 3 bytes too early"),
        ("a", "in/a.jpg: cannot be opened: in/a.jpg: bad", "cannot be opened: ...: bad"),
        ("a", "[Errno 2] No such file or directory: '/my data/a.jpg'", "[Errno 2] No such file or directory: ..."),
        ("a", "a bad day of a.jpg, that is", "a bad day of ..., that is"),
        ("a", "out of memory", "out of memory"),
        ("a+(", "in/a+(.jpg: empty", "empty"),
        ("a\nb", "in/a\nb.jpg: empty", "empty"),
        ("1", "in/1.jpg: 16-bit float pixels of 11 x 1", "16-bit float pixels of 11 x 1"),
        ("a: b", "in/a: b.jpg: empty: yes", "empty: yes"),
        ("a", "data/b.jpg: not that of 'a' or a/b/x.jpg", "data/b.jpg: not that of ... or a/b/x.jpg"),
        ("a", "", ""),
    ],
)
def test_reasons_lose_the_name_of_their_image(id: str, reason: str, bare: str) -> None:
    assert normalised_reason(Row(id, "failed", reason)) == bare


def test_common_reasons_are_counted_and_ranked() -> None:
    rows = [
        Row("a", "failed", "a.jpg: rare"),
        Row("b", "failed", "b.jpg: ends 7 bytes too early"),
        Row("c", "failed", "c.jpg: ends 12 bytes too early"),
        Row("d", "skipped", "d.jpg: rare"),
        Row("e", "ok"),
        Row("f", "skipped", "f.jpg: often"),
        *(Row(f"g{number}", "skipped", f"g{number}.jpg: often") for number in range(2)),
    ]
    ranked = (
        Reason("skipped", "often", 3, "f"),
        Reason("failed", "ends 7 bytes too early", 2, "b"),
        Reason("failed", "rare", 1, "a"),
        Reason("skipped", "rare", 1, "d"),
    )
    assert Reasons(rows).common(10) == ranked and Reasons(rows).common(2) == ranked[:2] and Reasons().common(10) == ()


def _command(folder: Path, *arguments: str) -> int:
    parser = Parser()
    command.add(parser.add_subparsers(dest="command"))
    return command.run(parser.parse_args(["status", str(folder), *arguments]))


def test_the_command_prints_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _command(run) == 0
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    for row in (["images", "8"], ["ok", "4"], ["skipped", "2"], ["failed", "1"], ["left", "1"]):
        assert row in lines
    assert "images/s  0.67  while at least one worker was running" in out
    assert ["1", "failed", "empty", "(d)"] in lines and ["1", "skipped", "no", "file", "...", "(c)"] in lines
    workers = [line for line in lines if line and line[-1].endswith(".jsonl")]
    assert [(line[0], line[1], *line[-5:-1]) for line in workers] == [
        ("0/2", "node10", "2", "0", "1", "0.75"),
        ("1/2", "node12", "1", "1", "0", "0.25"),
        ("0/2", "node30", "1", "0", "1", "1.00"),
        ("-", "node40", "0", "1", "0", "-"),
        ("-", "node50", "0", "0", "0", "-"),
    ]
    assert [line[4] == "-" for line in workers] == [False] * 4 + [True]  # no last image
    assert err == "1 record(s) of other settings are left out\n"


def test_the_command_limits_the_reasons(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _command(run, "--reasons", "1")
    out = capsys.readouterr().out
    assert "(c)" in out and "(d)" not in out


def test_the_command_writes_json(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _command(run, "--json", str(tmp_path / "status.json")) == 0
    found = json.loads((tmp_path / "status.json").read_text())
    expected = read_status(run)
    assert found == json.loads(json.dumps(expected.as_dict())) and found["left"] == 1
    assert found["reasons"][0] == {"status": "skipped", "text": "no file ...", "count": 1, "first": "c"}
    with pytest.raises(SystemExit):
        _command(run, "--json", str(tmp_path / "status"))
    assert re.search(r"a \.json file is written, not .*status'; end its name in \.json", capsys.readouterr().err)


@pytest.mark.parametrize("name", ["run.json", "classes.json"])
def test_the_command_replaces_nothing_of_a_run(run: Path, name: str) -> None:
    before = (run / "run.json").read_bytes()
    with pytest.raises(ValueError, match=f"{name} would replace what a run wrote; choose another name"):
        _command(run, "--json", str(run / name))
    assert (run / "run.json").read_bytes() == before


@pytest.fixture
def doubtful(tmp_path: Path) -> Path:
    """Of six masks three do not fit; "again" does since it was made again, and "bare" has no label."""
    labels = ("cat", "dog")
    worse = Row("again", "ok", labels=labels, missing=("dog",), foreground=0.4)
    rows = [
        Row("both", "ok", labels=labels, missing=labels, foreground=0.0, confidence=0.25),
        Row("lost", "ok", labels=labels, missing=("dog",), foreground=0.4),
        Row("speck", "ok", labels=labels, foreground=0.009999),
        Row("enough", "ok", labels=labels, foreground=0.01),
        Row("bare", "ok", foreground=0.0),
        Row("gone", "failed", labels=labels),
        worse,
    ]
    _worker(tmp_path / "m", 10, [(11, row) for row in rows])
    _worker(tmp_path / "m", 20, [(21, replace(worse, missing=()))])
    return tmp_path / "m"


def test_masks_that_do_not_fit_are_counted(doubtful: Path, run: Path) -> None:
    assert read_status(doubtful).suspect == SuspectCounts(3, missing_label=2, little_foreground=2)
    assert read_status(doubtful).as_dict()["suspect"] == {"images": 3, "missing_label": 2, "little_foreground": 2}
    assert read_status(run).suspect == SuspectCounts(0, 0, 0)


def test_images_in_which_nothing_was_found_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Row("a", "ok", scores={}), Row("b", "ok", scores={}), Row("c", "ok", scores={"cat": 0.5}), Row("d", "ok")]
    _worker(tmp_path / "m", 10, [(11, row) for row in rows])
    _worker(tmp_path / "m", 20, [(21, Row("b", "ok", labels=("dog",), scores={"dog": 0.4}))])
    assert read_status(tmp_path / "m").nothing_found == 1
    assert _command(tmp_path / "m") == 0
    assert "nothing of the list found in 1 image(s): all background" in capsys.readouterr().out


def test_the_command_lists_masks_that_do_not_fit(doubtful: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = doubtful.parent / "suspects.csv"
    assert _command(doubtful, "--suspects", str(table)) == 0
    out = capsys.readouterr().out
    assert "3 of the masks do not fit the labels of their image" in out and "  2  have no pixel of a label" in out
    assert table.read_text().splitlines() == [
        "image,labels,missing,foreground,confidence",
        "both,cat;dog,cat;dog,0.0,0.25",
        "lost,cat;dog,dog,0.4,",
        "speck,cat;dog,,0.009999,",
    ]
    assert [row.labels for row in read_table(table)] == [("cat", "dog")] * 3, "it can be made again from this table"
    assert _command(run) == 0 and "do not fit" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        _command(doubtful, "--suspects", "m")
    assert "a .csv file is written, not 'm'; end its name in .csv" in capsys.readouterr().err


def test_the_command_says_what_is_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create_or_verify_manifest(tmp_path, SETTINGS, {})
    assert _command(tmp_path) == 0
    out, err = capsys.readouterr()
    assert "images    unknown: no worker was given" in out and "left      unknown" in out and err == ""
    assert "no worker has started" in out and "reasons" not in out


def test_hostile_names_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _worker(tmp_path, 10, [(11, Row("\x1b[2Ja\udcff", "failed", "the file\nis \x1b[31mred"))], shard="\x1b/2")
    _command(tmp_path, "--reasons", "5")
    out = capsys.readouterr().out
    assert "\x1b" not in out and "the file\\nis \\x1b[31mred  (\\x1b[2Ja\\udcff)" in out


def test_the_speed_of_a_live_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows get the time at which they are written."""
    with Recorder(tmp_path, {"settings": create_or_verify_manifest(tmp_path, SETTINGS, {})}) as recorder:
        (started,) = [found.started for found in record.read_records(tmp_path)]
        monkeypatch.setattr(record.time, "time", lambda: started + 4)
        for name in "abcdefgh":
            recorder.add(Row(name, "ok"))
    assert read_status(tmp_path).rate == pytest.approx(2.0, abs=0.01)
