"""clipes repair: what is damaged is rebuilt from what is left, or named; nothing is deleted or wrongly claimed."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from generating import CommandLine, Run, draw, files, masks, runner
from PIL import Image

from clipes.io.masks import mask_png
from clipes.store.cleanup import clear
from clipes.store.lease import FolderInUse, take_lease
from clipes.store.manifest import read_manifest
from clipes.store.record import Recorder, read_records
from clipes.store.repair import repair_run
from clipes.store.row import Row
from clipes.store.store import Store

SAVED = ("--save-confidence", "--save-patch-cams")
NEWER = b'{"id": "x", "status": "ok", "colour": "of a newer version"}\n'


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A finished run of four pictures in m/."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    draw(4)
    run = runner(capsys)
    assert run(*SAVED).code == 0
    return run


def _everything(folder: str = "m") -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def _record(folder: str = "m") -> Path:
    (path,) = Path(folder, "records").glob("*.jsonl")
    return path


def _labels(folder: str = "m") -> dict[str, tuple[str, ...]]:
    with Store.open(folder) as store:
        return {row.id: row.labels for row in store.rows("ok")}


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:300]),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: path.write_text(path.read_text().replace('"fuse"', '"fused"')),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.symlink_to("classes.json")),
    ],
    ids=["missing", "empty", "half", "NULs", "edited", "a folder", "a link"],
)
def test_the_settings_come_back(run: Run, cli: CommandLine, damage: Callable[[Path], object]) -> None:
    """Every command that refuses such a folder names the cure, and it works; what was there is set aside."""
    path, whole = Path("m/run.json"), Path("m/run.json").read_bytes()
    before = masks()
    damage(path)
    for command in (["status"], ["export", "--to", "voc"], ["report"], ["finalize"]):
        code, _, err = cli(command[0], "m", *command[1:])
        assert code == 2 and re.search("`clipes repair [^ ]*m` mends it", err)
    there, damaged = os.path.lexists(path), _everything()
    assert cli("repair", "m", "--dry-run").code == 0 and _everything() == damaged
    code, out, err = cli("repair", "m")
    assert code == 0 and "m/run.json: written again from m/records/run.json" in out and not err
    assert path.read_bytes() == whole and os.path.lexists("m/run.json.damaged") == there
    repaired = _everything()
    assert cli("repair", "m")[:2] == (0, "") and _everything() == repaired
    code, out, _ = run(*SAVED)
    assert code == 0 and out.startswith("0 of 4") and "4 finished before" in out and masks() == before


def test_without_the_copy_the_same_settings_write_it_again(run: Run, cli: CommandLine) -> None:
    path, before = Path("m/run.json"), masks()
    digest = read_manifest("m")["digest"]
    Path("m/records/run.json").unlink()
    path.write_bytes(bytes(99))
    code, out, err = cli("repair", "m")
    assert code == 3 and "set aside as run.json.damaged" in out
    assert (
        "m/run.json cannot be rebuilt, as its copy is lost, too; start `clipes generate` with the same settings" in err
    )
    code, _, err = run(*SAVED, "--refine", "none")
    assert code == 2 and "m has no run.json, and its records are of a run with other settings; `clipes repair m`" in err
    assert not path.exists() and masks() == before
    code, out, _ = run(*SAVED)
    assert code == 0 and "4 finished before" in out and read_manifest("m")["digest"] == digest
    assert cli("repair", "m").code == 0


def test_without_records_either_nothing_is_known(run: Run, cli: CommandLine) -> None:
    before = masks()
    shutil.rmtree("m/records")
    Path("m/run.json").write_bytes(b"{")
    code, _, err = cli("repair", "m")
    assert code == 3 and "nothing says of which settings the masks are; choose another folder\n" in err
    Path("m/run.json").unlink()
    code, _, err = cli("repair", "m")
    assert code == 2 and "m has no run.json and no records" in err
    assert cli("repair", "photos").code == cli("repair", "nowhere").code == 2
    assert masks() == before


def test_overwrite_cures_what_cannot_be_mended(run: Run, cli: CommandLine) -> None:
    before = masks()
    Path("m/run.json").write_bytes(b"{")
    Path("m/records/run.json").unlink()
    _record().write_bytes(b"\0\n")
    code, _, err = cli("repair", "m")
    assert code == 3 and "choose another folder, or remove what earlier runs wrote with --overwrite" in err
    assert run(*SAVED, "--overwrite").code == 0 and masks() == before


def test_damaged_lines_cost_their_images_only(run: Run, cli: CommandLine) -> None:
    """A start passes them over, and so does a reader; repair keeps the rows of a newer version."""
    whole = masks()
    lines = _record().read_bytes().splitlines(keepends=True)
    lines[2:3] = [bytes(len(lines[2]) - 1) + b"\n", NEWER]
    _record().write_bytes(b"".join(lines))
    damaged = _record()
    code, out, err = cli("status", "m")
    assert code == 0 and "ok        3" in out and "2 line(s) of the records are passed over" in err
    assert f"{damaged}, line 3: broken JSON" in err and "`clipes repair m` mends it" in err
    code, out, err = cli("repair", "m")
    assert code == 0 and "written again without 1 damaged line(s)" in out and "1 row(s) written again for masks" in out
    assert "1 row(s) that a newer clipes may have written stay" in err
    assert damaged.read_bytes() == b"".join(lines[:2] + lines[3:]) and NEWER in damaged.read_bytes()
    assert damaged.with_name(f"{damaged.name}.damaged").read_bytes() == b"".join(lines)
    repaired = _everything()
    assert cli("repair", "m")[:2] == (0, "") and _everything() == repaired
    code, out, err = run(*SAVED)
    assert code == 0 and "4 finished before" in out and masks() == whole
    assert "a newer clipes may have written it" in err


def test_a_start_goes_on_without_a_repair(run: Run) -> None:
    whole = masks()
    lines = _record().read_bytes().splitlines(keepends=True)
    _record().write_bytes(b"".join([*lines[:2], b"\0\xff\n", *lines[3:]]))
    code, out, err = run(*SAVED)
    assert code == 0 and out.startswith("1 of 4") and "3 finished before" in out and masks() == whole
    assert "1 line(s) of the records are passed over, and their images made again" in err


@pytest.mark.parametrize("format", ["png", "tar"])
@pytest.mark.parametrize("damage", ["no records", "cut", "no header", "half a header"])
def test_rows_come_back_from_masks(run: Run, cli: CommandLine, damage: str, format: str) -> None:
    """The rows are those of before, but for their time; the next start makes nothing."""
    tar = ("--out-format", format, "--tar-size", "2")
    assert run(*SAVED, *tar, out="t").code == 0
    before = _rows("t")
    record, whole = _record("t"), files("t")
    lines = record.read_bytes().splitlines(keepends=True)
    if damage == "no records":
        shutil.rmtree("t/records")
    else:
        cut = {"cut": b"".join(lines[:2])[:-9], "no header": b"".join(lines[1:])}
        record.write_bytes(cut.get(damage, b"".join(lines)[40:]))
    assert cli("repair", "t", "--dry-run").code == 0 and files("t") == whole
    code, out, err = cli("repair", "t")
    assert code == 0 and "4 row(s) written again for masks that had none" in out and not err
    assert _rows("t") == before and files("t") == whole
    repaired = _everything("t")
    assert cli("repair", "t")[:2] == (0, "") and _everything("t") == repaired
    code, out, _ = run(*SAVED, *tar, out="t")
    assert code == 0 and "4 finished before" in out and files("t") == whole


def _rows(folder: str) -> list[tuple[object, ...]]:
    with Store.open(folder) as store:
        return [
            (row.id, row.labels, row.size, row.checksum, row.saved, row.shard, row.missing, row.foreground)
            for row in store.rows("ok")
        ]


@pytest.mark.parametrize("source", ["gone", "shrunk"])
def test_labels_come_from_the_maps_where_the_source_cannot_be_read(run: Run, source: str) -> None:
    labels = _labels()
    _lose_source(source)
    shutil.rmtree("m/records")
    assert not repair_run("m").left and _labels() == labels


@pytest.mark.parametrize("source", ["gone", "shrunk"])
def test_a_mask_whose_labels_nothing_tells_gets_no_row(run: Run, source: str) -> None:
    assert run(out="p").code == 0
    record = _record("p").read_bytes()
    _lose_source(source)
    shutil.rmtree("p/records")
    report = repair_run("p")
    assert report.left_count == (4 if source == "gone" else 1)
    assert "000: it has no row, and its mask gets none: nothing tells its labels" in report.left[0]
    Path("p/records/20260101T000000.000000-00000000-1-00000000.jsonl").write_bytes(record[20:])
    assert not repair_run("p").left  # the rows of a record without its header tell them


def _lose_source(how: str) -> None:
    if how == "gone":
        shutil.rmtree("photos")
    else:
        Path("photos/000.png").unlink()


def test_what_cannot_be_vouched_for_is_named(run: Run, cli: CommandLine) -> None:
    with Store.open("m") as store:
        names = store.class_names
    shutil.rmtree("m/records")
    whole = masks()
    Path("m/000.png").write_bytes(whole["000.png"][:60])
    Path("m/001.png").write_bytes(mask_png(np.ones((40, 56), np.uint8), len(names), "clipes run"))
    Path("m/confidence/002.png").write_bytes(b"")
    Path("m/003.png").write_bytes(b"")
    Image.new("P", (56, 40)).save("m/foreign.png")
    foreign = Path("m/foreign.png").read_bytes()
    Path("m/other.png").write_bytes(b"no picture")
    code, _, err = cli("repair", "m")
    assert code == 3 and Path("m/foreign.png").read_bytes() == foreign
    said = err.splitlines()
    assert said[0] == "1 PNG file(s) that no run wrote stay as they are" and len(said) == 6
    for line, name, why in zip(
        said[1:5],
        ("000", "001", "002", "003"),
        (
            "m/000.png: ",
            "it shows 'apple', which is no label of its image",
            "m/confidence/002.png: ",
            "m/003.png is empty",
        ),
        strict=True,
    ):
        assert line.startswith(f"{name}: it has no row, and its mask gets none: ") and why in line
        assert line.endswith("start `clipes generate` again, which makes it")
    assert said[5].startswith("other: ") and said[5].endswith(
        " not a PNG file; move the file away, and start `clipes gener" + "ate` again, which makes it"
    )
    Path("m/other.png").unlink()
    assert run(*SAVED).code == 0
    assert masks() == {**whole, "foreign.png": foreign}
    assert cli("repair", "m").code == 0


def test_masks_with_a_row_that_are_not_there_any_more_are_named(run: Run, cli: CommandLine) -> None:
    whole = files()
    Path("m/000.png").unlink()
    Path("m/cams/001.npz").write_bytes(b"")
    code, _, err = cli("repair", "m")
    assert code == 3 and [line.partition(":")[0] for line in err.splitlines()] == ["m", "m/000.png", "m/cams/001.npz"]
    assert run(*SAVED).code == 0 and files() == whole and cli("repair", "m").code == 0


def test_the_table_of_classes_comes_back(run: Run, cli: CommandLine) -> None:
    path, whole = Path("m/classes.json"), Path("m/classes.json").read_bytes()
    for damaged in (None, b"", b'{"0": "background", "1": "other"}', bytes(50), b"[" * 100_000):
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        assert cli("repair", "m").code == 0 and path.read_bytes() == whole
    assert cli("repair", "m")[:2] == (0, "")


def test_a_stopped_finalize_stays_one(run: Run, cli: CommandLine) -> None:
    """Whether its mark was in run.json or follows from the records; no mask gets a row that may be false."""
    with Store.open("m") as store:
        digest = store.digest
    with Recorder("m", {"settings": "other"}) as recorder:
        recorder.add(Row("000", "ok"))
    Path("m/run.json").unlink()
    code, _, err = cli("repair", "m")
    assert code == 3 and "m: finalize was stopped: some masks are of other settings" in err
    assert read_manifest("m")["mixed"] and read_manifest("m")["digest"] == digest
    repaired = _everything()
    assert cli("repair", "m")[:2] == (3, "") and _everything() == repaired
    for record in read_records("m"):
        record.path.unlink()
    code, out, err = cli("repair", "m")
    assert code == 3 and "written again for" not in out and err.count("it may be of other settings") == 4


def test_masks_of_other_settings_get_no_row(run: Run) -> None:
    with Store.open("m") as store:
        rows = list(store.rows("ok"))
    _record().unlink()
    with Recorder("m", {"settings": "other"}) as recorder:
        recorder.add(*rows[:1])
    report = repair_run("m")
    assert (
        report.left_count == 1
        and "000: it has no row, and its mask gets none: it is of other settings" in report.left[0]
    )
    assert sorted(_labels()) == ["001", "002", "003"]


def test_nobody_else_writes_meanwhile(run: Run) -> None:
    digest = read_manifest("m")["digest"]
    with take_lease(Path("m"), digest), pytest.raises(FolderInUse, match=r"clipes generate .* writes masks there"):
        repair_run("m")
    assert not list(Path("m").glob(".clipes*"))


def test_what_was_set_aside_goes_with_the_run(run: Run, cli: CommandLine) -> None:
    for _ in range(2):
        Path("m/run.json").write_bytes(b"{")
        Path("m/classes.json").write_bytes(b"{")
        with open(min(Path("m/records").glob("*.jsonl")), "ab") as file:
            file.write(b"\0\n")
        assert cli("repair", "m").code == 0
    aside = {path.name for path in Path("m").rglob("*.damaged*")}
    assert {"run.json.damaged", "run.json.damaged-2", "classes.json.damaged-2"} < aside and len(aside) == 6
    clear(Path("m"))
    assert not list(Path("m").iterdir())


def test_what_the_digest_does_not_cover_is_left_to_the_reader(run: Run, cli: CommandLine) -> None:
    """Neither a start nor a repair writes over the copy, which may be the right one."""
    path, whole = Path("m/run.json"), Path("m/run.json").read_bytes()
    path.write_bytes(whole.replace(b"photos", b"photoz"))
    assert run(*SAVED).code == 0 and cli("status", "m").code == 0
    code, out, err = cli("repair", "m")
    assert code == 0 and not out and "m/run.json and m/records/run.json differ beside the settings" in err
    assert Path("m/records/run.json").read_bytes() == whole != path.read_bytes()
    path.write_text(json.dumps({**json.loads(whole), "mixed": "finalize was stopped"}))
    assert "m/records/run.json: written, a copy of m/run.json" in cli("repair", "m").out


def _damage(path: Path, chance: random.Random) -> None:
    """Cut a file, take a piece out of it, or overwrite one with NULs or random bytes."""
    data = path.read_bytes()
    start, end = sorted(chance.sample(range(len(data) + 1), 2))
    pieces = {
        "cut": data[:start],
        "taken out": data[:start] + data[end:],
        "NULs": data[:start] + bytes(end - start) + data[end:],
        "random": data[:start] + chance.randbytes(min(end - start, 40)) + data[min(end, start + 40) :],
    }
    path.write_bytes(pieces[chance.choice(list(pieces))])


@pytest.mark.slow
def test_fifty_random_damages(run: Run, cli: CommandLine) -> None:
    """After a repair and a start the files are those of an undisturbed run; some only when another cure is
    obeyed, which the repair has told. A second repair finds the folder whole.
    """
    draw(12)
    shutil.rmtree("m")
    assert run("--save-confidence").code == 0
    whole, chance, named = files(), random.Random(17), set()
    settings = Path("m/run.json").read_bytes()
    for turn in range(50):
        shutil.rmtree("again", ignore_errors=True)
        shutil.copytree("m", "again")
        places = [Path("again/run.json"), _record("again"), *sorted(Path("again").glob("*.png"))]
        for path in chance.sample(places[:2], chance.choice((1, 2))) + chance.sample(places[2:], turn % 3):
            _damage(path, chance)
        code, _, err = cli("repair", "again")
        assert code == 0 or (code == 3 and "start `clipes generate` again, which makes it" in err), err
        if "differ beside the settings" in err:  # nothing says which is right; the settings are
            assert Path("again/records/run.json").read_bytes() == settings
            shutil.copy("again/records/run.json", "again/run.json")
        assert Path("again/run.json").read_bytes() == settings
        for path in re.findall(r"(again/\S+\.png): .*; move the file away, and start", err):
            Path(path).unlink()
            named.add(path)
        code, _, err = run("--save-confidence", out="again")
        made = {name: data for name, data in files("again").items() if ".damaged" not in name}
        assert code == 0 and made == whole, (turn, err)
        assert cli("repair", "again")[:2] == (0, ""), turn
    assert named
