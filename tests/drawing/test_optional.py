"""clipes.drawing.optional: matplotlib is imported whatever a notebook has set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("matplotlib", reason="matplotlib, the extra `plot`, is not installed")

READ = """
import os, sys
from clipes.drawing.optional import require_matplotlib
require_matplotlib()
import matplotlib
print(os.environ.get("MPLBACKEND"), matplotlib.rcParams._get("backend"))
"""
"""Asking rcParams itself would choose a backend."""


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "inline", "none of that name", ""])
def test_a_notebooks_backend_does_not_stop_a_figure(backend: str, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "grey").save(tmp_path / "a.png")
    command = [sys.executable, "-m", "clipes", "show", "a.png", "--labels", "cat"]
    environment = {**os.environ, "MPLBACKEND": backend}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "model: tiny, a toy for drawings\n")
    assert Image.open(tmp_path / "a-clipes.png").width > 1000


@pytest.mark.parametrize(("backend", "expected"), [("pdf", "pdf pdf"), (None, "None <object"), ("", " <object")])
def test_a_backend_that_is_there_is_set_as_matplotlib_would(backend: str | None, expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    environment |= {} if backend is None else {"MPLBACKEND": backend}
    done = subprocess.run([sys.executable, "-c", READ], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith(expected), done.stderr
