"""The pages of `clipes tag`: which images they show, what they say of each, and that they need nothing beside them."""

from __future__ import annotations

import os
import re
import tarfile
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipes.config import FixedRuleConfig, RelativeRuleConfig
from clipes.io.images import TarMember
from clipes.report import score_charts, tag_page
from clipes.report.doubt_page import Doubt, write_doubt_page
from clipes.report.lowest import Lowest
from clipes.report.score_charts import ScoreCounts
from clipes.report.tag_page import TagPage
from clipes.tags.doubts import ScoredLabel

NAMES = ("cat", "dog", "<b>bus")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for index in range(6):
        Image.new("RGB", (60, 40), (40 * index, 90, 120)).save(tmp_path / "photos" / f"{index} #.png")
    return tmp_path / "photos"


def names_of(html: str, part: str) -> list[str]:
    """The images of a section's cards, in order."""
    section = html.partition(f'<section id="{part}"')[2].partition("</section>")[0]
    return [unescape(name) for name in re.findall(r"<b>([^<]*)</b>", section)]


def test_images_near_their_threshold_come_first(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tag_page, "PICTURES", 3)
    page = TagPage(NAMES, FixedRuleConfig(0.5))
    scores = [[0.9, 0.1, 0.1], [0.49, 0.7, 0.1], [0.2, 0.1, 0.52], [0.3, 0.2, 0.1], [0.1, 0.1, 0.2], [0.8, 0.6, 0.3]]
    for index, row in enumerate(scores):
        page.add(f"{index}.png", photos / f"{index} #.png", row)
    page.add_known()
    page.write(tmp_path / "tags.csv.html", "tags.csv", "6 images · <i>x")
    html = (tmp_path / "tags.csv.html").read_text(encoding="utf-8")
    assert names_of(html, "pictures") == ["1.png", "2.png", "5.png"]
    assert names_of(html, "nothing") == ["3.png", "4.png"]
    assert "2 of 6 images have a score within a tenth of its threshold" in html
    figures = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", html))
    assert figures["images tagged"] == "6" and figures["with known labels"] == "1"
    assert figures["near a threshold"] == figures["with nothing of the list"] == "2"
    assert figures["classes found"] == "3 of 3" and figures["labels per image"] == "0.83"
    assert html.count("data:image/jpeg;base64,") == 5 and not re.search(r"https?://|<script|url\(", html)
    assert "&lt;b&gt;bus" in html and "<b>bus" not in html and "&lt;i&gt;x" in html
    assert 'href="photos/1%20%23.png"' in html and (tmp_path / "photos/1 #.png").is_file()
    assert html.count("<figure>") == 3 and "The dashed line is the threshold." in html


