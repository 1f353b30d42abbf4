"""clipes.datasets.coco: instances JSON."""

import json
import os
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipes.datasets import DatasetError, Sample, find_samples

FUZZ = settings(
    max_examples=int(os.environ.get("CLIPES_FUZZ", "150")),  # CLIPES_FUZZ=100000 for a night
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

DATA = {
    "info": {"year": 2017},
    "licenses": [{"id": 1, "name": "by", "url": "x"}],
    "images": [
        {"id": 9, "file_name": "b.jpg", "width": 4, "height": 3},
        {"id": 7, "file_name": "sub/a.jpg"},
        {"id": 8, "file_name": "c.jpg"},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 90, "segmentation": [[1, 2, 3, 4]], "iscrowd": 0},
        {"id": 2, "image_id": 9, "category_id": 3, "segmentation": {"counts": [1], "size": [3, 4]}, "iscrowd": 1},
        {"id": 3, "image_id": 7, "category_id": 3},
        {"id": 4, "image_id": 7, "category_id": 90},
    ],
    "categories": [
        {"id": 3, "name": "car", "supercategory": "vehicle"},
        {"id": 90, "name": "toothbrush"},
        {"id": 5, "name": "airplane"},
    ],
}


def _write(root, data, split="val2017"):
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data) if not isinstance(data, str) else data, encoding="utf-8")
    return path


@pytest.fixture
def make(tmp_path):
    """Return a function that makes a data set, its images in the folder given, and returns its root."""

    def make(folder="val2017", data=DATA):
        root = tmp_path / "coco"
        for name in ("b.jpg", "sub/a.jpg", "c.jpg"):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (root / folder / name).touch()
        _write(root, data)
        return root

    return make


def test_labels_are_the_categories_of_an_image_in_order(make):
    root = make()
    file = root / "annotations" / "instances_val2017.json"
    for source in (f"coco:{root}", f"coco:{root}:val2017"):
        samples = find_samples(source)
        assert list(samples) == [
            Sample("b", root / "val2017" / "b.jpg", ("car",)),
            Sample("sub/a", root / "val2017" / "sub/a.jpg", ("toothbrush", "car")),
            Sample("c", root / "val2017" / "c.jpg", ()),
        ]
        assert samples[1].origin == f"{file}, image 1"
        assert samples.category_ids == {"car": 3, "toothbrush": 90, "airplane": 5}


@pytest.mark.parametrize("folder", ["val2017", "images/val2017", "images", "."])
def test_images_lie_in_one_of_four_folders(make, folder):
    root = make(folder)
    (root / "val2017").mkdir(exist_ok=True)
    assert find_samples(f"coco:{root}")[0].image == root / folder / "b.jpg"


def test_labels_given_replace_those_of_coco(make, tmp_path):
    (tmp_path / "l.csv").write_text("image,labels\nb,dog\na.jpg,\nc,car\n")
    samples = find_samples(f"coco:{make()}", tmp_path / "l.csv")
    assert {sample.id: sample.labels for sample in samples} == {"b": ("dog",), "sub/a": (), "c": ("car",)}
    assert samples.category_ids == {"car": 3, "toothbrush": 90, "airplane": 5}


def test_missing_images(make):
    root = make()
    (root / "val2017" / "c.jpg").unlink()
    with pytest.raises(DatasetError, match=r"1 image\(s\) .*instances_val2017\.json, image 2: no such image: 'c\.jpg'"):
        find_samples(f"coco:{root}")
    assert len(find_samples(f"coco:{root}", missing="skip")) == 3


def test_splits_are_named(make):
    root = make()
    _write(root, DATA, "train2017")
    with pytest.raises(
        FileNotFoundError, match=r"coco: no split is given; splits in .*: train2017, val2017; write coco:"
    ):
        find_samples(f"coco:{root}")
    with pytest.raises(FileNotFoundError, match=r"coco: no .*instances_test\.json; splits in .*: train2017, val2017"):
        find_samples(f"coco:{root}:test")


def test_a_root_without_annotations(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"coco: no split is given; splits in .*annotations: none"):
        find_samples(f"coco:{tmp_path}")
    with pytest.raises(FileNotFoundError, match="coco: no such folder: '/absent'"):
        find_samples("coco:/absent")


