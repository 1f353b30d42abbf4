"""Every script of benchmarks/ can be started, and runs at its smallest setting."""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(file.name for file in BENCHMARKS.glob("*.py") if "__main__" in file.read_text(encoding="utf-8"))
EXTRAS = {"matplotlib", "pycocotools", "pydensecrf", "ray", "skimage"}
"""Packages that a script may need beside those of an ordinary installation."""

RUN_ELSEWHERE = {
    f"{name}.py" for name in ("ablation", "choices", "kills", "load", "members", "reliability", "tags", "tiles")
}
"""Scripts whose smallest setting is run, and whose page is read, by a test of their own."""


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(BENCHMARKS):
            del sys.modules[name]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_says_what_it_does(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    try:
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
    except ModuleNotFoundError as missing:
        if missing.name not in EXTRAS:
            raise
        pytest.skip(f"{missing.name} is not installed")
    shown = capsys.readouterr().out
    assert end.value.code == 0 and "usage:" in shown and "--smoke" in shown


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="several measure memory as Linux says it")
@pytest.mark.parametrize("script", sorted({*SCRIPTS} - RUN_ELSEWHERE))
def test_the_smallest_setting(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends well, and what it writes is thrown away."""
    before, affinity = _written(), os.sched_getaffinity(0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("CLIPES_CACHE", str(tmp_path / "cache"))  # a script may set it, too
    monkeypatch.setattr(sys, "argv", [script, "--smoke"])
    try:
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
    except ModuleNotFoundError as missing:
        if missing.name not in EXTRAS:
            raise
        pytest.skip(f"{missing.name} is not installed")
    finally:
        os.sched_setaffinity(0, affinity)
    assert _written() == before


def _written() -> dict[Path, tuple[int, int]]:
    """Size and time of all that scripts write."""
    files = [file for folder in (BENCHMARKS, BENCHMARKS.parent / "docs") for file in folder.rglob("*")]
    return {file: (file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.suffix not in ("", ".pyc")}
