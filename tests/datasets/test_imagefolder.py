"""clipes.datasets.imagefolder: folders with metadata.jsonl or metadata.csv."""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipes.datasets import DatasetError, Sample, find_images, find_samples

FUZZ = settings(
    max_examples=int(os.environ.get("CLIPES_FUZZ", "150")),  # CLIPES_FUZZ=100000 for a night
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
CLASSES = ("dog", "potted plant")


@pytest.fixture
def make(tmp_path):
    """Return a function that writes rows as metadata.jsonl beside empty images, and returns the folder."""

    def make(*rows, folder=".", images=("a.jpg", "sub/b.png")):
        below = tmp_path / "data" / folder
        for name in images:
            (below / name).parent.mkdir(parents=True, exist_ok=True)
            (below / name).touch()
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        (below / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
        return tmp_path / "data"

    return make


def _labels(samples):
    return {sample.id: sample.labels for sample in samples}


@pytest.mark.parametrize(
    ("row", "labels"),
    [
        ({"labels": ["dog", "fox", "dog"]}, ("dog", "fox")),
        ({"labels": "potted plant; fox"}, ("potted plant", "fox")),
        ({"labels": ""}, ()),
        ({"labels": [], "label": "fox"}, ()),
        ({"labels": [1, 0]}, ("potted plant", "dog")),
        ({"label": "fox"}, ("fox",)),
        ({"label": 1}, ("potted plant",)),
        ({"label": 0, "objects": {"categories": [1]}}, ("dog",)),
        ({"objects": {"bbox": [[1, 2, 3, 4]], "categories": ["fox", "dog", "fox"]}}, ("fox", "dog")),
        ({"objects": {"category": [1]}}, ("potted plant",)),
        ({"objects": {"categories": []}}, ()),
    ],
)
def test_forms_of_labels(make, row, labels):
    folder = make({"file_name": "a.jpg", **row})
    samples = find_samples(folder, class_names=CLASSES)
    assert list(samples) == [Sample("a", folder / "a.jpg", labels)]
    assert samples[0].origin == f"{folder / 'metadata.jsonl'}, line 1"


def test_csv(make):
    folder = make()
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.csv").write_text("file_name,text,label\nsub/b.png,x,1\na.jpg,y,\n")
    assert _labels(find_samples(folder, class_names=CLASSES)) == {"sub/b": ("potted plant",), "a": ()}
    (folder / "metadata.csv").write_text("file_name,labels\na.jpg,dog;0\n")
    assert _labels(find_samples(folder, class_names=("x", "0"))) == {"a": ("dog", "0")}


def test_tables_in_sub_folders(make):
    make({"file_name": "./a.jpg", "label": "dog"}, folder="train")
    folder = make({"file_name": "b.png", "label": "fox"}, {"file_name": "../a.jpg", "label": "cat"}, folder="test/deep")
    (folder / "test" / "a.jpg").touch()
    (folder / "test" / "deep" / "b.png").touch()
    (folder / ".cache").mkdir()
    (folder / ".cache" / "metadata.jsonl").write_text("broken")
    assert _labels(find_samples(folder)) == {"test/deep/b": ("fox",), "test/a": ("cat",), "train/a": ("dog",)}


def test_labels_given_come_before_metadata(make):
    folder = make("broken")
    assert _labels(find_samples(folder, ["dog"])) == {"a": ("dog",), "sub/b": ("dog",)}
    assert list(find_images(folder)) == ["a", "sub/b"]


def test_missing_images(make):
    folder = make({"file_name": "absent.jpg", "label": "dog"})
    with pytest.raises(DatasetError, match=r"metadata\.jsonl, line 1: no such image: 'absent\.jpg'"):
        find_samples(folder)
    assert len(find_samples(folder, missing="skip")) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r"metadata\.jsonl, line 2: broken JSON"),
        ("[]", r'line 2: not of the form \{"file_name": \.\.\.\}: \[\]'),
        ({"label": "dog"}, "line 2: the file_name is None; write the image's path"),
        ({"file_name": " ", "label": "dog"}, "line 2: the file_name is ' '"),
        ({"file_name": "a\0.jpg", "label": "dog"}, "line 2: .*control character"),
        ({"file_name": "../a.jpg", "label": "dog"}, "line 2: the id '../a' is not a relative path"),
        ({"file_name": "/a.jpg", "label": "dog"}, "line 2: the id '/a' is not a relative path"),
        ({"file_name": "sub/b.png"}, r"line 2: no labels; they are 'labels' \(a list of names"),
        ({"file_name": "sub/b.png", "labels": {}}, "line 2: no labels; they are"),
        ({"file_name": "sub/b.png", "objects": {"bbox": []}}, "line 2: no labels"),
        ({"file_name": "sub/b.png", "label": 2}, "line 2: the label 2 is not an index of 2 classes"),
        ({"file_name": "sub/b.png", "label": 1.5}, r"line 2: \[1\.5\] is not a list of strings"),
        ({"file_name": "sub/b.png", "labels": [None]}, r"line 2: \[None\] is not a list of strings"),
    ],
)
def test_wrong_rows_are_named(make, row, message):
    folder = make({"file_name": "a.jpg", "label": "dog"}, row)
    with pytest.raises(DatasetError, match=message):
        find_samples(folder, class_names=CLASSES)


def test_wrong_csv(make):
    folder = make()
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.csv").write_text("image,labels\na.jpg,dog\n")
    with pytest.raises(DatasetError, match=r"metadata\.csv, line 1: the header is .*; write 'file_name'"):
        find_samples(folder)
    (folder / "metadata.jsonl").touch()
    with pytest.raises(DatasetError, match=r"metadata\.csv and .*metadata\.jsonl: only one of them can count"):
        find_samples(folder)


def test_indices_need_the_classes(make):
    with pytest.raises(DatasetError, match="line 1: the label 1 is the index of a class, but no classes are given"):
        find_samples(make({"file_name": "a.jpg", "label": 1}))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.text(max_size=3) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["categories", "category"]), inner),
    max_leaves=6,
)
ROWS = st.fixed_dictionaries(
    {"file_name": st.just("a.jpg") | VALUES}, optional={name: VALUES for name in ("labels", "label", "objects")}
)


@FUZZ
@given(data=st.binary() | ROWS.map(lambda row: json.dumps(row).encode()), suffix=st.sampled_from([".csv", ".jsonl"]))
def test_any_bytes_are_samples_or_a_dataset_error(make, data, suffix):
    folder = make()
    (folder / "metadata.jsonl").unlink()
    table = folder / f"metadata{suffix}"
    table.write_bytes(b"file_name,label\n" * (suffix == ".csv") + data)
    try:
        samples = find_samples(folder, class_names=CLASSES, missing="skip")
        assert all(label.strip() == label != "" for sample in samples for label in sample.labels)
    except DatasetError as error:
        assert str(folder) in str(error)
    finally:
        table.unlink()
