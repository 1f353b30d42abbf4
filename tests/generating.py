"""`clipes generate` in this process, for tests: what it writes and what it records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clipes.cli import main
from clipes.scenes import draw_scenes
from clipes.store.record import Row, read_records

Run = Callable[..., tuple[int, str, str]]


def runner(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs it over photos/ into m/, unless told otherwise; gives its exit code, what it says, its errors."""

    def run(*arguments: object, source: str = "photos", labels: str = "cat,tree", out: str = "m") -> Any:
        given = ["--labels", labels] if labels else []
        capsys.readouterr()
        code = main(["generate", source, *given, "--out", out, *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def draw(count: int, size: tuple[int, int] = (40, 56)) -> None:
    """Pictures in photos/."""
    for number, scene in enumerate(draw_scenes(count, 3_000_900, size)):
        Image.fromarray(scene.image).save(f"photos/{number:03}.png")


def rows(folder: str = "m") -> dict[str, Row]:
    """The last row of each image."""
    return {row.id: row for record in read_records(folder) for row in record.rows()}


def masks(folder: str = "m") -> dict[str, bytes]:
    """All masks by name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(Path(folder).rglob("*.png"))}


def same_as_clean(run: Run, folder: str = "m") -> bool:
    """Whether the folder has the masks of a run without faults."""
    assert run(out="clean")[0] == 0
    return masks(folder) == masks("clean")
