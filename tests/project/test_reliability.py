"""benchmarks/reliability.py: its smallest setting, and its arithmetic."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("matplotlib", reason="matplotlib, the extra `plot`, is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import reliability

    yield reliability
    for name in ("reliability", "environment"):
        sys.modules.pop(name, None)


def test_bins(benchmark: Any) -> None:
    bins = benchmark.Bins()
    bins.add(np.array([0.55, 0.58, 1.0], np.float32), np.array([True, False, True]))
    bins.add(np.array([0.05], np.float32), np.array([False]))
    assert bins.count.tolist() == [1, 0, 0, 0, 0, 2, 0, 0, 0, 1] and bins.right.tolist()[5] == 1
    assert bins.accuracy == 0.5 and bins.mean == pytest.approx(2.18 / 4)
    assert bins.error == pytest.approx((0.05 + (1.13 - 1) + 0) / 4)


def test_the_smallest_setting(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["reliability.py", "--count", "3", "--out", str(tmp_path)])
    runpy.run_path(str(ROOT / "benchmarks" / "reliability.py"), run_name="__main__")
    written = (tmp_path / "benchmarks" / "reliability.md").read_text(encoding="utf-8")
    committed = (ROOT / "benchmarks" / "reliability.md").read_text(encoding="utf-8")

    def frame(text: str) -> list[str]:
        return [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]

    assert frame(written) == frame(committed) and "--count 3`" in written
    assert Image.open(tmp_path / "docs" / "reliability.png").width > 1000


def test_a_model_that_knows_nothing_is_less_confident_before_the_crf() -> None:
    """In the committed table: after the CRF it is as sure as the one that knows."""
    text = (ROOT / "benchmarks" / "reliability.md").read_text(encoding="utf-8")
    rows = {
        cells[1].strip(): [float(cell) for cell in cells[2:5]]
        for line in text.splitlines()
        if line.startswith(("| bundled", "| its weights"))
        for cells in [line.split("|")]
    }
    assert len(rows) == 4
    for model in ("bundled model", "its weights shuffled"):
        before, after = rows[f"{model}, before the CRF"], rows[f"{model}, after the CRF"]
        assert after[0] > 0.95 and before[2] < after[2], "the calibration error falls"
    assert rows["its weights shuffled, before the CRF"][0] < rows["bundled model, before the CRF"][0]
