"""clipes.runs.run: what is left to do, and what a start finds and clears up."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from generating import masks, write_masks

import clipes
from clipes.datasets import Sample
from clipes.ids import class_table
from clipes.runs.outcome import Outcome
from clipes.runs.run import Remaining
from clipes.runs.shards import Shard
from clipes.store.manifest import read_manifest
from clipes.store.output import Output
from clipes.store.record import read_records
from clipes.store.store import Store


def _made(generator, samples: list[Sample], output: Output, **options: object) -> list[str]:
    return [outcome.sample.id for outcome in write_masks(generator, samples, output, **options)]


def test_the_folder_tells_what_was_done(tiny, scenes: list[Sample], tmp_path: Path) -> None:
    out = tmp_path / "m"
    outcomes = list(write_masks(tiny, scenes, Output(out), about={"source": "here"}))
    assert [(one.sample, one.status) for one in outcomes] == [(sample, "ok") for sample in scenes]
    manifest = read_manifest(out)
    assert manifest["source"] == "here" and manifest["machine"] == socket.gethostname()
    assert manifest["versions"]["clipes"] == clipes.__version__ and {"command", "started", "threads"} <= set(manifest)
    wanted = {**tiny.settings, "clipes": clipes.__version__, "class_names": tiny.class_names}
    wanted["output"] = Output(out).settings()
    assert manifest["settings"] == json.loads(json.dumps(wanted, default=list))
    assert json.loads((out / "classes.json").read_text()) == class_table(tiny.class_names)
    (record,) = read_records(out)
    assert record.settings == manifest["digest"] and record.header["shard"] == "0/1"


def test_only_what_is_left_is_made(tiny, scenes: list[Sample], tmp_path: Path) -> None:
    """A mask that is gone, other labels, and what is saved beside a mask and is gone."""
    output = Output(tmp_path / "m", confidence=True, cams="patch")
    assert _made(tiny, scenes, output) == ["0", "1", "2", "3", "4"]
    before = masks(output.folder)
    assert _made(tiny, scenes, output) == []
    (output.folder / "1.png").unlink()
    (output.folder / "confidence" / "2.png").unlink()
    (output.folder / "cams" / "4.npz").unlink()
    assert _made(tiny, scenes, output) == ["1", "2", "4"] and masks(output.folder) == before
    other = [replace(scenes[0], labels=("cat",)), *scenes[1:]]
    assert _made(tiny, other, output) == ["0"] and _made(tiny, scenes, output) == ["0"]


def test_a_row_has_the_confidence_before_the_crf(tiny, scenes: list[Sample], tmp_path: Path) -> None:
    assert _made(tiny, scenes, Output(tmp_path)) == ["0", "1", "2", "3", "4"]
    (record,) = read_records(tmp_path)
    rows = {row.id: row.confidence for row in record.rows()}
    for sample in scenes:
        sure = tiny(sample.image, sample.labels).mean_confidence
        assert rows[sample.id] == (None if sure is None else pytest.approx(sure, abs=1e-4))
    assert sum(sure is not None for sure in rows.values()) > 2


@pytest.mark.parametrize("format", ["png", "tar"])
def test_a_row_says_how_the_mask_fits_the_labels(tiny, scenes: list[Sample], tmp_path: Path, format: str) -> None:
    everything = replace(scenes[0], labels=tuple(tiny.class_names))
    outcomes = list(write_masks(tiny, [everything, *scenes[1:]], Output(tmp_path / "m", format=format)))
    with Store.open(tmp_path / "m") as run:
        rows = {row.id: row for row in run.rows("ok")}
        for outcome in outcomes:
            sample, row = outcome.sample, rows[outcome.sample.id]
            result = tiny(sample.image, sample.labels)
            assert row.missing == result.missing_labels and outcome.suspect == row.suspect
            assert row.foreground == pytest.approx(result.foreground_share, abs=1e-6)
        assert rows["0"].missing and [row.id for row in run.latest.suspects()] == [
            name for name, row in rows.items() if row.suspect
        ]


def test_what_failed_is_tried_again(tiny, scenes: list[Sample], tmp_path: Path) -> None:
    path = Path(str(scenes[2].image))
    data = path.read_bytes()
    path.write_bytes(b"")
    assert [one.status for one in write_masks(tiny, scenes, Output(tmp_path / "m"))].count("failed") == 1
    path.write_bytes(data)
    assert list(write_masks(tiny, scenes, Output(tmp_path / "m"))) == [Outcome(scenes[2], "ok")]


def test_shards_are_parts_and_together_all(tiny, scenes: list[Sample], tmp_path: Path) -> None:
    parts = [_made(tiny, scenes, Output(tmp_path / "m"), shard=Shard(index, 3)) for index in range(3)]
    assert sorted(name for part in parts for name in part) == ["0", "1", "2", "3", "4"]
    assert all(Shard(index, 3).holds(name) for index, part in enumerate(parts) for name in part)
    assert _made(tiny, scenes, Output(tmp_path / "m")) == []


def test_a_stop_ends_the_search_for_what_is_left(tiny, scenes: list[Sample], tmp_path: Path) -> None:
    list(write_masks(tiny, scenes, Output(tmp_path / "m")))
    with clipes.open_run(tmp_path / "m") as store:
        remaining = Remaining(scenes, store, Output(tmp_path / "m"), stop=lambda: remaining.finished == 2)
        assert list(remaining) == [] and remaining.finished == 2


def test_other_settings_are_refused(scenes: list[Sample], tiny, tmp_path: Path) -> None:
    list(write_masks(tiny, scenes[:1], Output(tmp_path / "m")))
    scenes_config = clipes.config.SCENES
    other = clipes.load(config=replace(scenes_config, mask=replace(scenes_config.mask, background_power=3)))
    with pytest.raises(
        ValueError, match=r"other settings \(config\.mask\.confidence\.background_power: 2 → 3\); choose another"
    ):
        list(write_masks(other, scenes, Output(tmp_path / "m")))
    with pytest.raises(ValueError, match=r"output\.confidence: false → true"):
        list(write_masks(tiny, scenes, Output(tmp_path / "m", confidence=True)))
    assert len(masks(tmp_path / "m")) == 1


def test_a_shard_without_rows_is_removed_and_its_images_are_made_again(
    tiny, scenes: list[Sample], tmp_path: Path
) -> None:
    """Its process was killed after it was named. Not while that process lives, nor a foreign file, nor those of a
    record that was lost or cut: a process leaves one.
    """
    output = Output(tmp_path / "m", format="tar", tar_size=2)
    _made(tiny, scenes, output)
    (record,) = (output.folder / "records").glob("*.jsonl")
    lines = record.read_text().splitlines(keepends=True)
    record.write_text("".join(lines[:3]))  # the first shard's rows
    (output.folder / "masks-mine.tar").touch()
    first, second, third = sorted(path.name for path in output.folder.glob("masks-2*.tar"))
    assert _made(tiny, scenes, output) == ["2", "3", "4"]
    names = {path.name for path in output.folder.glob("*.tar")}
    assert {first, second, third, "masks-mine.tar"} < names, "this process lives"
    dead = record.with_name(record.name.replace(f"-{os.getpid()}-", f"-{2**22 + 5}-"))
    left = [output.folder / f"masks-{dead.stem}-{number:06}.tar" for number in range(2)]
    for path in left:
        path.touch()
    for lost in (True, False):  # the record; then it is there, but has lost the rows of two
        assert _made(tiny, scenes, output) == [] and all(path.exists() for path in left)
        if lost:
            dead.write_text(lines[0])
    left[0].unlink()
    assert _made(tiny, scenes, output) == []
    assert {path.name for path in output.folder.glob("*.tar")} == names


def test_a_run_that_is_left_alone_half_way(tiny, scenes: list[Sample], tmp_path: Path) -> None:
    outcomes = write_masks(tiny, iter(scenes), Output(tmp_path / "m"), readers=1)
    next(outcomes)
    outcomes.close()
    made = set(masks(tmp_path / "m"))
    rows = {f"{row.id}.png" for record in read_records(tmp_path / "m") for row in record.rows()}
    assert rows == made and 1 <= len(made) < 5
    assert len(_made(tiny, scenes, Output(tmp_path / "m"))) == 5 - len(made)
