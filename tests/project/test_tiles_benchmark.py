"""benchmarks/tiles.py: its smallest setting."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory as Linux says it")
def test_the_smallest_setting(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "docs").mkdir()
    command = [sys.executable, str(ROOT / "benchmarks" / "tiles.py"), "--smoke", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT / "benchmarks")
    written, committed = (
        (folder / "benchmarks" / "tiles.md").read_text(encoding="utf-8") for folder in (tmp_path, ROOT)
    )
    for title in ("# Memory of a large picture: ", "# Masks with and without tiles"):
        assert title in written and title in committed
    assert "| tiles 112/112 | CRF |" in written and "| tiles 448/448 | none |" in committed
    assert "| tiles 224/224 | 125 x 188 |" in written and "| tiles 224/224 | 125 x 188 |" in committed
    assert Image.open(tmp_path / "docs" / "tiles.jpg").width == Image.open(ROOT / "docs" / "tiles.jpg").width
