"""clipes.datasets: tables of labels."""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipes.datasets import DatasetError, find_samples
from clipes.datasets.catalog import catalogue
from clipes.datasets.match import add_rows
from clipes.datasets.tables import read_table
from clipes.io.tempdb import decode_name

FUZZ = settings(
    max_examples=int(os.environ.get("CLIPES_FUZZ", "150")),  # CLIPES_FUZZ=100000 for a night
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def read_rows(path):
    """The rows of a table as the catalogue keeps them."""
    with catalogue() as database:
        add_rows(database, read_table(path))
        rows = database.execute("SELECT key, labels, origin FROM row ORDER BY position").fetchall()
    return {decode_name(key): (tuple(json.loads(labels)), decode_name(origin)) for key, labels, origin in rows}


def read_labels(path):
    return {image: labels for image, (labels, _) in read_rows(path).items()}


def _table(folder, *lines, name="labels.csv"):
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


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
        "a\nb.jpg": (("dog",), f"{path}, line 3"),
        "c.jpg": (("cat",), f"{path}, line 5"),
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
        "a\u2028.jpg": (("potted plant", "dog"), f"{path}, line 1"),
        "b": ((), f"{path}, line 2"),
    }


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl"])
def test_bom_and_crlf_are_accepted(tmp_path, name):
    lines = ["image,labels", "ä.jpg,Hündin"] if name == "labels.csv" else ['{"image": "ä.jpg", "labels": ["Hündin"]}']
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + "".join(f"{line}\r\n" for line in lines).encode())
    assert read_labels(path) == {"ä.jpg": ("Hündin",)}


def test_lines_of_a_csv_may_end_in_cr(tmp_path):
    (tmp_path / "labels.csv").write_bytes(b"image,labels\ra.jpg,dog\rb.jpg,cat\r")
    assert read_labels(tmp_path / "labels.csv") == {"a.jpg": ("dog",), "b.jpg": ("cat",)}


def test_an_image_may_come_twice_with_the_same_labels(tmp_path):
    path = _table(tmp_path, "image,labels", "a.jpg,dog;cat", "./a.jpg,cat;dog")
    assert read_labels(path) == {"a.jpg": ("dog", "cat")}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a.jpg,dog"], r"line 1: the header is \['a.jpg', 'dog'\], which names an image; write 'image,labels' above"),
        (["image:labels", "a.jpg:dog"], r"line 1: the header is \['image:labels'\]; write 'image,labels'"),
        (["image,labels,labels", "a,b,c"], "line 1: the header is"),
        (
            ["image,boat,fish", "a.jpg,1,0"],
            "a column for each class is not read: write the names of an",
        ),
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
            ["image,labels,Confidence", "a.jpg,dog,1", "a.jpg,cat,0"],
            "line 3: its confidence is 0, .* not show cat; rem",
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
        ('{"image": "a.jpg", "labels": null}', "line 2: not of the form"),
        ('{"image": "a.jpg", "labels": ["dog", 3]}', r"line 2: \['dog', 3\] is not a list of strings"),
        ('{"image": "a.jpg", "labels": [["dog"]]}', "line 2: .* is not a list of strings"),
        ('{"image": " ", "labels": ["dog"]}', "line 2: the image is blank"),
        ('{"image": "a.jpg", "labels": ["dog", ""]}', "line 2: label 2 of 2 is blank"),
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
    with pytest.raises(
        DatasetError, match=rf"{name}: a labels file is \.csv, \.tsv, \.jsonl, \.json; to give names, pass a list"
    ):
        read_labels(tmp_path / name)


def test_missing_labels_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.csv"):
        read_labels(tmp_path / "absent.csv")


@FUZZ
@given(name=st.sampled_from(["any.csv", "any.jsonl"]), data=st.binary() | st.text().map(str.encode))
def test_any_bytes_are_rows_or_a_dataset_error(tmp_path, name, data):
    (tmp_path / name).write_bytes(b"image,labels\n" * (name == "any.csv") + data)
    try:
        rows = read_rows(tmp_path / name)
    except DatasetError as error:
        assert name in str(error)
    else:
        assert rows
        assert all(
            image and all(label.strip() == label != "" for label in labels) for image, (labels, _) in rows.items()
        )


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/;\0\r\n"), min_size=1).filter(
    lambda name: name.strip() == name and name not in (".", "..")
)


LABELS = NAMES.filter(lambda name: name[0] not in "[{(")  # a cell in brackets is a list


@FUZZ
@given(table=st.dictionaries(NAMES, st.lists(LABELS, unique=True).map(tuple), min_size=1))
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
