"""clipes.datasets: which images there are, and which labels each has."""

import json
import os
import re
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipes.datasets import DatasetError, Sample, absolute_source, find_samples
from clipes.datasets.sample import check_id
from clipes.io.paths import source_would_match

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def tree(tmp_path):
    """Return a function that makes empty files below a folder `images` and returns that folder."""

    def make(*names):
        for name in names:
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "images"

    return make


def _table(folder, *lines, name="labels.csv"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _ids(samples):
    return [sample.id for sample in samples]


def _labels(samples):
    return {sample.id: sample.labels for sample in samples}


# --- images


def test_folder_is_searched_in_order_without_hidden_files(tree):
    folder = tree(
        "b.JPG", "a.png", "cats/z.webp", "cats/.a.jpg", ".git/a.jpg", "notes.txt", "labels.csv", "2007.v2.jpg"
    )
    samples = find_samples(folder, ["dog", " dog", "cat"])
    assert _ids(samples) == ["2007.v2", "a", "b", "cats/z"]
    assert samples[3] == Sample("cats/z", folder / "cats" / "z.webp", ("dog", "cat"))


def test_links_are_followed_but_not_in_a_circle(tree, tmp_path):
    folder = tree("a.jpg", "sub/b.jpg")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "c.jpg").touch()
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "other").symlink_to(tmp_path / "elsewhere")
    assert _ids(find_samples(folder, [])) == ["a", "other/c", "sub/b"]


def test_a_link_to_nothing_is_an_image_that_cannot_be_read(tree):
    folder = tree("a.jpg")
    (folder / "b.jpg").symlink_to("absent.jpg")
    assert _ids(find_samples(folder, [])) == _ids(find_samples(folder / "*", [])) == ["a", "b"]


def test_one_image(tree):
    path = tree("sub/a.jpg") / "sub" / "a.jpg"
    assert list(find_samples(str(path), ("dog",))) == [Sample("a", path, ("dog",))]


def test_glob(tree):
    folder = tree("x/a.jpg", "x/deep/b.jpg", "y/a.jpg", "y/c.txt", "[1].jpg")
    assert _ids(find_samples(folder / "*" / "*", [])) == ["x/a", "y/a"]
    assert _ids(find_samples(str(folder / "x" / "**" / "*.jpg"), [])) == ["a", "deep/b"]
    assert _ids(find_samples(folder / "[1].jpg", [])) == ["[1]"]


