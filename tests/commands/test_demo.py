"""clipes.commands.demo_run: scenes, a run, a report, whatever the bundled model is worth."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clipes
from clipes.commands.demo_run import run_demo
from clipes.config import SCENES, ArgmaxConfig
from clipes.datasets import find_samples
from clipes.evaluation.metrics import confusion_matrix, mean_iou
from clipes.generator import load
from clipes.scenes import THINGS, draw_scenes


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    run_demo(folder, 3)
    return folder


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_writes_a_data_set(demo: Path) -> None:
    names = ["00000", "00001", "00002"]
    assert _names(demo / "images") == [f"{name}.jpg" for name in names]
    assert _names(demo / "truth") == [f"{name}.png" for name in names]
    assert {f"{name}.png" for name in names} < set(_names(demo / "masks"))
    samples = find_samples(demo / "images", demo / "labels.csv")
    for sample, scene in zip(samples, draw_scenes(3), strict=True):
        assert sample.labels == scene.labels
        with Image.open(demo / "truth" / f"{sample.id}.png") as truth:
            assert truth.mode == "P" and np.array_equal(np.asarray(truth), scene.mask)
        with Image.open(sample.image) as image:
            assert np.abs(np.asarray(image, dtype=float) - scene.image).mean() < 4  # JPEG


def test_its_report_is_the_iou_of_its_files(demo: Path) -> None:
    report = json.loads((demo / "demo.json").read_text())
    assert list(report) == ["count", "model", "miou"]
    assert report["count"] == 3 and report["model"] == "tiny"
    confusion = np.zeros((17, 17), np.int64)
    for name in _names(demo / "truth"):
        with Image.open(demo / "masks" / name) as mask, Image.open(demo / "truth" / name) as truth:
            confusion += confusion_matrix(np.asarray(mask), np.asarray(truth), len(THINGS))
    assert report["miou"] == round(mean_iou(confusion), 4)


def test_its_masks_are_the_generators_with_every_pixel_decided(demo: Path) -> None:
    tiny = load(config=replace(SCENES, mask=ArgmaxConfig(SCENES.mask.background_power)))
    for sample in find_samples(demo / "images", demo / "labels.csv"):
        with Image.open(demo / "masks" / f"{sample.id}.png") as mask:
            assert np.array_equal(np.asarray(mask), tiny(sample.image, sample.labels).mask)


def test_it_ends_on_the_report_of_its_run(demo: Path) -> None:
    run = clipes.open_run(demo / "masks")
    assert [row.status for row in run.rows()] == ["ok"] * 3 and run.status().ok == 3
    page = (demo / "report" / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'(?:src|href)="([^"#][^"]*)"', page)
    assert links and all((demo / "report" / link).is_file() for link in links if not link.startswith("data:"))
    assert (
        "miou" in (demo / "report" / "data" / "overview.js").read_text()
        and len(list((demo / "report").rglob("*.jpg"))) + len(list((demo / "report").rglob("*.png"))) >= 3
    )


def test_a_second_demo_replaces_the_first_and_nothing_else(demo: Path, tmp_path: Path) -> None:
    first = run_demo(tmp_path, 2)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "images" / "mine.jpg").touch()
    with pytest.raises(ValueError, match=r"mine\.jpg was not written by `clipes demo`; move it away"):
        run_demo(tmp_path, 1)
    assert len(_names(tmp_path / "truth")) == 2
    (tmp_path / "images" / "mine.jpg").unlink()
    second = run_demo(tmp_path, 1)
    assert first["count"] == 2 and second["count"] == 1
    assert _names(tmp_path / "images") == ["00000.jpg"]
    assert [path.name for path in (tmp_path / "masks").glob("*.png")] == _names(tmp_path / "truth") == ["00000.png"]
    assert (tmp_path / "notes.txt").exists()
    assert (tmp_path / "masks" / "00000.png").read_bytes() == (demo / "masks" / "00000.png").read_bytes()


def test_a_folder_of_ones_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "00000.jpg").write_text("mine")
    with pytest.raises(ValueError, match="images was not written by `clipes demo`; choose another folder"):
        run_demo(tmp_path, 1)
    assert (tmp_path / "images" / "00000.jpg").read_text() == "mine"
    assert _names(tmp_path) == ["images"]


def test_an_interrupted_demo_can_be_run_again(tmp_path: Path) -> None:
    def stop(items, total, unit):
        for index, item in enumerate(items):
            if unit == "masks" and index == 1:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        run_demo(tmp_path, 2, stop)
    assert json.loads((tmp_path / "demo.json").read_text())["miou"] is None
    assert not (tmp_path / "report").exists()
    assert 0 < run_demo(tmp_path, 1)["miou"] <= 1


@pytest.mark.parametrize("count", [0, -3])
def test_a_demo_of_nothing_is_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(ValueError, match=f"count is {count}; draw at least 1 scene"):
        run_demo(tmp_path / "d", count)
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("report", ["{}", "[]", "{", '{"count": 1, "model": "tiny", "miou": 1, "mine": 1}'])
def test_a_foreign_report_does_not_make_a_folder_a_demos(tmp_path: Path, report: str) -> None:
    (tmp_path / "demo.json").write_text(report)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "00012.jpg").write_text("mine")
    with pytest.raises(ValueError, match="was not written by `clipes demo`; choose another folder"):
        run_demo(tmp_path, 1)
    assert (tmp_path / "images" / "00012.jpg").read_text() == "mine"


def test_links_out_of_a_demos_folder_are_not_followed(tmp_path: Path) -> None:
    run_demo(tmp_path / "d", 1)
    (tmp_path / "d" / "images").rename(tmp_path / "elsewhere")
    (tmp_path / "d" / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="was not written by `clipes demo`"):
        run_demo(tmp_path / "d", 1)
    assert _names(tmp_path / "elsewhere") == ["00000.jpg"]
