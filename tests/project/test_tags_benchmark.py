"""benchmarks/tags.py runs, on a few small scenes, and writes its page and its picture."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, picture = tmp_path / "tags.md", tmp_path / "tags.png"
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    script = str(ROOT / "benchmarks" / "tags.py")
    monkeypatch.setattr(sys, "argv", [script, "--smoke", "--out", str(page), "--picture", str(picture)])
    runpy.run_path(script, run_name="__main__")
    text = page.read_text(encoding="utf-8")
    assert "| TagCLIP (default) | 0." in text and "| the true labels | 0." in text
    assert Image.open(picture).width > 600
