"""benchmarks/choices.py: its smallest setting."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_smallest_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "argv", ["choices.py", "--count", "2", "--out", str(tmp_path / "choices.md")])
    try:
        runpy.run_path(str(ROOT / "benchmarks" / "choices.py"), run_name="__main__")
    finally:
        sys.modules.pop("environment", None)
    written, committed = (
        (folder / "choices.md").read_text(encoding="utf-8") for folder in (tmp_path, ROOT / "benchmarks")
    )

    def names(text: str) -> list[str]:
        return [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]

    assert names(written) == names(committed) and len(names(written)) > 40
    assert "--count 2`" in written and "--count 500`" in committed