IMAGE, CATEGORY = {"id": 1, "file_name": "b.jpg"}, {"id": 3, "name": "car"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "broken JSON: "),
        ("[" * 100_000, "broken JSON: "),
        ("[]", "not COCO's form: an object with lists"),
        ('{"images": [], "annotations": {}, "categories": []}', "not COCO's form"),
        ('{"image_id": 3}', "not COCO's form"),
        ({"images": []}, "no image found"),
        ({"images": [7]}, "image 0: not an object with an 'id' and a 'file_name'"),
        ({"images": [IMAGE, {"id": 2}]}, "image 1: not an object with an 'id' and a 'file_name'"),
        ({"images": [IMAGE, {"id": 2, "file_name": " "}]}, "image 1: not an object"),
        ({"images": [IMAGE, {"id": 2, "file_name": "../b.jpg"}]}, "image 1: the id '../b' is not a relative path"),
        ({"images": [IMAGE, {"id": 2, "file_name": "/b.jpg"}]}, "image 1: the id '/b' is not a relative path"),
        ({"images": [IMAGE, {"id": 2, "file_name": "b.png"}]}, r"b\.jpg and .*b\.png would both become one mask"),
        (
            {"images": [IMAGE, {"id": 1, "file_name": "c.jpg"}]},
            r"image 1: the id 1 is that of 'b\.jpg', too; ",
        ),
        ({"images": [IMAGE, {"id": True, "file_name": "c.jpg"}]}, r"image 1: the id True is that of 'b\.jpg', too"),
        ({"annotations": [{"id": 1}]}, "annotation 0: not an object with 'image_id' and 'category_id'"),
        ({"annotations": [{"image_id": 4, "category_id": 3}]}, "annotation 0: there is no image of id 4"),
        ({"annotations": [{"image_id": [], "category_id": 3}]}, "annotation 0: not an object"),
        ({"annotations": [{"image_id": 1, "category_id": 4}]}, "annotation 0: there is no category of id 4"),
        ({"annotations": [{"image_id": 1}]}, "annotation 0: there is no category of id None"),
        ({"annotations": [{"image_id": 1, "category_id": {}}]}, "annotation 0: there is no category of id"),
        ({"categories": [{"id": "3", "name": "car"}]}, "category 0: not an object with a whole 'id' and a 'name'"),
        ({"categories": [{"id": 3}]}, "category 0: not an object with a whole 'id'"),
        ({"categories": [{"id": 3, "name": 4}]}, r"category 0: \[4\] is not a list of strings"),
        ({"categories": [CATEGORY, {"id": 4, "name": "car"}]}, "category 1: the id 4 or the name 'car' comes twice"),
        ({"categories": [CATEGORY, {"id": 3, "name": "dog"}]}, "category 1: the id 3 or the name 'dog' comes twice"),
    ],
)
def test_wrong_json(make, change, message):
    data = {"images": [IMAGE], "annotations": [], "categories": [CATEGORY]}
    root = make(data=change if isinstance(change, str) else {**data, **change})
    with pytest.raises(DatasetError, match=message):
        find_samples(f"coco:{root}", missing="skip")


def test_polygons_do_not_stay_in_memory(make):
    polygon = {"segmentation": [[float(n) for n in range(300)]], "bbox": [1.0, 2.0, 3.0, 4.0], "area": 2.5}
    annotations = [{**polygon, "id": n, "image_id": 9, "category_id": 3} for n in range(3000)]
    root = make(data={**DATA, "annotations": annotations})
    size = (root / "annotations" / "instances_val2017.json").stat().st_size
    del annotations
    tracemalloc.start()
    find_samples(f"coco:{root}")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * size  # the text twice, while it is decoded; with polygons it is above 5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("b.jpg") | st.just(1),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["id", "name", "file_name", "image_id", "category_id", "images", "annotations", "categories"]
            ),
            inner,
        )
    ),
    max_leaves=25,
)


@FUZZ
@given(
    data=st.binary()
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries({name: st.lists(JSON, max_size=3) for name in ("images", "annotations", "categories")}).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_any_bytes_are_samples_or_a_dataset_error(make, data):
    root = make()
    (root / "annotations" / "instances_val2017.json").write_bytes(data)
    try:
        assert len(find_samples(f"coco:{root}", missing="skip"))
    except DatasetError as error:
        assert str(root) in str(error)