@pytest.mark.parametrize("name", ["photos [2024]", "what?", "a*b", "[x]/[y]"])
def test_a_pattern_in_a_folder_whose_name_looks_like_one(tree, tmp_path, name, monkeypatch):
    folder = tmp_path / name
    for file in ("a.jpg", "sub/b.jpg", "c.png"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    (tmp_path / "photos 2").mkdir()
    (tmp_path / "photos 2" / "d.jpg").touch()
    monkeypatch.chdir(tmp_path)
    for source in (folder, Path(name)):
        assert _ids(find_samples(source / "*.jpg", [])) == ["a"]
        assert _ids(find_samples(source / "**" / "*.jpg", [])) == ["a", "sub/b"]
        assert source_would_match(source / "*.jpg")(folder / "0.jpg")
        assert not source_would_match(source / "*.jpg")(tmp_path / "photos 2" / "0.jpg")
    with tarfile.open(folder / "s-1.tar", "w") as tar:
        tar.add(folder / "a.jpg", "a.jpg")
    assert _ids(find_samples(folder / "s-*.tar", [])) == _ids(find_samples(f"{folder}/s-{{1..1}}.tar", [])) == ["a"]
    with pytest.raises(FileNotFoundError, match="no such image"):
        find_samples(folder / "absent.jpg", [])


def test_relative_glob(tree, monkeypatch):
    monkeypatch.chdir(tree("x/a.jpg", "b.jpg"))
    assert _ids(find_samples("*.jpg", [])) == ["b"]
    assert _ids(find_samples("../images/*/*.jpg", [])) == ["x/a"]


def test_list_keeps_its_order(tree):
    folder = tree("a.jpg", "cats/b.jpg", "no_suffix.v2")
    source = _table(folder, "# first", "cats/b.jpg", "", "  a.jpg\r", "./cats/b.jpg", "no_suffix.v2", name="list.txt")
    samples = find_samples(source, [])
    assert _ids(samples) == ["cats/b", "a", "no_suffix.v2"]
    assert samples[0].image == folder / "cats" / "b.jpg"


def test_ids_of_a_list_never_leave_the_output_folder(tree, tmp_path):
    folder = tree("x/a.jpg", "x/deep/b.jpg")
    source = _table(tmp_path / "lists", "../images/x/a.jpg", str(folder / "x" / "deep" / "b.jpg"), name="list.txt")
    assert _ids(find_samples(source, [])) == ["a", "deep/b"]


@pytest.mark.parametrize("start", ["../images", "{folder}"])
def test_one_image_outside_is_enough_to_name_all_from_above(tree, tmp_path, start):
    folder = tree("x/a.jpg", "b.jpg")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "c.jpg").touch()
    source = _table(tmp_path / "lists", "c.jpg", f"{start.format(folder=folder)}/x/a.jpg", name="list.txt")
    assert _ids(find_samples(source, [])) == ["lists/c", "images/x/a"]


@QUICK
@given(
    names=st.lists(
        st.sampled_from(["a.jpg", "../b.jpg", "../../images/s/c.jpg", "/abs/d.jpg", "s/../e.jpg"]), min_size=1
    )
)
def test_ids_are_relative_and_free_of_dots(tree, names):
    folder = tree("s/a.jpg", "b.jpg", "s/c.jpg", "d.jpg", "s/e.jpg", "s/s/e.jpg")
    lines = [name.replace("/abs", str(folder)) for name in names]
    samples = find_samples(_table(folder / "s", *lines, name="list.txt"), [])
    for sample in samples:
        assert not sample.id.startswith("/") and ".." not in sample.id.split("/")
    assert len({sample.id for sample in samples}) == len(set(names))


@pytest.mark.parametrize("name", ["absent.jpg", "cats"])
def test_list_with_a_missing_image_names_the_line(tree, name):
    source = _table(tree("a.jpg", "cats/b.jpg"), "a.jpg", "", name, name="list.txt")
    with pytest.raises(
        DatasetError, match=rf"1 image\(s\) are not there: .*list\.txt, line 3: no such image: '{name}'"
    ):
        find_samples(source, [])
    samples = find_samples(source, [], missing="skip")
    assert _ids(samples) == ["a", name.removesuffix(".jpg")]
    assert samples[1].image == source.parent / name


def test_missing_images_are_counted_and_five_named(tree):
    names = [f"{number}.jpg" for number in range(7)]
    source = _table(tree("3.jpg"), *names, name="list.txt")
    with pytest.raises(
        DatasetError, match=r"6 image\(s\) are not there: .*; \.\.\.; correct .*--missing skip"
    ) as error:
        find_samples(source, [])
    assert re.findall(r"line (\d): no such image", str(error.value)) == ["1", "2", "3", "5", "6"]


