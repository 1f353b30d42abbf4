"""Tables of labels as people have them: other columns, delimiters, separators, lists in a cell, a row for a label."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import clipes
from clipes.cli import main
from clipes.commands.arguments import labels_argument
from clipes.datasets import DatasetError, TableFormat, find_samples
from clipes.runs.plan import Faults
from clipes.vocabulary import check_labels, load_vocabulary

OWN = load_vocabulary(["cat", "tree", "potted plant"], ["sky"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / name).touch()
    return tmp_path / "images"


def _labels(folder: Path, *lines: str, name: str = "labels.csv", **form: str) -> dict[str, tuple[str, ...]]:
    path = folder.parent / name
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return {sample.id: sample.labels for sample in find_samples(folder, path, table=TableFormat(**form))}


BOTH = {"a": ("cat", "tree"), "b": ()}


@pytest.mark.parametrize(
    ("lines", "form"),
    [
        (["image,labels", "a.jpg,cat", "b.jpg,", "a.jpg,tree"], {}),
        (["image;labels", "a.jpg;cat", "b.jpg;", "a.jpg;tree"], {}),
        (["image;labels", 'a.jpg;"cat;tree"', "b.jpg;"], {}),
        (["image;labels", "a.jpg;cat;tree", "b.jpg;"], {}),
        (["image\tlabels", "a.jpg\tcat;tree", "b.jpg\t"], {}),
        (["image|labels", "a.jpg|cat;tree", "b.jpg|"], {}),
        (["image,labels", '"a.jpg","cat, tree"', "b.jpg,"], {"separator": ","}),
        (["image,labels", "a.jpg,cat, tree", "b.jpg,"], {"separator": ","}),
        (["image,labels", "a.jpg,cat|tree", "b.jpg,"], {"separator": "|"}),
        (["image,labels", "a.jpg,cat tree", "b.jpg,"], {"separator": " "}),
        (["image,labels", "a.jpg,\"['cat', 'tree']\"", "b.jpg,[]"], {}),
        (["image,labels", 'a.jpg,"[""cat"", ""tree""]"', "b.jpg, []"], {}),
        (["image,labels", "a.jpg,\"('cat', 'tree')\"", "b.jpg,{}"], {}),
        (["image,labels", "a.jpg,['cat' 'tree']", "b.jpg,"], {}),
        (["Filename,n,Class", "a.jpg,1,cat;tree", "b.jpg,2,"], {"image_column": "filename", "label_column": "class"}),
        (
            ["ImageID,LabelName,Confidence", "a,cat,1", "a,tree,1.0", "b,,1"],
            {"image_column": "ImageID", "label_column": "LabelName"},
        ),
    ],
)
def test_tables_as_they_are(folder: Path, lines: list[str], form: dict[str, str]) -> None:
    assert _labels(folder, *lines, **form) == BOTH


def test_lines_of_json_have_other_columns_and_separators_too(folder: Path) -> None:
    rows = [{"file": "a.jpg", "tags": "cat|tree"}, {"file": "b.jpg", "tags": []}]
    form = {"image_column": "file", "label_column": "tags", "separator": "|"}
    assert _labels(folder, *map(json.dumps, rows), name="l.jsonl", **form) == BOTH
    rows = [{"image": "a.jpg", "labels": label} for label in ("cat", ["tree"])] + [{"image": "b.jpg", "labels": ""}]
    assert _labels(folder, *map(json.dumps, rows), name="l.jsonl") == BOTH


def test_a_tsv_is_a_table_and_a_source(folder: Path) -> None:
    assert _labels(folder, "image\tlabels", "a.jpg\tcat;tree", "b.jpg\t", name="l.tsv") == BOTH
    (folder / "t.tsv").write_text("image\tlabels\na.jpg\tcat\n")
    assert [sample.labels for sample in find_samples(folder / "t.tsv")] == [("cat",)]


def test_an_imagefolder_has_other_columns_and_separators_too(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,tags\na.jpg,cat|tree\nb.jpg,\n")
    form = TableFormat(label_column="tags", separator="|")
    assert {sample.id: sample.labels for sample in find_samples(folder, table=form)} == BOTH


@pytest.mark.parametrize(
    ("header", "message", "flags"),
    [
        ("filename,class", "--image-column filename --label-column class", True),
        ("File Name,w,Tags", "--image-column 'File Name' --label-column Tags", True),
        ("picture,what", "--image-column COLUMN --label-column COLUMN", False),
        ("image,what", "--image-column image --label-column COLUMN", False),
        ("image,labels,labels", "with 'labels' twice; rename one", False),
    ],
)
def test_a_header_of_other_names_is_told_its_flags(folder: Path, header: str, message: str, flags: bool) -> None:
    row = "a.jpg," + "cat," * (header.count(",") - 1) + "cat"
    with pytest.raises(DatasetError, match=rf"labels\.csv, line 1: the header is \[.*{re.escape(message)}"):
        _labels(folder, header, row)
    if flags:
        given = dict(zip(("image_column", "label_column"), shlex.split(message)[1::2], strict=True))
        assert _labels(folder, header, row, row.replace("a", "b", 1), **given)["a"] == ("cat",)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.jpg,cat,tree", "separate labels with ';', put them between quotation marks, or say --label-separator ','"),
        ("a.jpg", "1 columns where the header has 2; end the row of an image without labels in ','"),
    ],
)
def test_cells_without_a_column_are_told_what_works(folder: Path, row: str, message: str) -> None:
    with pytest.raises(DatasetError, match=re.escape(message)):
        _labels(folder, "image,labels", row)
    rows = ["a.jpg,cat;tree", 'b.jpg,""']
    assert _labels(folder, "image,labels", *rows) == BOTH


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("separator", "", "separator is ''"),
        ("image_column", " ", "image_column is ' '"),
        ("label_column", "Image", "both"),
    ],
)
def test_a_format_is_checked(field: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TableFormat(**{field: value})


# --- what a label that is no class is told, and what it is told works


@pytest.mark.parametrize("separator", [",", "|", "/", "+", " "])
def test_joined_labels_are_told_their_separator(folder: Path, separator: str) -> None:
    cell = separator.join(["cat", "tree"])
    rows = ["image,labels", f'a.jpg,"{cell}"', "b.jpg,"]
    _labels(folder, *rows)
    with pytest.raises(ValueError, match=r"labels\.csv, line 2: unknown class .*these are several classes") as error:
        check_labels(find_samples(folder, folder.parent / "labels.csv"), OWN)
    said = re.search(r"--label-separator '(.+?)' \(in Python table=(TableFormat\(.*\))\)", str(error.value))
    assert said and said[1] == separator
    assert _labels(folder, *rows, separator=said[1]) == BOTH == _labels(folder, *rows, **vars(eval(said[2])))
    assert labels_argument(cell, separator) == ("cat", "tree")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["nan"], "'nan' in custom; it stands for an empty cell; leave the cell empty"),
        (["None"], "it stands for an empty cell"),
        (["background"], "every mask has a background, which is no class; leave this label out"),
        (["Cat"], "unknown class 'Cat' in custom; did you mean 'cat'?"),
        (
            ["Cat", "hat rack"],
            "unknown classes 'Cat' (did you mean 'cat'?), 'hat rack' in custom; its classes are cat,",
        ),
        (["CAT"], "did you mean 'cat'?"),
    ],
)
def test_other_labels_are_told_what_they_are(labels: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        OWN.ids(labels)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("cat,tree", ["cat", "tree"]),
        ("cat, potted plant", ["cat", "potted plant"]),
        ("cat;tree", ["cat", "tree"]),
        ("cat|tree", ["cat", "tree"]),
        ("['cat', 'tree']", ["cat", "tree"]),
        ("cat", ["cat"]),
        ("potted plant", ["potted plant"]),
        ("Cat", ["cat"]),
        ("cta", ["cat"]),
    ],
)
def test_one_string_is_told_a_list_that_works(given: str, wanted: list[str], tiny: Any) -> None:
    with pytest.raises(
        TypeError, match=rf"labels: expected a list of strings, got .*; write {re.escape(str(wanted))}$"
    ):
        OWN.ids(given)
    OWN.ids(wanted)
    with pytest.raises(TypeError, match=re.escape("such as ['apple', 'balloon']")):
        tiny.vocabulary.ids("zzzz")


def test_the_generator_names_a_list_that_works(tiny: Any) -> None:
    image = clipes.scenes.draw_scene(seed=1, size=(32, 32)).image
    with pytest.raises(TypeError, match=re.escape("got 'boat,fish'; write ['boat', 'fish']")):
        tiny(image, "boat,fish")
    with pytest.raises(ValueError, match=re.escape("these are several classes: write ['boat', 'fish']")):
        tiny(image, ["boat,fish"])
    assert tiny(image, ["boat", "fish"]).labels == ("boat", "fish")


# --- the command and clipes.run


def test_the_command_and_python_read_the_same(photos: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(photos.parent)
    Path("t.csv").write_text("name,tag\na.jpg,tree|cat\nb.png,\nsub/c.jpg,cat\nsub/c.jpg,tree\n")
    flags = ["--image-column", "name", "--label-column", "tag", "--label-separator", "|"]
    assert main(["generate", "photos", "--labels", "t.csv", *flags, "--out", "command"]) == 0
    said = capsys.readouterr().err
    assert "1 of 3 image(s) without a label: all background" in said
    assert "1 image(s) have several rows, whose labels are joined, 'sub/c.jpg' the first" in said
    form = TableFormat("name", "tag", "|")
    with pytest.warns(UserWarning, match="have several rows"):
        assert clipes.run("photos", "python", "t.csv", table=form).ok == 3
    masks = [{path.name: path.read_bytes() for path in Path(folder).rglob("*.png")} for folder in ("command", "python")]
    assert masks[0] == masks[1] and len(masks[0]) == 3
    for folder in ("command", "python"):
        plan = json.loads(Path(folder, "run.json").read_text())["plan"]
        assert plan["table"] == {"image_column": "name", "label_column": "tag", "separator": "|"}
    assert main(["generate", "--like", "command", "--out", "again"]) == 0
    assert {path.name for path in Path("again").rglob("*.png")} == set(masks[0])


def test_a_table_of_other_columns_is_found_again_by_its_run(photos: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(photos.parent)
    Path("photos/t.csv").write_text("file;tags\na.jpg;cat\n")
    flags = ["--image-column", "file", "--label-column", "tags", "--save-patch-cams"]
    assert main(["generate", "photos/t.csv", *flags, "--out", "m"]) == 0
    assert main(["finalize", "m", "--refine", "par"]) == 0
    assert main(["export", "m", "--to", "voc", "--out", "x"]) == 0
    assert Path("x/JPEGImages/a.jpg").is_file()


@pytest.mark.parametrize("command", ["sharpness", "background"])
def test_other_commands_read_them_too(photos: Path, command: str, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(photos.parent)
    Path("t.csv").write_text("name,tag\na.jpg,cat|tree\nb.png,cat|tree\n")
    Path("words.txt").write_text("ground\n")
    flags = ["--image-column", "name", "--label-column", "tag", "--label-separator", "|", "--unlabelled", "skip"]
    more = ["--templates", "a {}.", "--out", "s"] if command == "sharpness" else ["--candidates", "words.txt"]
    assert main([command, "photos", "--labels", "t.csv", *flags, *more]) == 0
    assert "1 image(s) without a row in the labels file are left out" in capsys.readouterr().err


# --- images without a label or without a row


def test_no_label_at_all_is_warned_of(photos: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(photos.parent)
    names = ["a.jpg", "b.png", "sub/c.jpg"]
    Path("t.csv").write_text("image,labels\n" + "".join(f"{name},\n" for name in names))
    said = "none of the 3 image(s) has a label, so that every mask is all background; the first is that of"
    assert main(["generate", "photos", "--labels", "t.csv", "--out", "m"]) == 0
    assert f"warning: {said}" in capsys.readouterr().err
    with pytest.warns(UserWarning, match=re.escape(said)):
        clipes.run("photos", "p", "t.csv")
    root = Path("coco")
    (root / "annotations").mkdir(parents=True)
    Path("photos").rename(root / "train")
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    data = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (root / "annotations/instances_train.json").write_text(json.dumps(data))
    assert main(["generate", "coco:coco", "--out", "c"]) == 0
    assert "warning: none of the 3 image(s) has a label" in capsys.readouterr().err


def test_images_without_a_row_are_left_out(folder: Path) -> None:
    (folder / "c.jpg").touch()
    path = folder.parent / "labels.csv"
    path.write_text("image,labels\nc.jpg,cat\n")
    with pytest.raises(DatasetError, match=r"2 image\(s\) without a row .*: a\.jpg, b\.jpg; .*\(--unlabelled skip\)"):
        find_samples(folder, path)
    samples = find_samples(folder, path, unlabelled="skip")
    assert [sample.id for sample in samples] == ["c"] == [samples[0].id] and samples[-1].labels == ("cat",)
    assert samples.notes == ("2 image(s) without a row in the labels file are left out, 'a.jpg' the first",)
    path.write_text("image,labels\nd.jpg,cat\n")
    with pytest.raises(DatasetError, match=r"3 image\(s\) without a row"):
        find_samples(folder, path, unlabelled="skip")
    with pytest.raises(ValueError, match="unlabelled is 'ignore'; it is 'refuse', 'skip' or 'tag'"):
        find_samples(folder, path, unlabelled="ignore")  # type: ignore[arg-type]


def test_names_that_differ_in_case_are_named(folder: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"a\.jpg, b\.jpg; .*spell the names as they are \(.*line 3 names 'A\.JPG'\)"
    ):
        _labels(folder, "image,labels", "z.jpg,cat", "A.JPG,cat")


def test_the_command_and_python_leave_them_out(photos: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(photos.parent)
    Path("t.csv").write_text("image,labels\na.jpg,cat\n")
    assert main(["generate", "photos", "--labels", "t.csv", "--out", "m"]) == 2
    assert "--unlabelled skip" in capsys.readouterr().err
    assert main(["generate", "photos", "--labels", "t.csv", "--out", "m", "--unlabelled", "skip"]) == 0
    out = capsys.readouterr()
    assert "2 image(s) without a row in the labels file are left out" in out.err and "1 of 1 masks" in out.out
    with pytest.warns(UserWarning, match="without a row in the labels file are left out"):
        assert clipes.run("photos", "p", "t.csv", faults=Faults(unlabelled="skip")).ok == 1
