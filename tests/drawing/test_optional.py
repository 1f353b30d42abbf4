"""clipes.drawing.optional: matplotlib is imported whatever a notebook has set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("matplotlib", reason="matplotlib, the extra `plot`, is not installed")

DRAW = """
from clipes.drawing.figure import drawing
with drawing("a-clipes.png", (6, 6)) as figure:
    figure.subplots()
"""
READ = """
import os, sys
from clipes.drawing.optional import require_matplotlib
require_matplotlib()
import matplotlib
print(os.environ.get("MPLBACKEND"), matplotlib.rcParams._get("backend"))
"""
"""Asking rcParams itself would choose a backend."""


@pytest.mark.parametrize(
    ("backend", "arguments", "said"),
    [
        (
            "module://matplotlib_inline.backend_inline",
            ["-m", "clipes", "show", "a.png", "--labels", "cat"],
            "model: tiny, a toy for drawings\n",
        ),
        ("inline", ["-c", DRAW], ""),
        ("none of that name", ["-c", DRAW], ""),
        ("", ["-c", DRAW], ""),
    ],
)
def test_a_notebooks_backend_does_not_stop_a_figure(
    backend: str, arguments: list[str], said: str, tmp_path: Path
) -> None:
    """The whole command with a notebook's own; what it draws with, without a model, for the others."""
    Image.new("RGB", (40, 30), "grey").save(tmp_path / "a.png")
    environment = {**os.environ, "MPLBACKEND": backend}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, said)
    assert Image.open(tmp_path / "a-clipes.png").width > 1000


@pytest.mark.parametrize(("backend", "expected"), [("pdf", "pdf pdf"), (None, "None <object"), ("", " <object")])
def test_a_backend_that_is_there_is_set_as_matplotlib_would(backend: str | None, expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    environment |= {} if backend is None else {"MPLBACKEND": backend}
    done = subprocess.run([sys.executable, "-c", READ], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith(expected), done.stderr
