"""clipes.store.store: the folder of a run, created, opened, and read from files and from .tar files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from generating import draw, runner
from PIL import Image

from clipes.io.masks import write_mask
from clipes.store.manifest import read_manifest
from clipes.store.store import open_run


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
        with pytest.raises(ValueError, match=r"41 x 56 pixels .*, but its record has 40 x 56"):
            store.confidence(first)
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
