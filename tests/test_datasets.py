"""clipes.datasets: which images there are, and which labels each has."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipes.datasets import Sample, find_samples
from clipes.labels import DatasetError, LabelRow, read_labels, read_rows

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


# --- labels files


def test_csv_is_read(tmp_path):
    path = _table(
        tmp_path,
        "image,labels",
        "a.jpg,dog;person",
        "cats/b.jpg,cat",
        "",
        "./c.png,",
        '"d,1.jpg"," dog ; dog"',
    )
    assert read_labels(path) == {
        "a.jpg": ("dog", "person"),
        "cats/b.jpg": ("cat",),
        "c.png": (),
        "d,1.jpg": ("dog",),
    }


def test_rows_know_their_line(tmp_path):
    path = _table(tmp_path, "image,labels", "", '"a', 'b.jpg",dog', "c.jpg,cat")
    assert read_rows(path) == {
        "a\nb.jpg": LabelRow(("dog",), f"{path}, line 3"),
        "c.jpg": LabelRow(("cat",), f"{path}, line 5"),
    }


def test_other_columns_and_their_order_do_not_matter(tmp_path):
    path = _table(tmp_path, "split, Labels ,image", "train,dog,a.jpg")
    assert read_labels(path) == {"a.jpg": ("dog",)}


def test_jsonl_is_read(tmp_path):
    rows = [
        {"image": "a\u2028.jpg", "labels": ["potted plant", "dog", "dog"]},
        {"image": "b", "labels": [], "w": 1},
    ]
    path = _table(tmp_path, *(json.dumps(row, ensure_ascii=False) for row in rows), "", name="labels.JSONL")
    assert read_rows(path) == {
        "a\u2028.jpg": LabelRow(("potted plant", "dog"), f"{path}, line 1"),
        "b": LabelRow((), f"{path}, line 2"),
    }


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl"])
def test_bom_and_crlf_are_accepted(tmp_path, name):
    lines = ["image,labels", "ä.jpg,Hündin"] if name == "labels.csv" else ['{"image": "ä.jpg", "labels": ["Hündin"]}']
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + "".join(f"{line}\r\n" for line in lines).encode())
    assert read_labels(path) == {"ä.jpg": ("Hündin",)}


def test_an_image_may_come_twice_with_the_same_labels(tmp_path):
    path = _table(tmp_path, "image,labels", "a.jpg,dog;cat", "./a.jpg,cat;dog")
    assert read_labels(path) == {"a.jpg": ("dog", "cat")}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a.jpg,dog"], r"line 1: the header is \['a.jpg', 'dog'\]; write 'image,labels'"),
        (["image;labels", "a.jpg;dog"], r"line 1: the header is \['image;labels'\]"),
        (["image,labels,labels", "a,b,c"], "line 1: the header is"),
        (["image,labels", "a.jpg,dog", "b.jpg"], "line 3: 1 columns where the header has 2; .*end the row"),
        (
            ["image,labels", "a.jpg,dog,person"],
            "line 2: 3 columns where the header has 2; separate labels with ';'",
        ),
        (["image,labels", ",dog"], "line 2: the image is blank"),
        (["image,labels", "a\0.jpg,dog"], "line 2: .*NUL"),
        (["image,labels", "..,dog"], r"line 2: '\.\.' is a folder"),
        (["image,labels", "a.jpg,dog;;cat"], "line 2: label 2 of 3 is blank; remove it"),
        (["image,labels", "a.jpg,dog;"], "line 2: label 2 of 2 is blank"),
        (
            ["image,labels", "a.jpg,dog", "", "a.jpg,cat"],
            "line 4: other labels for 'a.jpg' than .*line 2; remove one",
        ),
        (["image,labels", "b.jpg,cat", '"a.jpg,dog', "c.jpg,dog"], "line 3: broken CSV"),
        (["image,labels"], r"labels\.csv: no image in it; write one row"),
        ([""], r"labels\.csv: no image in it"),
    ],
)
def test_wrong_csv_names_the_line(tmp_path, lines, message):
    path = _table(tmp_path, *lines)
    with pytest.raises(DatasetError, match=message):
        read_labels(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"image": "a.jpg", "labels": ["dog"]', "line 2: broken JSON"),
        ("[" * 100_000, "line 2: broken JSON"),
        ('["a.jpg", "dog"]', "line 2: not of the form"),
        ('{"image": "a.jpg"}', "line 2: not of the form"),
        ('{"labels": ["dog"]}', "line 2: not of the form"),
        (
            '{"image": 7, "labels": ["dog"]}',
            'line 2: not of the form {"image": "a.jpg", "labels": .*: {"image": 7',
        ),
        ('{"image": "a.jpg", "labels": "dog"}', "line 2: not of the form"),
        ('{"image": "a.jpg", "labels": ["dog", 3]}', r"line 2: \['dog', 3\] is not a list of strings"),
        ('{"image": "a.jpg", "labels": [["dog"]]}', "line 2: .* is not a list of strings"),
        ('{"image": " ", "labels": ["dog"]}', "line 2: the image is blank"),
        ('{"image": "a.jpg", "labels": ["dog", ""]}', "line 2: label 2 of 2 is blank"),
        ('{"image": "z.jpg", "labels": ["dog"]}', "line 2: other labels for 'z.jpg' than .*line 1"),
    ],
)
def test_wrong_jsonl_names_the_line(tmp_path, line, message):
    path = _table(tmp_path, '{"image": "z.jpg", "labels": []}', line, name="labels.jsonl")
    with pytest.raises(DatasetError, match=message):
        read_labels(path)


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl", "list.txt"])
def test_wrong_encoding_names_the_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf\n# a\nM\xfcnchen.jpg,dog\n")
    with pytest.raises(DatasetError, match=rf"{name}, line 3: byte 0xfc is not UTF-8; save the file as UTF-8"):
        find_samples(tmp_path / name, []) if name == "list.txt" else read_labels(tmp_path / name)


@pytest.mark.parametrize("name", ["labels.txt", "labels", "dog"])
def test_other_labels_files_are_refused(tmp_path, name):
    with pytest.raises(DatasetError, match=rf"{name}: a labels file is \.csv or \.jsonl; to give names, pass a list"):
        read_labels(tmp_path / name)


def test_missing_labels_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.csv"):
        read_labels(tmp_path / "absent.csv")


@QUICK
@given(name=st.sampled_from(["any.csv", "any.jsonl"]), data=st.binary() | st.text().map(str.encode))
def test_any_bytes_are_rows_or_a_dataset_error(tmp_path, name, data):
    (tmp_path / name).write_bytes(b"image,labels\n" * (name == "any.csv") + data)
    try:
        rows = read_rows(tmp_path / name)
    except DatasetError as error:
        assert name in str(error)
    else:
        assert rows
        assert all(image and all(label.strip() == label != "" for label in row.labels) for image, row in rows.items())


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/;\0\r\n"), min_size=1).filter(
    lambda name: name.strip() == name and name not in (".", "..")
)


@QUICK
@given(table=st.dictionaries(NAMES, st.lists(NAMES, unique=True).map(tuple), min_size=1))
def test_what_is_written_is_read(tmp_path, table):
    def quoted(cell):
        return '"' + cell.replace('"', '""') + '"'

    _table(tmp_path, *(json.dumps({"image": k, "labels": v}) for k, v in table.items()), name="a.jsonl")
    _table(
        tmp_path,
        "image,labels",
        *(f"{quoted(k)},{quoted(';'.join(v))}" for k, v in table.items()),
        name="a.csv",
    )
    assert read_labels(tmp_path / "a.jsonl") == table
    assert read_labels(tmp_path / "a.csv") == table


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


def test_one_image(tree):
    path = tree("sub/a.jpg") / "sub" / "a.jpg"
    assert find_samples(str(path), ("dog",)) == [Sample("a", path, ("dog",))]


def test_glob(tree):
    folder = tree("x/a.jpg", "x/deep/b.jpg", "y/a.jpg", "y/c.txt", "[1].jpg")
    assert _ids(find_samples(folder / "*" / "*", [])) == ["x/a", "y/a"]
    assert _ids(find_samples(str(folder / "x" / "**" / "*.jpg"), [])) == ["a", "deep/b"]
    assert _ids(find_samples(folder / "[1].jpg", [])) == ["[1]"]


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


@pytest.mark.parametrize("name", ["absent.jpg", "x" * 5000, "a\0.jpg", "cats"])
def test_list_with_a_missing_image_names_the_line(tree, name):
    source = _table(tree("a.jpg", "cats/b.jpg"), "a.jpg", "", name, name="list.txt")
    with pytest.raises(DatasetError, match=r"list\.txt, line 3: no such image: '"):
        find_samples(source, [])


def test_same_stem_twice_is_refused(tree):
    with pytest.raises(DatasetError, match=r"a\.jpg and .*a\.png would both become one mask; rename"):
        find_samples(tree("cats/a.jpg", "cats/a.png"), [])


def test_same_stem_in_two_folders_is_fine(tree):
    assert _ids(find_samples(tree("dogs/b.jpg", "mice/b.png"), [])) == ["dogs/b", "mice/b"]


@pytest.mark.parametrize("source", ["empty", "list.txt", "*.jpg"])
def test_empty_sources_are_refused(tmp_path, source):
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(DatasetError, match=r"no image found; known are \.bmp"):
        find_samples(tmp_path / source, [])


def test_missing_source(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such image, folder or list: .*absent"):
        find_samples(tmp_path / "absent", [])


def test_source_of_another_kind(tmp_path):
    path = _table(tmp_path, "image,labels")
    with pytest.raises(DatasetError, match=r"labels\.csv: neither an image by its suffix nor a \.txt list"):
        find_samples(path, [])


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


def test_rows_without_an_image_are_fine(tree, tmp_path):
    table = _table(tmp_path, "image,labels", "a.jpg,dog", "b.jpg,cat")
    assert _labels(find_samples(tree("b.jpg"), table)) == {"b": ("cat",)}


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


def test_rows_with_and_without_suffix_must_agree(tree, tmp_path):
    folder = tree("a.jpg")
    with pytest.raises(DatasetError, match=r"line 3 and .*line 2: different labels for 'a\.jpg'; remove one"):
        find_samples(folder, _table(tmp_path, "image,labels", "a,dog", "a.jpg,cat"))
    assert len(find_samples(folder, _table(tmp_path, "image,labels", "a,dog", "a.jpg,dog"))) == 1


def test_list_file_and_labels_file(tree, tmp_path):
    tree("x/a.jpg", "y/a.jpg")
    source = _table(tmp_path, "images/y/a.jpg", "images/x/a.jpg", name="list.txt")
    table = _table(tmp_path, *(json.dumps({"image": f"images/{n}/a.jpg", "labels": [n]}) for n in "xy"), name="l.jsonl")
    assert _labels(find_samples(source, table)) == {"images/y/a": ("y",), "images/x/a": ("x",)}
