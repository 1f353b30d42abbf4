"""`clipes export --to coco`, read back by pycocotools."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exporting import NAMES, drawn, hard_masks, paint, saved_run
from PIL import Image
from scipy import ndimage

from clipes.datasets import find_images, find_samples
from clipes.export import CocoError, export

pytest.importorskip("pycocotools", reason="pycocotools is not installed")
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from pycocotools.mask import encode

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pycocotools")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read_back(file: str, class_names=NAMES, ignore: int = 255) -> dict[str, np.ndarray]:
    """The masks by file name less suffix, as COCO's own code rasterises them."""
    coco = COCO(file)
    ids = {category["id"]: 1 + class_names.index(category["name"]) for category in coco.cats.values()}
    masks = {}
    for image in coco.imgs.values():
        mask = np.zeros((image["height"], image["width"]), int)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            pixels = coco.annToMask(annotation).astype(bool)
            value = ignore if annotation.get("ignored") else ids[annotation["category_id"]]
            assert annotation["iscrowd"] == int(value == ignore)
            assert annotation["area"] == pixels.sum() > 0
            y, x = np.nonzero(pixels)
            assert annotation["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
            assert value == ignore or not mask[pixels].any()
            mask[pixels] = value
        masks[image["file_name"].rpartition(".")[0]] = mask
    return masks


def same(found: dict[str, np.ndarray], masks: dict[str, np.ndarray]) -> None:
    assert found.keys() == masks.keys()
    for name, mask in masks.items():
        np.testing.assert_array_equal(found[name], mask, name)


@pytest.mark.parametrize("polygons", [False, True])
@pytest.mark.parametrize("instances", [False, True])
def test_masks_come_back(polygons: bool, instances: bool) -> None:
    masks = hard_masks()
    paint(masks)
    saved_run(masks)
    report = export("m", "coco", "out", polygons=polygons, instances=instances)
    assert (report.images, report.failed, report.notes) == (len(masks), 0, ())
    same(read_back("out/annotations/instances_train.json"), masks)
    data = json.loads(Path("out/annotations/instances_train.json").read_text())
    assert [image["id"] for image in data["images"]] == list(range(1, len(masks) + 1))
    assert [image["file_name"].rpartition(".")[0] for image in data["images"]] == sorted(masks, key=str.encode)
    assert data["categories"] == [
        {"id": index, "name": name, "supercategory": ""} for index, name in enumerate(NAMES, start=1)
    ]
    assert len({annotation["id"] for annotation in data["annotations"]}) == len(data["annotations"])
    for annotation in data["annotations"]:
        assert isinstance(annotation["segmentation"], list) == (polygons and not annotation["iscrowd"])
    for image in data["images"]:
        assert Path("out/train", image["file_name"]).read_bytes() == Path("photos", image["file_name"]).read_bytes()
    assert {path.name for path in Path("out").iterdir()} == {"annotations", "train", ".clipes-export"}
    assert [path.name for path in Path("out/annotations").iterdir()] == ["instances_train.json"]


def test_run_lengths_are_those_of_pycocotools() -> None:
    """A region is written from its own box, not from the whole image."""
    random = np.random.default_rng(3_101_001)
    for height, width in ((1, 1), (1, 9), (9, 1), (7, 5), (12, 30)):
        masks = {f"{level}": (random.random((height, width)) < level / 10).astype(np.uint8) for level in range(11)}
        for name in (masks, "m", "out"):
            if isinstance(name, str):
                shutil.rmtree(name, ignore_errors=True)
        paint(masks)
        saved_run(masks)
        export("m", "coco", "out", instances=True)
        for image in (coco := COCO("out/annotations/instances_train.json")).imgs.values():
            numbered, count = ndimage.label(masks[image["file_name"].rpartition(".")[0]])
            found = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
            assert len(found) == count
            for region, annotation in enumerate(found, start=1):
                code = encode(np.asfortranarray(numbered == region, np.uint8))
                assert annotation["segmentation"] == {"size": code["size"], "counts": code["counts"].decode()}


def test_many_regions_take_no_time() -> None:
    """Each from its own box: 5,600 regions of a megapixel in less than the 5 s that each from the whole would take."""
    mask = np.zeros((1000, 1000), np.uint8)
    mask[::10, ::18] = 1
    paint({"a": mask})
    saved_run({"a": mask})
    before = time.process_time()
    export("m", "coco", "out", instances=True)
    assert time.process_time() - before < 3
    assert Path("out/annotations/instances_train.json").read_text().count('"area": 1,') == 5600


def test_an_annotation_is_a_class_or_an_instance() -> None:
    masks = {"a": drawn("1.2 ..2 1.x")}
    paint(masks)
    saved_run(masks, confidence=True, labels=NAMES)
    for instances, expected in ((False, [(1, 2), (2, 2)]), (True, [(1, 1), (1, 1), (2, 2)])):
        export("m", "coco", "out", instances=instances, overwrite=True, split="2026")
        found = json.loads(Path("out/annotations/instances_2026.json").read_text())["annotations"]
        shown = [one for one in found if not one["iscrowd"]]
        assert [(one["category_id"], one["area"]) for one in shown] == expected
        assert {one["score"] for one in shown} == {round(128 / 255, 4)}
        crowds = [one for one in found if one["iscrowd"]]
        assert [(one["category_id"], one["area"], one["ignored"]) for one in crowds] == [
            (1, 1, True),
            (2, 1, True),
            (3, 1, True),
        ]


def test_instances_by_regions_from_files() -> None:
    """Regions split what touches and join what something hides; an image without them is left out with its reason."""
    masks = {"a": drawn("11.11 11.11"), "sub/b": drawn("1111 1111"), "c": drawn("11")}
    paint(masks)
    saved_run(masks, confidence=True)
    regions = {"a": drawn("11111 11111"), "sub/b": drawn("1122 1122"), "unused": drawn("1")}
    for name, ids in regions.items():
        Path("regions", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids).save(f"regions/{name}.png")
    report = export("m", "coco", "out", regions="regions", polygons=True)
    assert report.images == 2 and "c.*: no such file" in report.problems[0]
    assert report.notes == (
        "1 image(s) have no regions in regions and will fail, 'c' the first",
        "1 of the regions in regions belong to no image",
    )
    found = json.loads(Path("out/annotations/instances_train.json").read_text())["annotations"]
    assert [(one["image_id"], one["bbox"], one["area"], len(one["segmentation"])) for one in found] == [
        (1, [0.0, 0.0, 5.0, 2.0], 8, 2),
        (2, [0.0, 0.0, 2.0, 2.0], 4, 1),
        (2, [2.0, 0.0, 2.0, 2.0], 4, 1),
    ]
    Image.fromarray(drawn("1")).save("regions/c.png")
    report = export("m", "coco", "out", regions="regions", overwrite=True)
    assert report.images == 2 and "c.png: 1 x 1 pixels (height x width)" in report.problems[0]


def test_cocos_evaluation_ignores_what_is_ignored() -> None:
    masks = {"a": drawn("11..xx 11..xx")}
    paint(masks)
    saved_run(masks, labels=NAMES[:1])
    export("m", "coco", "out")
    truth = COCO("out/annotations/instances_train.json")

    def precision(pixels: str) -> float:
        from pycocotools import mask as code

        found = [code.encode(np.asfortranarray(drawn(part) == 1, np.uint8)) for part in pixels.split(";")]
        rows = [
            {"image_id": 1, "category_id": 1, "segmentation": one, "score": 1 - 0.1 * number}
            for number, one in enumerate(reversed(found))
        ]
        judge = COCOeval(truth, truth.loadRes(rows), "segm")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        return float(judge.stats[1])  # at IoU 0.5

    assert precision("11.... 11....") == pytest.approx(1)
    assert precision("11.... 11....;....11 ....1.") == pytest.approx(1)  # upon ignored pixels: neither right nor wrong
    assert precision("11.... 11....;..11.. ..1...") == pytest.approx(0.5)  # upon background: wrong


def test_ignored_pixels_of_an_image_without_labels_are_said_for_every_class() -> None:
    masks = {"a": drawn(".x"), "b": drawn("x2")}
    paint(masks)
    saved_run(masks)
    export("m", "coco", "out")
    found = json.loads(Path("out/annotations/instances_train.json").read_text())["annotations"]
    crowds = [(one["image_id"], one["category_id"]) for one in found if one["iscrowd"]]
    assert crowds == [(1, 1), (1, 2), (1, 3), (2, 2)]


def test_more_than_254_classes() -> None:
    names = [f"class {number}" for number in range(1, 301)]
    masks = {"a": np.array([[0, 1, 255, 300, 65535, 65535]], np.uint16)}
    paint(masks)
    saved_run(masks, names)
    assert export("m", "coco", "out").ignored_pixels == 2
    same(read_back("out/annotations/instances_train.json", names, 65535), masks)


@pytest.fixture
def coco() -> dict[str, np.ndarray]:
    """coco/: three pictures, ids out of order and one a string, sparse category ids."""
    masks = {"z": drawn("1.2"), "sub/a": drawn("22. ..x"), "m": drawn("...")}
    paint(masks, Path("coco/val"))
    names = {"z": "z.png", "sub/a": "sub/a.jpg", "m": "m.png"}
    data = {
        "images": [
            {"id": number, "file_name": names[name]} for name, number in (("z", 77), ("sub/a", 9), ("m", "x-1"))
        ],
        "categories": [{"id": 18, "name": NAMES[0]}, {"id": 90, "name": NAMES[1]}, {"id": 5, "name": "other"}],
        "annotations": [{"image_id": 77, "category_id": 90}],
    }
    Path("coco/annotations").mkdir()
    Path("coco/annotations/instances_val.json").write_text(json.dumps(data))
    return masks


def test_a_coco_source_keeps_its_ids(coco: dict[str, np.ndarray]) -> None:
    saved_run(coco, source="coco:coco:val", category_ids={NAMES[0]: 18, NAMES[1]: 90, "other": 5})
    report = export("m", "coco", "out", split="val")
    assert report.notes == ("1 class(es) have no category id in the source; they follow its largest",)
    same(read_back("out/annotations/instances_val.json"), coco)
    data = json.loads(Path("out/annotations/instances_val.json").read_text())
    assert [(image["id"], image["file_name"]) for image in data["images"]] == [
        ("x-1", "m.png"),
        (9, "sub/a.jpg"),
        (77, "z.png"),
    ]
    assert [category["id"] for category in data["categories"]] == [18, 90, 91]
    assert {annotation["category_id"] for annotation in data["annotations"]} == {18, 90}
    assert {annotation["image_id"] for annotation in data["annotations"]} == {77, 9}


def test_the_export_is_a_coco_source(coco: dict[str, np.ndarray]) -> None:
    saved_run(coco, source="coco:coco:val", category_ids={NAMES[0]: 18, NAMES[1]: 90})
    export("m", "coco", "out")
    assert set(find_images("coco:out:train")) == set(coco)
    assert {sample.id: set(sample.labels) for sample in find_samples("coco:out")} == {
        "z": {NAMES[0], NAMES[1]},
        "sub/a": {NAMES[1]},
        "m": set(),
    }


@pytest.mark.parametrize("ids", [[1], {"dog": "18"}, {"dog": None}, {"dog": True}, {"dog": 7, "cat": 7}])
def test_category_ids_that_are_none(ids: Any) -> None:
    masks = {"a": drawn("12")}
    paint(masks)
    saved_run(masks, category_ids=ids)
    with pytest.raises(ValueError, match=r"m/run.json: its 'category_ids' are not names with a number each"):
        export("m", "coco", "out")
    assert export("m", "voc", "out").images == 1


def test_the_next_of_a_very_large_id() -> None:
    masks = {"a": drawn("12")}
    paint(masks)
    saved_run(masks, category_ids={NAMES[0]: 1 << 62})
    export("m", "coco", "out")
    found = json.loads(Path("out/annotations/instances_train.json").read_text())["categories"]
    assert [category["id"] for category in found] == [1 << 62, (1 << 62) + 1, (1 << 62) + 2]


def test_pictures_of_a_coco_source_that_are_elsewhere(coco: dict[str, np.ndarray]) -> None:
    saved_run(coco, source="coco:gone", category_ids={NAMES[0]: 18, NAMES[1]: 90, NAMES[2]: 5})
    report = export("m", "coco", "out", source="coco/val")
    (note,) = report.notes
    assert note.startswith("images are numbered from 1; they keep COCO's ids where the source is COCO")
    same(read_back("out/annotations/instances_train.json"), coco)


def test_an_image_that_the_json_does_not_name(coco: dict[str, np.ndarray]) -> None:
    coco["new"] = drawn("1")
    saved_run(coco, source="coco:coco:val")
    report = export("m", "coco", "out")
    assert (report.images, report.failed) == (3, 1)
    assert "'new': no such image in the source" in report.problems[0]


def test_without_pictures_only_the_json(tmp_path: Path) -> None:
    masks = {"a": drawn("12"), "b": drawn("1")}
    paint(masks)
    saved_run(masks)
    export("m", "coco", "out", images="none")
    same(read_back("out/annotations/instances_train.json"), masks)
    assert not Path("out/train").exists()


def test_pictures_that_exif_turns(tmp_path: Path) -> None:
    """In COCO any format stays, but none that is not upright as it is."""
    Path("photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    masks = {}
    for suffix in ("png", "jpg", "webp", "tif"):
        Image.fromarray(pixels).save(
            f"photos/{suffix}.{suffix}", exif=exif, **({"lossless": True} if suffix == "webp" else {})
        )
        masks[suffix] = drawn("11 1. 2.")
    saved_run(masks)
    report = export("m", "coco", "out")
    assert (report.images, report.turned, report.converted) == (4, 4, 0), report.problems
    for suffix in masks:
        with Image.open(f"out/train/{suffix}.{suffix}") as image:
            assert image.size == (2, 3) and image.getexif().get(0x0112, 1) == 1
            if suffix != "jpg":
                np.testing.assert_array_equal(np.asarray(image.convert("RGB")), np.rot90(pixels, -1))
    report = export("m", "coco", "none", images="none")
    assert (report.turned, report.failed) == (4, 0)


def test_without_pycocotools(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = {"a": drawn("1")}
    paint(masks)
    saved_run(masks)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(CocoError, match=r"--to coco needs pycocotools .*: pip install pycocotools, or in a clone"):
        export("m", "coco", "out")
    assert {path.name for path in Path().iterdir()} == {"m", "photos"}


def test_fiftyones_reader_gives_the_same_masks() -> None:
    """The importer behind ``fo.Dataset.from_dir`` of docs/export.md; a dataset itself needs FiftyOne's database."""
    pytest.importorskip("fiftyone", reason="fiftyone is not installed")
    from fiftyone.types import COCODetectionDataset

    masks = hard_masks()
    paint(masks)
    saved_run(masks)
    export("m", "coco", "out")
    reader = COCODetectionDataset().get_dataset_importer_cls()(
        data_path="out/train", labels_path="out/annotations/instances_train.json", label_types="segmentations"
    )
    seen = set()
    with reader:
        for path, metadata, label in reader:
            name = Path(path).relative_to(Path("out/train").absolute()).with_suffix("").as_posix()
            found = np.zeros((metadata.height, metadata.width), int)
            for one in label.detections if label else ():
                pixels = one.to_segmentation(frame_size=(metadata.width, metadata.height)).mask > 0
                found[pixels] = 255 if one["iscrowd"] else 1 + NAMES.index(one.label)
            np.testing.assert_array_equal(found, masks[name], name)
            seen.add(name)
    assert seen == set(masks)
