"""benchmarks/regions.py: its smallest settings, and the page that it writes to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_smallest_settings(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="scikit-image, the extra `regions`, is not installed")
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    page = tmp_path / "page.md"
    for more in ([], ["--memory"]) if os.path.exists("/proc/self/status") else ([],):
        command = [sys.executable, str(ROOT / "benchmarks" / "regions.py"), "--smoke", "--out", str(page), *more]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT / "benchmarks")
    written, committed = (path.read_text(encoding="utf-8") for path in (page, ROOT / "benchmarks" / "regions.md"))
    for line in written.splitlines():
        if line.startswith("#"):
            assert line in committed.splitlines(), "the committed page is of this script"
    assert "| truth's own: scope, vote |" in written and ("| run, MB at 100 % |" in written) == bool(more)
