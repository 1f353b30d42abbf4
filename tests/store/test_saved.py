"""clipes.store.saved: the masks of a run, read again one by one, from files and from .tar shards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from generating import draw, runner
from PIL import Image

from clipes.io.masks import write_mask
from clipes.store.manifest import read_manifest
from clipes.store.saved import SavedMasks


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    draw(5)
    return runner(capsys)


def _read(folder: str) -> list[tuple[str, tuple[str, ...], bytes, bytes]]:
    with SavedMasks(folder) as masks:
        assert len(masks) == len(list(masks))
        found = []
        for row in masks:
            confidence = masks.confidence(row)
            assert confidence is not None and confidence.shape == row.size
            found.append((row.id, row.labels, masks.mask(row).tobytes(), confidence.tobytes()))
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
    with SavedMasks("m") as masks:
        assert [row.id for row in masks] == ["000", "001", "003", "004"] and len(masks) == 4
        assert [row.id for row in masks.history.unfinished()] == ["002"]
        assert masks.class_names[:2] == ("apple", "balloon") and masks.manifest["source"].endswith("photos")
        assert masks.confidence(next(iter(masks))) is None


def test_an_edited_mask_is_taken_as_it_is(run) -> None:
    run()
    edited = np.zeros((40, 56), np.uint8)
    edited[3:9, 5:7] = 255
    edited[20:, :] = 4
    write_mask("m/001.png", edited, 16)
    with SavedMasks("m") as masks:
        rows = {row.id: row for row in masks}
        assert np.array_equal(masks.mask(rows["001"]), edited)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), r"m.000\.png: no such file"),
        (lambda path: path.write_bytes(b""), r"m.000\.png: not a PNG"),
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), r"m.000\.png"),
        (lambda path: write_mask(path, np.zeros((40, 55), np.uint8), 16), "40 x 55 pixels, but the run wrote 40 x 56"),
        (lambda path: write_mask(path, np.full((40, 56), 17, np.uint8), 17), "holds 17, but 16 classes allow"),
        (lambda path: Image.new("RGB", (56, 40)).save(path), "holds colours"),
    ],
)
def test_a_mask_that_cannot_be_used(run, spoil, reason: str) -> None:
    run()
    spoil(Path("m/000.png"))
    with SavedMasks("m") as masks, pytest.raises(ValueError, match=reason):
        masks.mask(next(iter(masks)))


def test_a_confidence_that_does_not_fit(run) -> None:
    run("--save-confidence")
    Image.new("L", (56, 41)).save("m/confidence/000.png")
    Path("m/confidence/001.png").unlink()
    with SavedMasks("m") as masks:
        first, second, *_ = masks
        with pytest.raises(ValueError, match="41 x 56 pixels, but the run wrote 40 x 56"):
            masks.confidence(first)
        with pytest.raises(ValueError, match="no such file"):
            masks.confidence(second)


def test_a_shard_that_is_gone_or_ends_too_early(run) -> None:
    run("--out-format", "tar", "--tar-size", "2")
    with SavedMasks("m") as masks:
        shards = [str(row.shard) for row in masks]
    Path("m", shards[0]).unlink()
    data = Path("m", shards[2]).read_bytes()
    Path("m", shards[2]).write_bytes(data[: len(data) // 2])
    with SavedMasks("m") as masks:
        rows = list(masks)
        with pytest.raises(ValueError, match="no such member; start the run again"):
            masks.mask(rows[0])
        with pytest.raises(ValueError, match=r"no such member|too early"):
            masks.mask(rows[3])
        assert masks.mask(rows[4]).shape == (40, 56)


def test_no_run_and_a_mixed_one(run) -> None:
    with pytest.raises(FileNotFoundError, match=r"photos has no run\.json"):
        SavedMasks("photos")
    run()
    record = read_manifest("m")
    Path("m/run.json").write_text(json.dumps({**record, "mixed": "finalize was stopped"}))
    with pytest.raises(ValueError, match="m: finalize was stopped"):
        SavedMasks("m")
