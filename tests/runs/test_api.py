"""A data set in one call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import clipes
from clipes.generator import MaskGenerator
from clipes.runs.api import run_plan
from clipes.runs.outcome import Outcome
from clipes.runs.plan import Faults, LocalEngine, ModelChoice, Placement, Plan, VocabularyChoice, read_plan
from clipes.runs.shards import Shard
from clipes.store.output import Output


def test_counts_and_reasons(tiny: MaskGenerator, photos: Path, tmp_path: Path) -> None:
    (photos / "b.png").write_bytes(b"no image")
    seen: list[Outcome] = []
    status = clipes.run(
        photos, tmp_path / "m", tmp_path / "labels.csv", generator=tiny, confidence=True, progress=seen.append
    )
    assert (status.total, status.ok, status.failed, status.left) == (3, 2, 1, 0)
    assert "not a JPEG" in status.reasons[0].text and sorted(one.sample.id for one in seen) == ["a", "b", "sub/c"]
    assert (tmp_path / "m/confidence/a.png").exists()
    again = clipes.run(photos, tmp_path / "m", tmp_path / "labels.csv", generator=tiny, confidence=True)
    assert again.ok == 2
    with pytest.raises(ValueError, match="other settings"):
        clipes.run(photos, tmp_path / "m", tmp_path / "labels.csv", generator=tiny)


def test_the_masks_of_a_call(tiny: MaskGenerator, photos: Path, tmp_path: Path) -> None:
    clipes.run(photos / "a.jpg", tmp_path / "m", ["cat", "tree"], generator=tiny)
    tiny(photos / "a.jpg", ["cat", "tree"]).save(tmp_path / "a.png")
    run = clipes.open_run(tmp_path / "m")
    (row,) = run.rows()
    result = tiny(photos / "a.jpg", ["cat", "tree"])
    assert row.labels == ("cat", "tree") and (run.mask(row) == result.mask).all()


def test_strict_and_a_shard(tiny: MaskGenerator, photos: Path, tmp_path: Path) -> None:
    for path in photos.rglob("*.*"):
        path.write_bytes(b"no image")
    faults, labels = Faults(strict=True), tmp_path / "labels.csv"
    assert clipes.run(photos, tmp_path / "m", labels, generator=tiny, faults=faults).failed < 3
    parts = [
        clipes.run(photos, tmp_path / "n", labels, generator=tiny, placement=Placement(shard=Shard(index, 2)))
        for index in range(2)
    ]
    assert parts[-1].failed == 3 and parts[0].failed < 3


def test_a_plan_is_run_and_kept(photos: Path, tmp_path: Path) -> None:
    plan = Plan(str(photos), Output(tmp_path / "m"), labels=str(tmp_path / "labels.csv"), config=clipes.config.SCENES)
    assert run_plan(plan).ok == 3
    assert read_plan(tmp_path / "m") == plan


def test_what_cannot_be_run(tiny: MaskGenerator, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a generator works in this process"):
        clipes.run(photos, tmp_path / "m", ["cat"], generator=tiny, placement=Placement(LocalEngine(("cpu", "cpu"))))
    auto = Plan(str(photos), Output(tmp_path / "m"), labels=("cat",), vocabulary=VocabularyChoice(background="auto"))
    with pytest.raises(ValueError, match="choose the words first"):
        run_plan(auto)
    with pytest.raises(ValueError, match="the plan has no vocabulary"):
        run_plan(Plan(str(photos), Output(tmp_path / "m"), model=ModelChoice(), vocabulary=None))
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_a_script_without_a_main_guard(photos: Path, tmp_path: Path) -> None:
    """Its processes are spawned, run it again, and end at once; the masks are all made, and no run is begun twice."""
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, clipes\n"
        "from clipes.runs.plan import Placement\n"
        "multiprocessing.set_start_method('spawn', force=True)\n"
        "print(clipes.run('photos', 'out', ['cat'], placement=Placement(readers=2)).ok)\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout == "3\n", done.stderr
    assert "RuntimeError: this process was started to read or to count, and would start over: put what" in done.stderr
    assert "images are read by this process alone" in done.stderr
    assert len(list((tmp_path / "out/records").glob("*.jsonl"))) == 1
