"""benchmarks/choices.py and regions.py: their smallest settings."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(("script", "count", "least"), [("choices", 500, 40), ("regions", 200, 30)])
def test_the_smallest_setting(
    script: str, count: int, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if script == "regions":
        pytest.importorskip("skimage", reason="scikit-image, the extra `regions`, is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--count", "2", "--out", str(tmp_path / f"{script}.md")])
    try:
        runpy.run_path(str(ROOT / "benchmarks" / f"{script}.py"), run_name="__main__")
    finally:
        sys.modules.pop("environment", None)
    written, committed = (
        (folder / f"{script}.md").read_text(encoding="utf-8") for folder in (tmp_path, ROOT / "benchmarks")
    )

    def names(text: str) -> list[str]:
        return [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]

    assert names(written) == names(committed) and len(names(written)) > least
    assert "--count 2`" in written and f"--count {count}`" in committed
