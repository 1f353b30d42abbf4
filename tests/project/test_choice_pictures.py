"""benchmarks/choice_pictures.py and members.py: their smallest settings, what is counted, the pictures of the pages."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGES = {
    "maps": ("maps", "members"),
    "affinities": ("affinities",),
    "decisions": ("decisions",),
    "regions": ("regions",),
}


@pytest.fixture
def members(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import members

    yield members
    for name in ("members", "choice_pictures", "environment"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("page", PAGES)
def test_pictures_of_a_page_are_small_and_shown(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    for name in PAGES[page]:
        path = ROOT / "docs" / "choices" / f"{name}.jpg"
        assert f"](choices/{name}.jpg)" in text and path.stat().st_size < 200_000
        with Image.open(path) as picture:
            assert picture.width > 800


def test_regions_of_a_truth(members: Any) -> None:
    truth = np.zeros((11, 20), np.uint8)
    truth[:, 10:] = 3
    region = members.region_of(truth)
    assert (region == np.repeat([2, 1, 0], [7, 6, 7])).all(), "within 3 pixels of the boundary, on either side"
    assert (members.region_of(np.full((5, 5), 3)) == 0).all()


def test_what_is_counted(members: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four pixels of background: no member right; gradcam; gradcam and patch-text; all. The committee: not the last."""
    truth, rows = (
        np.zeros((1, 4), np.uint8),
        np.array([[1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]], np.uint8),
    )
    result = [type("Result", (), {"mask": row[None]}) for row in rows]
    monkeypatch.setattr(members, "results", lambda scenes: iter([result]))
    counts = members.count([type("Scene", (), {"mask": truth})])
    assert counts.sum() == 4 and counts[2, 0, 1] == counts[2, 1, 1] == counts[2, 5, 1] == counts[2, 7, 0] == 1
    right = {line.split("|")[1].strip(): line.split("|")[-2].strip() for line in members.table_of_right(counts)}
    assert (right["gradcam"], right["dense"], right["patch-text"]) == ("75.0%", "25.0%", "50.0%")
    assert (right["at least two members"], right["at least one member"], right["committee"]) == (
        "50.0%",
        "75.0%",
        "75.0%",
    )
    votes = [line.split("|")[2:-1] for line in members.table_of_votes(counts)[2:]]
    assert [[float(cell.strip(" %")) for cell in row] for row in votes] == [[33.3, 33.3, 33.3, 0], [0, 0, 0, 100]]
    shares = {line.split("|")[1].strip(): line.split("|")[-3:-1] for line in members.table_of_patterns(counts)}
    assert [cell.strip() for cell in shares["two"]] == ["25.0%", "100.0%"]
    assert [cell.strip() for cell in shares["all"]] == ["25.0%", "0.0%"]


@pytest.mark.slow
def test_the_smallest_setting_of_members(members: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = ["--out", str(tmp_path / "members.md"), "--picture", str(tmp_path / "members.jpg")]
    monkeypatch.setattr(sys, "argv", ["members.py", "--smoke", *out])
    members.main()
    written, committed = (
        (folder / "members.md").read_text(encoding="utf-8") for folder in (tmp_path, ROOT / "benchmarks")
    )
    frame = [[line.split("|")[1] for line in text.splitlines() if "|" in line] for text in (written, committed)]
    assert frame[0] == frame[1] and "--count 2`" in written
    assert Image.open(tmp_path / "members.jpg").size == Image.open(ROOT / "docs/choices/members.jpg").size


@pytest.mark.slow
def test_the_smallest_setting_of_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    arguments = ["--scenes", "0", "--side", "30", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["choice_pictures.py", *arguments])
    runpy.run_path(str(ROOT / "benchmarks" / "choice_pictures.py"), run_name="__main__")
    for name in PAGES:
        drawn, committed = (Image.open(folder / f"{name}.jpg") for folder in (tmp_path, ROOT / "docs/choices"))
        columns = (drawn.width + 8) / 38
        assert columns == (committed.width + 8) / 158 and columns >= 6