def test_pictures_that_cannot_be_linked_or_read(photos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(photos / "0 #.png", "a.png")
    with tarfile.open(tmp_path / "a.tar") as tar:
        member = tar.getmember("a.png")
    page = TagPage(NAMES, RelativeRuleConfig())
    page.add("a.png", TarMember(tmp_path / "a.tar", "a.png", member.offset_data, member.size), [0.7, 0.1, 0.2])
    page.add("b.png", photos / "gone.png", [0.5, 0.1, 0.24])
    page.write(tmp_path / "t.html", "t", "")
    html = (tmp_path / "t.html").read_text()
    assert html.count("data:image/jpeg;base64,") == 1 and 'href="photos' not in html
    assert re.search(r'class="why">[^<]*gone\.png', html)
    assert "its median where it differs by image" in html


def test_a_page_of_known_labels_alone(tmp_path: Path) -> None:
    page = TagPage(NAMES, FixedRuleConfig(0.5))
    page.add_known()
    page.write(tmp_path / "t.html", "t", "")
    html = (tmp_path / "t.html").read_text()
    assert "<figure>" not in html and "<dt>images tagged</dt><dd>0</dd>" in html


def test_scores_are_counted_where_they_are() -> None:
    counts, random = ScoreCounts(2), np.random.default_rng(0)
    scores = random.random((500, 2)) * [1, 0.3]
    for row in scores:
        counts.add(row, np.full(2, 0.25), row > 0.25, np.abs(row - 0.25) < 0.025)
    assert counts.labelled.tolist() == (scores > 0.25).sum(0).tolist() and counts.images == 500
    assert counts.threshold(0) == pytest.approx((0.2505,) * 3) and counts.top == 1
    assert counts.near.tolist() == (np.abs(scores - 0.25) < 0.025).sum(0).tolist()
    bars = "".join(score_charts._bars(counts, 1))
    told = [(int(every), int(some)) for every, some in re.findall(r": (\d+) images, (\d+) with", bars)]
    assert tuple(map(sum, zip(*told, strict=True))) == (500, int((scores[:, 1] > 0.25).sum()))


def test_many_classes_have_a_short_page(photos: Path, tmp_path: Path) -> None:
    names = [f"class {index}" for index in range(1000)]
    page = TagPage(names, RelativeRuleConfig())
    for index in range(6):
        page.add(f"{index}.png", photos / f"{index} #.png", np.random.default_rng(index).random(1000))
    page.write(tmp_path / "t.html", "t", "")
    html = (tmp_path / "t.html").read_text()
    assert html.count("<figure>") == score_charts.CHARTS and "960 more classes" in html and len(html) < 2**20


def test_doubts_show_given_and_missing_labels(photos: Path, tmp_path: Path) -> None:
    doubts = [
        Doubt(
            f"{index}.png",
            photos / f"{index} #.png",
            0.4 - index / 10,
            ("cat", "dog"),
            {"cat": ScoredLabel(0.1, 0.5)},
            {"<b>bus": ScoredLabel(0.9, 0.5)} if index else {},
        )
        for index in range(2)
    ]
    write_doubt_page(tmp_path / "d.csv.html", "d.csv", "about", doubts, 8)
    html = (tmp_path / "d.csv.html").read_text()
    assert names_of(html, "pictures") == ["0.png", "1.png"]
    assert html.count("<em>given</em>") == 2 and html.count("<em>missing</em>") == 1
    assert html.count('class="chip">dog<') == 2 and 'class="chip">cat<' not in html
    figures = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", html))
    assert figures == {
        "images compared": "8", "that disagree": "2", "share": "25%", "labels in doubt": "2", "labels suggested": "1",
    }  # fmt: skip
    assert "<b>bus" not in html and not re.search(r"https?://|<script|url\(", html)
    none = Doubt("0.png", photos / "0 #.png", 0.0, (), {}, {"cat": ScoredLabel(0.0, 0.0)})
    write_doubt_page(tmp_path / "zero.html", "d.csv", "about", [none], 1)
    assert "width: 0.0%" in (tmp_path / "zero.html").read_text()
    write_doubt_page(tmp_path / "none.html", "d.csv", "about", [], 8)
    assert "The scores agree with all given labels." in (tmp_path / "none.html").read_text()


def test_names_that_are_no_utf8(photos: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (photos / "0 #.png").rename(photos / name)
    page = TagPage(NAMES, FixedRuleConfig(0.5))
    page.add(name, photos / name, [0.5, 0.1, 0.2])
    page.write(tmp_path / "t.html", "t", "")
    html = (tmp_path / "t.html").read_text()
    assert "<b>caf?.png</b>" in html and 'href="photos/caf%E9.png"' in html and "data:image/jpeg" in html


def test_the_lowest_are_kept_and_only_they_are_made() -> None:
    made: list[int] = []
    lowest: Lowest[int] = Lowest(3)
    for index, order in enumerate([5.0, 1.0, 3.0, 1.0, 9.0, 0.5]):
        lowest.offer(order, lambda index=index: made.append(index) or index)  # type: ignore[misc, func-returns-value]
    assert lowest.lowest_first() == [5, 1, 3] and 4 not in made