def test_missing_is_one_of_two(tree):
    with pytest.raises(ValueError, match="missing is 'ignore'; it is 'refuse' or 'skip'"):
        find_samples(tree("a.jpg"), [], missing="ignore")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 5000, r"a part of 'xxx.*' would be 5004 bytes long, above 250; shorten it"),
        ("ä" * 124 + ".jpg", r"would be 252 bytes long"),
        ("x" * 250 + "/a.jpg", None),
        ("x" * 251 + "/a.jpg", r"would be 251 bytes"),
        ("x" * 246 + ".jpg", None),
        ("a\0.jpg", r"'a\\x00\.jpg' holds a control character; rename"),
        ("a\x1b[31m.jpg", "holds a control character"),
        ("a\x85.jpg", "holds a control character"),
    ],
)
def test_ids_that_cannot_name_a_mask_are_refused(tree, name, message):
    source = _table(tree("a.jpg"), "a.jpg", name, name="list.txt")
    if message is None:
        assert len(find_samples(source, [], missing="skip")) == 2
        return
    with pytest.raises(DatasetError, match=rf"list\.txt, line 2: .*{message}"):
        find_samples(source, [], missing="skip")


@pytest.mark.parametrize("name", ["/a", "a/../b", "../a", "./a", "a//b", "a/", ""])
def test_ids_that_lead_out_of_the_folder_are_refused(name):
    with pytest.raises(DatasetError, match=r"here: the id '.*' is not a relative path without '\.' and '\.\.'; rename"):
        check_id(name, "here")


def test_an_id_must_be_a_possible_file_name():
    check_id("M\udcfcnchen", "here")  # bytes that are not UTF-8
    with pytest.raises(DatasetError, match=r"here: '\\ud800' cannot be the name of a file"):
        check_id("\ud800", "here")


def test_a_name_that_is_not_unicode(tree):
    folder = tree("a.jpg")
    name = os.fsencode(folder) + b"/M\xfcnchen.jpg"
    open(name, "wb").close()
    for source in (folder, folder / "*.jpg"):
        samples = find_samples(source, ["dog"])
        assert _ids(samples) == ["M\udcfcnchen", "a"]
        assert os.fsencode(samples[0].image) == name


def test_same_stem_twice_is_refused(tree):
    with pytest.raises(DatasetError, match=r"a\.jpg and .*a\.png would both become one mask; name the one"):
        find_samples(tree("cats/a.jpg", "cats/a.png"), [])


def test_same_stem_in_two_folders_is_fine(tree):
    assert _ids(find_samples(tree("dogs/b.jpg", "mice/b.png"), [])) == ["dogs/b", "mice/b"]


@pytest.mark.parametrize("source", ["empty", "list.txt", "*.jpg"])
def test_empty_sources_are_refused(tmp_path, source):
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(DatasetError, match=r"no image found; known are \.apng"):
        find_samples(tmp_path / source, [])


