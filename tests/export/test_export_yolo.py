"""`clipes export --to yolo`: labels found as Ultralytics finds them, polygons filled by two rules."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import numpy as np
import pytest
from exporting import NAMES, drawn, hard_masks, paint, saved_run
from PIL import Image

from clipes.export import export

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pycocotools")
code = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def labels_of(image: str) -> Path:
    """Where Ultralytics looks (img2label_paths in its data/utils.py): the last /images/ becomes /labels/."""
    before, _, after = image.rpartition(f"{os.sep}images{os.sep}")
    return Path(f"{before}{os.sep}labels{os.sep}{after}".rpartition(".")[0] + ".txt")


def read_back(out: str = "out") -> dict[tuple[int, ...], np.ndarray]:
    """The masks by the first pixels of their pictures, ids from 1: every polygon filled by pycocotools."""
    about = yaml.safe_load(Path(out, "data.yaml").read_text(encoding="utf-8"))
    assert about["train"] == about["val"] and list(about["names"]) == list(range(len(about["names"])))
    masks = {}
    for image in sorted(glob.glob(os.path.join(out, about["train"], "**", "*.*"), recursive=True)):
        with Image.open(image) as opened:
            width, height = opened.size
        mask = np.zeros((height, width), int)
        for line in labels_of(image).read_text().splitlines():
            number, *values = line.split()
            points = np.array(values, float).reshape(-1, 2)
            assert len(points) >= 4 and points.min() >= 0 and points.max() <= 1
            polygon = (points * (width, height)).ravel().tolist()
            pixels = code.decode(code.merge(code.frPyObjects([polygon], height, width))).astype(bool)
            assert pixels.any() and not mask[pixels].any()
            mask[pixels] = int(number) + 1
        masks[image] = mask
    return masks


def test_masks_come_back() -> None:
    masks = hard_masks()
    paint(masks)
    saved_run(masks)
    report = export("m", "yolo", "out")
    assert (report.images, report.failed, report.converted) == (len(masks), 0, 0)
    ignored = sum(int((mask == 255).sum()) for mask in masks.values())
    assert f"{ignored} ignored pixel(s) are background here: YOLO's polygons know no ignore" in report.notes
    assert "7 id(s) are percent-encoded in file names" in report.notes
    found = read_back()
    assert len(found) == len(masks)
    by_picture = {Path(image).read_bytes(): mask for image, mask in found.items()}
    for name, mask in masks.items():
        (picture,) = [path for suffix in ("png", "jpg") if (path := Path("photos", f"{name}.{suffix}")).is_file()]
        np.testing.assert_array_equal(by_picture[picture.read_bytes()], np.where(mask == 255, 0, mask), name)
    names = yaml.safe_load(Path("out/data.yaml").read_text(encoding="utf-8"))["names"]
    assert names == dict(enumerate(NAMES))


def test_wide_pictures_lose_nothing_to_rounding() -> None:
    mask = (np.random.default_rng(3_101_001).random((3, 9973)) < 0.5).astype(np.uint8)
    paint({"wide": mask})
    saved_run({"wide": mask})
    export("m", "yolo", "out")
    (found,) = read_back().values()
    np.testing.assert_array_equal(found, mask)
    values = np.array(
        [value for line in Path("out/labels/train/wide.txt").read_text().splitlines() for value in line.split()[1:]],
        float,
    )
    assert np.abs(values[::2] * 9973 - np.round(values[::2] * 9973)).max() < 0.001


def test_lines_are_regions_and_an_empty_file_is_background() -> None:
    masks = {"a": drawn("1.1 222"), "b": drawn("x.")}
    paint(masks)
    saved_run(masks)
    export("m", "yolo", "out", split="v1")
    assert Path("out/labels/v1/a.txt").read_text().splitlines() == [
        "0 0 0 0.3333333 0 0.3333333 0.5 0 0.5",
        "0 0.6666667 0 1 0 1 0.5 0.6666667 0.5",
        "1 0 0.5 1 0.5 1 1 0 1",
    ]
    assert Path("out/labels/v1/b.txt").read_bytes() == b""
    assert sorted(os.listdir("out/images/v1")) == ["a.png", "b.jpg"]


def test_other_formats_are_converted_without_loss() -> None:
    Path("photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photos/a.bmp")
    Image.fromarray(pixels).save("photos/b.webp", lossless=True)
    masks = {"a": drawn("1.1 222"), "b": drawn("1.1 222")}
    saved_run(masks)
    assert export("m", "yolo", "out", images="link").converted == 2
    for name in "ab":
        assert not Path(f"out/images/train/{name}.png").is_symlink()
        np.testing.assert_array_equal(np.asarray(Image.open(f"out/images/train/{name}.png")), pixels)


def test_names_that_yaml_would_take_otherwise() -> None:
    names = [
        "yes",
        "null",
        "1",
        "- a",
        "tab\there",
        'back\\slash "quoted"',
        "line\nbreak \u2028 \x85",
        "😀",
        "{a: b}",
        "# c",
    ]
    masks = {"a": drawn("1")}
    paint(masks)
    saved_run(masks, names)
    export("m", "yolo", "out")
    assert yaml.safe_load(Path("out/data.yaml").read_text(encoding="utf-8"))["names"] == dict(enumerate(names))


def test_more_than_254_classes() -> None:
    masks = {"a": np.array([[0, 255, 300, 65535]], np.uint16)}
    paint(masks)
    saved_run(masks, [f"c{number}" for number in range(300)])
    export("m", "yolo", "out")
    assert [mask.tolist() for mask in read_back().values()] == [[[0, 255, 300, 0]]]
