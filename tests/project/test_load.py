"""benchmarks/load.py and benchmarks/kills.py: their smallest settings, and the page that they write to."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in ("kills", "load", "environment"):
        sys.modules.pop(name, None)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from Linux's /proc")
def test_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["load.py", "--smoke", "--out", str(page)])
    runpy.run_path(str(BENCHMARKS / "load.py"), run_name="__main__")
    written = page.read_text(encoding="utf-8")
    assert written.count("| rows | 300 |") == 2 and "| restart: until the last image is found undone |" in written


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="processes are found in Linux's /proc")
@pytest.mark.parametrize(("way", "kills"), [("processes that read", 5), ("processes of `--devices cpu,cpu`", 1)])
def test_processes_killed_at_random_moments(tmp_path: Path, way: str, kills: int) -> None:
    """SystemExit where a mask is missing, or is not that of an undisturbed run."""
    import kills as benchmark

    ((name, killed, runs, starts, _),) = benchmark.kill_many(tmp_path, 40, {way: kills})
    assert (name, killed) == (way, kills) and starts >= runs >= 1


def test_a_section_replaces_its_own_alone(tmp_path: Path) -> None:
    from environment import write_section

    page = tmp_path / "page.md"
    for title, lines in (("One", ["1", "## part"]), ("Two", ["2"]), ("One", ["3"]), ("Three", ["4"])):
        write_section(page, title, lines)
    assert page.read_text() == "# One\n\n3\n\n# Two\n\n2\n\n# Three\n\n4\n"
