"""`clipes export --to voc`, read back by torchvision, and labelmap.txt as CVAT's reader takes it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from exporting import NAMES, drawn, hard_masks, paint, saved_run
from PIL import Image

from clipes.datasets import find_images
from clipes.export import export
from clipes.ids import voc_palette

VOC = "VOCdevkit/VOC2012"  # where torchvision looks


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read_back(split: str = "train") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Picture and mask by id."""
    datasets = pytest.importorskip("torchvision.datasets")
    found = datasets.VOCSegmentation(".", image_set=split)
    names = Path(VOC, f"ImageSets/Segmentation/{split}.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert len(names) == len(found)
    return {
        unquote(name): (np.asarray(image), np.asarray(mask)) for name, (image, mask) in zip(names, found, strict=True)
    }


def label_map() -> dict[str, tuple[int, ...]]:
    """Names and colours, read as datumaro does, which is CVAT's reader."""
    labels: dict[str, tuple[int, ...]] = {}
    with open(f"{VOC}/labelmap.txt", encoding="utf-8") as file:
        for line in file:
            if line.strip() and line.strip()[0] != "#":
                name, colour, parts, actions = line.strip().split(":")
                assert name not in labels and parts == actions == ""
                labels[name] = tuple(map(int, colour.split(",")))
    return labels


def test_masks_come_back() -> None:
    masks = hard_masks()
    paint(masks)
    saved_run(masks)
    report = export("m", "voc", VOC)
    found = read_back()
    assert found.keys() == masks.keys()
    for name, mask in masks.items():
        picture, read = found[name]
        np.testing.assert_array_equal(read, mask, name)
        assert picture.shape == (*mask.shape, 3)
    jpegs = [path for path in Path("photos").rglob("*.jpg")]
    assert report.converted == len(masks) - len(jpegs) and report.images == len(masks)
    for path in jpegs:  # those stay as they are
        name = path.relative_to("photos").with_suffix("").as_posix()
        (copy,) = [
            file for file in Path(VOC, "JPEGImages").rglob("*.jpg") if unquote(str(file)).endswith(f"/{name}.jpg")
        ]
        assert copy.read_bytes() == path.read_bytes()
    assert set(find_images(f"voc:{VOC}")) == {
        name.relative_to(f"{VOC}/JPEGImages").with_suffix("").as_posix()
        for name in Path(VOC, "JPEGImages").rglob("*.jpg")
    }


def test_every_colour_has_its_label() -> None:
    masks = hard_masks()
    paint(masks)
    saved_run(masks)
    report = export("m", "voc", VOC)
    assert "2 class name(s) are percent-encoded in labelmap.txt, whose fields end at a colon" in report.notes
    assert "6 id(s) are percent-encoded in file names, which lists of plain lines cannot hold" in report.notes
    labels = label_map()
    assert list(map(unquote, labels)) == ["background", *NAMES, "ignored"]
    colours = [*labels.values()]
    assert colours == [tuple(colour) for colour in voc_palette()[[0, 1, 2, 3, 255]].tolist()]
    for path in Path(VOC, "SegmentationClass").rglob("*.png"):
        with Image.open(path) as image:
            assert image.mode == "P"
            assert {colour for _, colour in image.convert("RGB").getcolors()} <= set(colours)


def test_a_class_called_ignored() -> None:
    masks = {"a": drawn("12x")}
    paint(masks)
    saved_run(masks, ["ignored", "Background"])
    export("m", "voc", VOC)
    assert list(label_map()) == ["background", "ignored", "Background", "ignored_"]


def test_classes_called_background() -> None:
    masks = {"a": drawn("12x")}
    paint(masks)
    saved_run(masks, ["background", "background_"])
    export("m", "voc", VOC)
    assert list(label_map().items()) == [
        ("background__", (0, 0, 0)),
        ("background", (128, 0, 0)),
        ("background_", (0, 128, 0)),
        ("ignored", (224, 224, 192)),
    ]


def test_254_classes_fit_and_255_do_not() -> None:
    masks = {"a": np.array([[0, 1, 254, 255]], np.uint8)}
    paint(masks)
    saved_run(masks, [f"c{number}" for number in range(254)])
    export("m", "voc", VOC)
    assert read_back()["a"][1].tolist() == [[0, 1, 254, 255]]
    assert len(set(label_map().values())) == 256
    saved_run({"a": np.array([[0, 255]], np.uint16)}, [f"c{number}" for number in range(255)], folder="wide")
    with pytest.raises(ValueError, match=r"255 classes do not fit into 254; export --to coco or --to huggingface"):
        export("wide", "voc", "other")
    assert not Path("other").exists()


def test_a_picture_that_exif_turns_is_saved_upright() -> None:
    """Copied as it is, it would lie beside its mask in readers that ignore EXIF, torchvision's among them."""
    Path("photos").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255
    Image.fromarray(pixels).save("photos/a.jpg", exif=exif, quality=95)
    Image.fromarray(pixels).save("photos/b.jpg")
    mask = np.zeros((32, 16), np.uint8)
    mask[:16] = 1
    saved_run({"a": mask, "b": mask.T})
    for images in ("copy", "link"):
        report = export("m", "voc", VOC, images=images, overwrite=True)
        assert (report.images, report.turned, report.converted) == (2, 1, 0)
        for picture, read in read_back().values():
            np.testing.assert_array_equal(picture[..., 0] > 127, read == 1)
        assert not Path(VOC, "JPEGImages/a.jpg").is_symlink()
        assert Path(VOC, "JPEGImages/b.jpg").is_symlink() == (images == "link")
        assert Path(VOC, "JPEGImages/b.jpg").read_bytes() == Path("photos/b.jpg").read_bytes()


def test_without_pictures() -> None:
    masks = {"a": drawn("12"), "b": drawn("1")}
    paint(masks)
    saved_run(masks)
    export("m", "voc", VOC, images="none", split="mine")
    assert sorted(path.relative_to(VOC).as_posix() for path in Path(VOC).rglob("*.*") if path.is_file()) == [
        ".clipes-export",
        "ImageSets/Segmentation/mine.txt",
        "SegmentationClass/a.png",
        "SegmentationClass/b.png",
        "labelmap.txt",
    ]


def test_from_a_voc_source_and_from_shards() -> None:
    masks = {"2007_1": drawn("12"), "2007_2": drawn("x1")}
    paint(masks, Path("devkit/JPEGImages"))
    Path("devkit/ImageSets/Segmentation").mkdir(parents=True)
    Path("devkit/ImageSets/Segmentation/train.txt").write_text("2007_1.png\n2007_2\n")
    saved_run(masks, source="voc:devkit", format="tar")
    export("m", "voc", VOC)
    assert {name: mask.tolist() for name, (_, mask) in read_back().items()} == {
        name: mask.tolist() for name, mask in masks.items()
    }
