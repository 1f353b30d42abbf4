"""One writer of a run's decisions: generate and finalize beside each other never mix masks of two settings."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from generating import files, write_masks

import clipes
from clipes.cli import main
from clipes.config import SCENES, ConfidenceConfig
from clipes.datasets import find_samples
from clipes.runs.finalize import read_run
from clipes.store import lease
from clipes.store.lease import FolderInUse
from clipes.store.output import Output
from clipes.store.store import Store

OTHER = replace(SCENES, mask=ConfidenceConfig(background_power=3, ignore_below=0.99))


@pytest.fixture
def saved(tiny, photos: Path) -> Path:
    output = Output(photos.parent / "m", cams="full")
    samples = find_samples(photos, photos.parent / "labels.csv")
    assert all(outcome.status == "ok" for outcome in write_masks(tiny, samples, output))
    return output.folder


def test_finalize_beside_a_running_generate(tiny, saved: Path, photos: Path, capsys) -> None:
    """It is refused and changes nothing; the same settings in another folder are no conflict."""
    before = files(saved)
    (saved / "b.png").unlink()
    samples = find_samples(photos, photos.parent / "labels.csv")
    running = write_masks(tiny, samples, Output(saved, cams="full"))
    assert next(running).sample.id == "b"
    assert main(["finalize", str(saved), "--background-power", "3", "--refine", "none"]) == 2
    error = capsys.readouterr().err
    assert f"clipes generate (process {os.getpid()} on " in error and "writes masks there; wait until it ends" in error
    with read_run(saved) as run:
        assert list(run.finalize(OTHER, photos, out=saved.parent / "other"))
    assert list(running) == []
    assert files(saved) == before
    with read_run(saved) as run:
        assert len(list(run.finalize(OTHER, photos))) == 3
    assert files(saved)["a.png"] != before["a.png"]


def test_two_finalize_at_once(saved: Path, photos: Path) -> None:
    with read_run(saved) as first, read_run(saved) as second:
        outcomes = first.finalize(OTHER, photos)
        next(outcomes)
        with pytest.raises(FolderInUse, match=r"clipes finalize \(process .* writes masks there"):
            next(second.finalize(replace(SCENES, mask=ConfidenceConfig(background_power=2)), photos))
        with pytest.raises(
            FolderInUse, match=r"clipes finalize \(process .*\) is deciding its masks again; wait until"
        ):
            clipes.open_run(saved)
        assert len(list(outcomes)) == 2
    with clipes.open_run(saved) as run:
        assert run.config == OTHER.to_dict() and run.counts() == {"ok": 3}
        assert second.store.digest != run.digest
        with pytest.raises(ValueError, match="its masks were decided again meanwhile"):
            next(second.finalize(SCENES, photos))
        assert run.manifest.get("mixed") is None


def test_finalize_watches_the_lease_of_a_machine_that_died(saved: Path, photos: Path, monkeypatch) -> None:
    """It beats meanwhile, and run.json does not say yet that masks are mixed."""
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 0.5)
    left = saved / f".clipes-{'0' * 8}-7-{'0' * 16}.lease"
    left.write_text(json.dumps({"host": "node7", "pid": 7, "started": "1", "does": "x", "digest": "x", "alone": False}))
    with read_run(saved) as run:
        assert [outcome.status for outcome in run.finalize(OTHER, photos)] == ["ok"] * 3
    assert not left.exists()


def test_a_run_whose_settings_change_ends_with_an_error(tiny, saved: Path, photos: Path, monkeypatch) -> None:
    """However they did: here the record is exchanged behind the lease's back."""
    monkeypatch.setattr(lease, "BEAT_SECONDS", 3600)
    record = json.loads((saved / "run.json").read_text())

    def exchange(outcome: object) -> None:
        other = {**record, "mixed": "by hand"}
        (saved.parent / "again" / "run.json").write_text(json.dumps(other))

    with pytest.raises(ValueError, match="its masks were decided again meanwhile; start again"):
        clipes.run(photos, saved.parent / "again", labels=photos.parent / "labels.csv", progress=exchange)


def test_a_run_stops_soon_after_its_lease_is_gone(photos: Path, monkeypatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.01)
    out, seen = photos.parent / "again", []

    def remove(outcome: object) -> None:
        for name in os.listdir(out):
            if lease.LEASE_FILE.fullmatch(name):
                (out / name).unlink()
        seen.append(outcome)

    with pytest.raises(FolderInUse, match="was removed while masks were written"):
        clipes.run(photos, out, labels=photos.parent / "labels.csv", progress=remove)
    assert seen
    assert clipes.run(photos, out, labels=photos.parent / "labels.csv").ok == 3


@pytest.mark.parametrize("command", ["status", "generate"])
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_ordinary_file_among_the_records(saved: Path, photos: Path, kind: str, command: str, capsys) -> None:
    """A pipe would be waited for forever."""
    odd = saved / "records" / "20990101T000000.000000-00000000-1-00000000.jsonl"
    os.mkfifo(odd) if kind == "pipe" else odd.mkdir()
    inputs = [str(photos), "--labels", str(photos.parent / "labels.csv"), "--out"] if command == "generate" else []
    assert main([command, *inputs, str(saved), *(["--save-cams"] if inputs else [])]) == 2
    assert f"{odd} is a folder, a pipe or a device, not a record; remove it" in capsys.readouterr().err
    odd.unlink() if kind == "pipe" else odd.rmdir()
    with Store.open(saved) as store:
        assert store.counts() == {"ok": 3}
