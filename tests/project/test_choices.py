"""benchmarks/choices.py and benchmarks/ablation.py: their smallest settings."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "smallest", "cells", "rows"), [("choices", ["--smoke"], 1, 82), ("ablation", ["--count", "2"], 2, 17)]
)
def test_the_smallest_setting(
    name: str, smallest: list[str], cells: int, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *smallest, "--out", str(tmp_path / f"{name}.md")])
    try:
        runpy.run_path(str(ROOT / "benchmarks" / f"{name}.py"), run_name="__main__")
    finally:
        sys.modules.pop("environment", None)
    written, committed = (
        (folder / f"{name}.md").read_text(encoding="utf-8") for folder in (tmp_path, ROOT / "benchmarks")
    )

    def names(text: str) -> list[list[str]]:
        return [line.split("|")[1 : 1 + cells] for line in text.splitlines() if line.startswith("| ")]

    assert names(written) == names(committed) and len(names(written)) > rows
    assert "--count 2`" in written and "--count 500`" in committed
