"""clipes.store.store: the folder of a run, created, opened, and read from files and from .tar files."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from generating import draw, runner
from PIL import Image

import clipes
from clipes.ids import read_class_names
from clipes.io.atomic import MACHINE_ID
from clipes.io.masks import write_mask
from clipes.store.manifest import read_manifest
from clipes.store.store import Store, open_run


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    draw(5)
    return runner(capsys)


def _read(folder: str) -> list[tuple[str, tuple[str, ...], bytes, bytes]]:
    with open_run(folder) as store:
        assert len(list(store.rows())) == store.counts()["ok"]
        found = []
        for row in store.rows("ok"):
            confidence = store.confidence(row)
            assert confidence is not None and confidence.shape == row.size
            found.append((row.id, row.labels, store.mask(row).tobytes(), confidence.tobytes()))
        return found


def test_files_and_shards_hold_the_same(run) -> None:
    assert run("--save-confidence")[0] == 0
    assert run("--save-confidence", "--out-format", "tar", "--tar-size", "2", out="t")[0] == 0
    found = _read("m")
    assert [name for name, *_ in found] == ["000", "001", "002", "003", "004"]
    assert _read("t") == found
    for name, labels, mask, confidence in found:
        assert labels == ("cat", "tree")
        assert mask == np.asarray(Image.open(f"m/{name}.png")).tobytes()
        assert confidence == np.asarray(Image.open(f"m/confidence/{name}.png")).tobytes()


def test_what_has_no_mask_is_not_among_them(run) -> None:
    Path("photos/002.png").write_bytes(b"no picture")
    assert run("--max-failure-rate", "0.5")[0] == 0
    with open_run("m") as store:
        assert [row.id for row in store.rows("ok")] == ["000", "001", "003", "004"]
        assert [row.id for row in store.rows("failed")] == ["002"]
        assert store.class_names[:2] == ("apple", "balloon") and store.manifest["source"].endswith("photos")
        assert store.confidence(next(store.rows("ok"))) is None


def test_an_edited_mask_is_taken_as_it_is(run) -> None:
    run()
    edited = np.zeros((40, 56), np.uint8)
    edited[3:9, 5:7] = 255
    edited[20:, :] = 4
    write_mask("m/001.png", edited, 16)
    with open_run("m") as store:
        rows = {row.id: row for row in store.rows("ok")}
        assert np.array_equal(store.mask(rows["001"]), edited)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), r"m.000\.png: no such file"),
        (lambda path: path.write_bytes(b""), r"m.000\.png: not a PNG"),
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), r"m.000\.png"),
        (
            lambda path: write_mask(path, np.zeros((40, 55), np.uint8), 16),
            "40 x 55 pixels .*, but its record has 40 x 56",
        ),
        (lambda path: write_mask(path, np.full((40, 56), 17, np.uint8), 17), "holds 17, but 16 classes allow"),
        (lambda path: Image.new("RGB", (56, 40)).save(path), "holds colours"),
    ],
)
def test_a_mask_that_cannot_be_used(run, spoil, reason: str) -> None:
    run()
    spoil(Path("m/000.png"))
    with open_run("m") as store, pytest.raises(ValueError, match=reason):
        store.mask(next(store.rows("ok")))


def test_a_confidence_that_does_not_fit(run) -> None:
    run("--save-confidence")
    Image.new("L", (56, 41)).save("m/confidence/000.png")
    Path("m/confidence/001.png").unlink()
    with open_run("m") as store:
        first, second, *_ = store.rows("ok")
        with pytest.raises(ValueError, match=r"000\.png has changed since the run wrote it; start the run again"):
            store.confidence(first)
        with pytest.raises(ValueError, match=r"41 x 56 pixels .*, but its record has 40 x 56"):
            store.confidence(replace(first, saved=None))  # a row of before checksums
        with pytest.raises(ValueError, match="no such file"):
            store.confidence(second)


def test_a_shard_that_is_gone_or_ends_too_early(run) -> None:
    run("--out-format", "tar", "--tar-size", "2")
    with open_run("m") as store:
        shards = [str(row.shard) for row in store.rows("ok")]
    Path("m", shards[0]).unlink()
    data = Path("m", shards[2]).read_bytes()
    Path("m", shards[2]).write_bytes(data[: len(data) // 2])
    with open_run("m") as store:
        rows = list(store.rows("ok"))
        with pytest.raises(ValueError, match="no such member; start the run again"):
            store.mask(rows[0])
        with pytest.raises(ValueError, match=r"no such member|too early"):
            store.mask(rows[3])
        assert store.mask(rows[4]).shape == (40, 56)


def test_no_storeand_a_mixed_one(run) -> None:
    with pytest.raises(FileNotFoundError, match=r"photos has no run\.json"):
        open_run("photos")
    run()
    record = read_manifest("m")
    Path("m/run.json").write_text(json.dumps({**record, "mixed": "finalize was stopped"}))
    with pytest.raises(ValueError, match="m: finalize was stopped"):
        open_run("m")


@pytest.mark.parametrize("format", ["png", "tar"])
def test_a_run_opened_from_python(run, format: str) -> None:
    Path("photos/002.png").write_bytes(b"no picture")
    assert run("--save-patch-cams", "--max-failure-rate", "0.5", "--out-format", format)[0] == 0
    store = clipes.open_run("m")
    assert repr(store) == "<run 'm': 16 classes, 1 failed, 4 ok>"
    assert clipes.Config.from_dict(store.config) == clipes.config.SCENES
    assert [row.id for row in store.rows()] == ["000", "001", "002", "003", "004"]
    assert [row.id for row in store.rows("failed")] == ["002"] and list(store.rows("skipped")) == []
    assert store.status().ok == 4 and store.counts() == {"ok": 4, "failed": 1}
    assert np.array_equal(store.mask("001"), store.mask(next(row for row in store.rows("ok") if row.id == "001")))
    cams = store.cams("001")
    assert cams is not None and cams.size == (40, 56) and len(cams.class_ids) == len(cams.patch_cams) == 2
    assert store.confidence("001") is None
    with pytest.raises(ValueError, match="m: the run has no image 'other'"):
        store.mask("other")
    with pytest.raises(ValueError, match="m: '002' has no mask, it has failed: "):
        store.cams("002")
    store.close()


def test_opening_has_no_side_effects(tmp_path: Path) -> None:
    Store.create(tmp_path / "m", {"model": "x"}, ["cat"], {"source": "photos"}).close()
    assert read_class_names(tmp_path / "m", None) == ("cat",)
    leftover = tmp_path / "m" / f".clipes-{MACHINE_ID}-{2**22 + 1}-{'0' * 16}.tmp.png"
    leftover.touch()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "m").iterdir()}
    with Store.open(tmp_path / "m") as store:
        assert store.settings == {"model": "x"} and store.source() == "photos" and store.status().ok == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "m").iterdir()} == before
    with pytest.raises(ValueError, match=r"other settings \(model: \"x\" → \"y\"\)"):
        Store.create(tmp_path / "m", {"model": "y"}, ["cat"], {})
    with Store.create(tmp_path / "m", {"model": "x"}, ["cat"], {}) as store:
        store.remove_stale()
    assert not leftover.exists()


@pytest.mark.parametrize("format", ["png", "tar"])
def test_masks_are_read_in_threads(run, format: str) -> None:
    """One index of the .tar files, built once."""
    assert run("--out-format", format, "--tar-size", "2")[0] == 0
    with open_run("m") as store, ThreadPoolExecutor(8) as pool:
        masks = list(pool.map(store.mask, [f"{number:03}" for number in range(5)] * 8))
    assert all(np.array_equal(mask, masks[index % 5]) for index, mask in enumerate(masks))


@pytest.mark.parametrize("kind", ["confidence", "cams"])
@pytest.mark.parametrize("damage", ["cut", "empty"])
def test_a_damaged_file_beside_a_mask_is_made_again(run, kind: str, damage: str) -> None:
    run("--save-confidence", "--save-cams")
    path = Path("m", kind, "000").with_suffix(".png" if kind == "confidence" else ".npz")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    run("--save-confidence", "--save-cams")
    assert path.read_bytes() == whole


def test_names_come_from_the_record_of_the_run(run) -> None:
    """An edited ``classes.json`` changes none; one of 400 names would make 16-bit masks of an export."""
    run()
    with open_run("m") as store:
        names = store.class_names
    table = json.loads(Path("m/classes.json").read_text())
    swapped = {**table, "1": table["2"], "2": table["1"]}
    for edited in (swapped, {str(index): f"c{index}" for index in range(400)}, {}):
        Path("m/classes.json").write_text(json.dumps(edited))
        with open_run("m") as store:
            assert store.class_names == names
        assert read_class_names(Path("m"), None) == names
    Path("m/classes.json").write_text("[")
    code, _, err = run()
    assert code == 0, err
    assert json.loads(Path("m/classes.json").read_text()) == table  # a start writes it again
