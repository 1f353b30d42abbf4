"""clipes.datasets.respelled: names that agree but for Unicode's form, and the numbers of COCO's images."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
from generating import CommandLine
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import clipes
from clipes.datasets import DatasetError, find_images, find_samples
from clipes.datasets.respelled import label_spelling
from clipes.io.paths import as_spelled
from clipes.report import write_report

FORMS = [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC"), ("NFD", "NFD")]


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def _npy(path: Path, vectors: dict[Any, list[int]]) -> Path:
    np.save(path, {key: np.array(value) for key, value in vectors.items()}, allow_pickle=True)  # type: ignore[arg-type]
    return path


# --- Unicode


@pytest.mark.parametrize(("disk", "written"), FORMS)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "npy", "table", "list", "voc", "coco", "imagefolder"])
def test_files_tables_and_classes_in_either_form(tmp_path: Path, disk: str, written: str, kind: str) -> None:
    file, row = normalize(disk, "Été/Café"), normalize(written, "Été/Café")
    name, label = normalize(disk, "crème"), normalize(written, "crème")
    folder = _touch(tmp_path / "photos", f"{file}.jpg", "b.jpg")
    csv, jsonl = folder / "labels.csv", folder / "labels.jsonl"
    csv.write_text(f"image,labels\n{row}.jpg,{label}\nb.jpg,\n", "utf-8")
    rows = ({"image": row, "labels": [label]}, {"image": "b", "labels": []})
    jsonl.write_text("".join(json.dumps(one) + "\n" for one in rows))
    (folder / "list.txt").write_text(f"b.jpg\n{row}.jpg\n", "utf-8")
    labels: Any = {"csv": csv, "jsonl": jsonl, "list": [label], "voc": None, "coco": None}.get(kind)
    source: Any = {"table": csv, "list": folder / "list.txt"}.get(kind, folder)
    if kind == "npy":
        labels = _npy(folder / "labels.npy", {row: [1], "b": [0]})
    if kind == "imagefolder":
        (folder / "metadata.csv").write_text(f"file_name,labels\n{row}.jpg,{label}\nb.jpg,\n", "utf-8")
    if kind == "voc":
        _touch(folder, "ImageSets/Main/train.txt", f"Annotations/{file}.xml", "Annotations/b.xml")
        (folder / "ImageSets/Main/train.txt").write_text(f"b\n{row}\n", "utf-8")
        xml = "<annotation>{}</annotation>"
        (folder / "Annotations/b.xml").write_text(xml.format(""))
        (folder / f"Annotations/{file}.xml").write_text(xml.format(f"<object><name>{label}</name></object>"), "utf-8")
        _touch(folder / "JPEGImages", f"{file}.PNG", "b.jpg")
        source = f"voc:{folder}"
    if kind == "coco":
        images = [{"id": 1, "file_name": f"{row}.jpg"}, {"id": 2, "file_name": "b.jpg"}]
        content = {"images": images, "annotations": [{"image_id": 1, "category_id": 1}]}
        (folder / "x.json").write_text(json.dumps(content | {"categories": [{"id": 1, "name": label}]}))
        source = f"coco:{folder / 'x.json'}"
    samples = find_samples(source, labels, class_names=(name,))
    found = {normalize("NFC", sample.id): sample for sample in samples}
    assert set(found) == {"b", "Été/Café"} and found["Été/Café"].labels == (name,)
    assert all(Path(str(sample.image)).is_file() for sample in samples)
    assert all(Path(str(image)).is_file() for image in find_images(source).values())
    assert samples.unused_rows == 0


def test_the_exact_spelling_is_taken_first(tmp_path: Path) -> None:
    both = [normalize(form, "é") for form in ("NFC", "NFD")]
    folder = _touch(tmp_path / "photos", *(f"{name}.jpg" for name in both))
    (tmp_path / "l.csv").write_text("image,labels\n" + "".join(f"{name},{name}\n" for name in both), "utf-8")
    samples = find_samples(folder, tmp_path / "l.csv", class_names=both)
    assert {sample.id: sample.labels for sample in samples} == {name: (name,) for name in both}
    (tmp_path / "l.csv").write_text(f"image,labels\n{both[0]},\n", "utf-8")
    with pytest.raises(DatasetError, match=r"1 image\(s\) without a row"):
        find_samples(folder, tmp_path / "l.csv")
    (tmp_path / "m.csv").write_text(f"image,labels\nx/{both[0]},\ny/{both[0]},\n", "utf-8")
    with pytest.raises(DatasetError, match=r"2 image\(s\) without a row"):
        find_samples(folder, tmp_path / "m.csv")


def test_paths_as_the_disk_spells_them(tmp_path: Path) -> None:
    nfc, nfd = (normalize(form, "é/à.jpg") for form in ("NFC", "NFD"))
    _touch(tmp_path, nfd.split("/")[0] + "/" + nfc.split("/")[1])
    for path in (nfc, nfd):
        assert Path(as_spelled(str(tmp_path / path))).is_file()
    for path in (str(tmp_path / "ö"), "absent", ""):
        assert as_spelled(path) == path
    (folder,) = (path for path in tmp_path.iterdir())
    assert len(find_samples(tmp_path / normalize("NFC", folder.name), ["cat"])) == 1


@given(st.lists(st.text(), max_size=4, unique=True), st.lists(st.text(), max_size=4, unique=True))
def test_labels_that_are_classes_stay(classes: list[str], labels: list[str]) -> None:
    spelled = label_spelling(classes)(tuple(labels))
    for label in labels:
        assert label in spelled if label in classes or label.isascii() else True
    assert {normalize("NFC", label) for label in spelled} == {normalize("NFC", label) for label in labels}
    assert label_spelling(None)(tuple(labels)) == tuple(labels)


# --- COCO's numbers


@pytest.mark.parametrize("image", ["000000000009", "COCO_train2014_000000000009", "COCO_val2014_000000000009"])
@pytest.mark.parametrize("row", [9, "9", "000000000009", "COCO_train2014_000000000009", "train2014/000000000009.jpg"])
def test_numbers_of_images(tmp_path: Path, image: str, row: int | str) -> None:
    folder = _touch(tmp_path / "photos", f"sub/{image}.jpg", "COCO_train2014_000000000019.jpg")
    file = _npy(tmp_path / "cls_labels_coco.npy", {row: [0, 1], 19: [1, 0], 900: [1, 1]})
    samples = find_samples(folder, file, class_names=("cat", "dog"))
    assert {Path(sample.id).name: sample.labels for sample in samples} == {
        image: ("dog",),
        "COCO_train2014_000000000019": ("cat",),
    }
    assert (samples.unused_rows, samples.first_unused) == (1, "900")
    if isinstance(row, str):
        table = tmp_path / "l.csv"
        table.write_text(f"image,labels\n{row},dog\n19,cat\n")
        assert [sample.labels for sample in find_samples(folder, table)] == [("cat",), ("dog",)]


def test_numbers_of_other_images_are_names(tmp_path: Path) -> None:
    file = _npy(tmp_path / "l.npy", {9: [1]})
    for name in ("0009", "x_000000000009", "0000000000009"):
        with pytest.raises(DatasetError, match=r"1 image\(s\) without a row"):
            find_samples(_touch(tmp_path / name, f"{name}.jpg"), file, class_names=("cat",))
    two = _touch(tmp_path / "two", "000000000009.jpg", "COCO_val2014_000000000009.jpg")
    with pytest.raises(DatasetError, match=r"2 image\(s\) without a row"):
        find_samples(two, file, class_names=("cat",))
    both = _npy(tmp_path / "both.npy", {9: [1], "000000000009": [0], "b": [1]})
    assert len(find_samples(_touch(tmp_path / "one", "000000000009.jpg"), both, class_names=("cat",))[0].labels) == 0


def test_by_the_command_and_python(photos: Path, tmp_path: Path, cli: CommandLine) -> None:
    picture = Image.open(photos / "a.jpg")
    folder = tmp_path / "train2014"
    folder.mkdir()
    for name in ("000000000009.jpg", "COCO_train2014_000000000025.jpg", normalize("NFD", "été.png")):
        picture.save(folder / name)
    (tmp_path / "l.csv").write_text(f"image,labels\n9,crème\n25,tree\nété.png,{normalize('NFD', 'crème')}\n", "utf-8")
    (tmp_path / "classes.txt").write_text("crème\ntree\n", "utf-8")
    classes = ["--classes", tmp_path / "classes.txt", "--model", "tiny"]
    code, out, error = cli("generate", folder, "--labels", tmp_path / "l.csv", *classes, "--out", tmp_path / "out")
    assert code == 0 and "3 of 3 masks" in out, error
    generator = clipes.load("tiny", classes=["crème", "tree"])
    assert clipes.run(folder, tmp_path / "python", tmp_path / "l.csv", generator=generator).ok == 3


@pytest.mark.parametrize(("own", "given"), FORMS)
def test_a_call_takes_labels_in_either_form(own: str, given: str) -> None:
    """Generator, vocabulary and result; what was asked stays fit to be sent to another process."""
    generator = clipes.load("tiny", classes=[normalize(own, "café"), "tree"])
    label, picture = normalize(given, "café"), np.full((16, 24, 3), 128, np.uint8)
    result = generator(picture, [label, normalize(own, "café")])
    assert result.labels == (normalize(own, "café"),)
    assert result[label].shape == result.cutout(label).size[::-1] == (16, 24)
    assert pickle.loads(pickle.dumps(generator.vocabulary)).ids(["tree", label]) == (2, 1)
    with pytest.raises(ValueError, match="unknown class 'cafe'"):
        generator(picture, ["cafe"])
    with pytest.raises(KeyError):
        result["tree"]


@pytest.mark.parametrize(("disk", "given"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_pictures_and_truth_in_either_form(disk: str, given: str, tmp_path: Path, cli: CommandLine) -> None:
    """A picture of a call and of `show`; the truth of `evaluate` and of a report; exact names come first."""
    name, other = (normalize(form, "é.png") for form in (disk, given))
    for folder in ("photos", "truth"):
        (tmp_path / folder).mkdir()
    picture = Image.fromarray(np.full((16, 24, 3), 128, np.uint8))
    picture.save(tmp_path / "photos" / name)
    generator = clipes.load()
    result = generator(tmp_path / "photos" / other, ["boat"])
    assert cli("show", tmp_path / "photos" / other, "--labels", "boat", "--out", tmp_path / "x.png").code == 0
    clipes.run(tmp_path / "photos", tmp_path / "m", ["boat"], generator=generator)
    result.save(tmp_path / "truth" / other)
    found = clipes.evaluate(tmp_path / "m", tmp_path / "truth")
    assert (found.images, found.missing, found.extra, found.pixel_accuracy) == (1, (), (), 1)
    done = write_report(tmp_path / "m", tmp_path / "r", truth=tmp_path / "truth")
    assert not done.troubled and '"truth":{"judged":1,' in (tmp_path / "r/data/overview.js").read_text()
    Image.new("L", picture.size, 200).save(tmp_path / "truth" / name)
    exact = clipes.evaluate(tmp_path / "m", tmp_path / "truth")
    assert len(exact.failed) == 1 and exact.missing == (other,)