def test_missing_source(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such image, folder or list: .*absent"):
        find_samples(tmp_path / "absent", [])


def test_source_of_another_kind(tmp_path):
    path = _table(tmp_path, "image,labels", name="labels.xls")
    with pytest.raises(DatasetError, match=r"labels\.xls: neither an image by its suffix, a \.txt list nor a table"):
        find_samples(path, [])


def test_no_labels_from_anywhere(tree):
    with pytest.raises(DatasetError, match=r"images: no labels; give a labels file or names \(--labels\)"):
        find_samples(tree("a.jpg"))


# --- a table as the source


@pytest.mark.parametrize("name", ["data.csv", "data.jsonl"])
def test_a_table_is_a_source(tree, name):
    tree("b.jpg", "cats/a.png", "c.jpg")
    rows = [("images/cats/a.png", ["cat", "dog"]), ("images/b.jpg", []), ("./images/cats/a.png", ["dog", "cat"])]
    lines = (
        ["image,labels", *(f"{image},{';'.join(labels)}" for image, labels in rows)]
        if name == "data.csv"
        else [json.dumps({"image": image, "labels": labels}) for image, labels in rows]
    )
    source = _table(tree().parent, *lines, name=name)
    samples = find_samples(source)
    first = 2 if name == "data.csv" else 1
    assert list(samples) == [
        Sample("images/cats/a", source.parent / "images/cats/a.png", ("cat", "dog")),
        Sample("images/b", source.parent / "images/b.jpg", ()),
    ]
    assert [sample.origin for sample in samples] == [f"{source}, line {first}", f"{source}, line {first + 1}"]
    assert (samples.unused_rows, samples.first_unused) == (0, "")
    assert samples.category_ids is None


def test_ids_of_a_table_never_leave_the_output_folder(tree, tmp_path):
    folder = tree("x/a.jpg", "x/deep/b.jpg")
    source = _table(tmp_path / "t", "image,labels", "../images/x/a.jpg,", f"{folder}/x/deep/b.jpg,dog", name="t.csv")
    assert _labels(find_samples(source)) == {"a": (), "deep/b": ("dog",)}


def test_a_table_as_source_with_a_row_for_each_label(tree):
    rows = ["a.jpg,dog", "b.jpg,cat", "./a.jpg,cat", "b.jpg,cat"]
    samples = find_samples(_table(tree("a.jpg", "b.jpg"), "image,labels", *rows, name="t.csv"))
    assert _labels(samples) == {"a": ("dog", "cat"), "b": ("cat",)}
    assert samples.notes == ("1 image(s) have several rows, whose labels are joined, 'a.jpg' the first",)


def test_labels_replace_those_of_a_table(tree, tmp_path):
    source = _table(tree("a.jpg", "b.jpg"), "image,labels", "a.jpg,dog", "b.jpg,dog", name="t.csv")
    other = _table(tmp_path, "image,labels", "b,cat", "c,cat", "a,")
    samples = find_samples(source, other)
    assert _labels(samples) == {"a": (), "b": ("cat",)}
    assert [sample.origin for sample in samples] == [f"{other}, line 4", f"{other}, line 2"]
    assert _labels(find_samples(source, ["fox"])) == {"a": ("fox",), "b": ("fox",)}
    assert [sample.origin for sample in find_samples(source, ["fox"])] == ["", ""]


def test_blank_name_in_a_list_of_labels(tree):
    with pytest.raises(DatasetError, match="labels: label 2 of 2 is blank"):
        find_samples(tree("a.jpg"), ["dog", " "])


# --- images and rows


@pytest.mark.parametrize(
    "row",
    [
        "cats/a.jpg",
        "./cats/a.jpg",
        "cats/a",
        "a.jpg",
        "a",
        "images/cats/a.jpg",
        "images/cats/a",
        "../images/cats/a.jpg",
    ],
)
def test_a_row_names_its_image_in_many_ways(tree, tmp_path, row):
    folder = tree("cats/a.jpg", "b.jpg")
    table = _table(tmp_path, "image,labels", "b.jpg,dog", f"{row},cat")
    samples = find_samples(folder, table)
    assert _labels(samples) == {"b": ("dog",), "cats/a": ("cat",)}
    assert [sample.origin for sample in samples] == [f"{table}, line 2", f"{table}, line 3"]


def test_a_row_may_hold_the_full_path(tree, tmp_path):
    folder = tree("cats/a.jpg")
    table = _table(tmp_path, "image,labels", f"{folder}/cats/a.jpg,cat")
    assert _labels(find_samples(folder, table)) == {"cats/a": ("cat",)}


def test_rows_without_an_image_are_fine_and_counted(tree, tmp_path):
    table = _table(tmp_path, "image,labels", "a.jpg,dog", "b.jpg,cat", "c.jpg,cat")
    samples = find_samples(tree("b.jpg"), table)
    assert _labels(samples) == {"b": ("cat",)}
    assert (samples.unused_rows, samples.first_unused) == (2, "a.jpg")


def test_the_relative_path_wins_over_the_file_name(tree, tmp_path):
    table = _table(tmp_path, "image,labels", "a.jpg,dog", "cats/a.jpg,cat", "x/a.jpg,fox")
    samples = find_samples(tree("a.jpg", "cats/a.jpg"), table)
    assert _labels(samples) == {"a": ("dog",), "cats/a": ("cat",)}


def test_a_row_of_another_folder_is_not_taken(tree, tmp_path):
    """A table of train/ says nothing about val/, whatever the file names."""
    table = _table(tmp_path, "image,labels", "train/1.jpg,dog")
    with pytest.raises(DatasetError, match=r"1 image\(s\) without a row .*: 1\.jpg; .*line 2 names 'train/1.jpg'"):
        find_samples(tree("val/1.jpg") / "val", table)


def test_a_file_name_that_fits_several_images_is_refused(tree, tmp_path):
    folder = tree("x/a.jpg", "y/a.jpg", "b.jpg")
    table = _table(tmp_path, "image,labels", "b,dog", "a.jpg,cat")
    with pytest.raises(DatasetError, match=r"2 image\(s\) .*x/a\.jpg, y/a\.jpg; .*line 3, 'a\.jpg', fits several"):
        find_samples(folder, table)


def test_a_row_taken_by_its_own_image_serves_no_other(tree, tmp_path):
    table = _table(tmp_path, "image,labels", "a.jpg,cat")
    with pytest.raises(DatasetError, match=r"1 image\(s\) without a row .*: x/a\.jpg; add rows"):
        find_samples(tree("a.jpg", "x/a.jpg"), table)


def test_images_without_a_row_are_counted_and_named(tree, tmp_path):
    table = _table(tmp_path, "image,labels", "0.jpg,dog")
    folder = tree(*(f"{number}.jpg" for number in range(8)))
    with pytest.raises(DatasetError, match=r"7 image\(s\).*: 1\.jpg, 2\.jpg, 3\.jpg, 4\.jpg, 5\.jpg, \.\.\.; add rows"):
        find_samples(folder, table)


@pytest.mark.parametrize("name", ["a", "sub/a"])
def test_rows_with_and_without_suffix_are_joined(tree, tmp_path, name):
    folder = tree(f"{name}.jpg")
    samples = find_samples(folder, _table(tmp_path, "image,labels", "a,dog", "a.jpg,cat", "a,fox"))
    assert _labels(samples) == {name: ("cat", "dog", "fox")}
    assert samples.unused_rows == 0 and "1 image(s) have several rows" in samples.notes[0]
    samples = find_samples(folder, _table(tmp_path, "image,labels", "a,dog", "a.jpg,dog"))
    assert _labels(samples) == {name: ("dog",)} and samples.notes == ()


def test_list_file_and_labels_file(tree, tmp_path):
    tree("x/a.jpg", "y/a.jpg")
    source = _table(tmp_path, "images/y/a.jpg", "images/x/a.jpg", name="list.txt")
    table = _table(tmp_path, *(json.dumps({"image": f"images/{n}/a.jpg", "labels": [n]}) for n in "xy"), name="l.jsonl")
    assert _labels(find_samples(source, table)) == {"images/y/a": ("y",), "images/x/a": ("x",)}


def test_a_source_wherever_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("v/JPEGImages", "v/ImageSets/Segmentation", "c"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("v/ImageSets/Segmentation/train.txt", "train", "mine.txt"):
        (tmp_path / name).write_text("a\n")
    here = str(tmp_path)
    expected = {
        "photos": f"{here}/photos",
        "photos/*.jpg": f"{here}/photos/*.jpg",
        f"{here}/x": f"{here}/x",
        "voc:v": f"voc:{here}/v",
        "voc:v:train": f"voc:{here}/v:train",  # the split's, not the file of that name
        "voc:v:mine.txt": f"voc:{here}/v:{here}/mine.txt",
        f"voc:{here}/v:{here}/mine.txt": f"voc:{here}/v:{here}/mine.txt",
        "coco:c:train": f"coco:{here}/c:train",
    }
    assert {given: absolute_source(given) for given in expected} == expected
    with pytest.raises(FileNotFoundError, match="voc: no such folder: 'nowhere'"):
        absolute_source("voc:nowhere")
