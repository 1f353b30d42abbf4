"""clipes.datasets.coco: instances JSON."""

import json
import os
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import clipes
from clipes.datasets import DatasetError, Sample, absolute_source, find_samples
from clipes.datasets.coco import read_image_ids
from clipes.io.paths import source_folder

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
        ({"categories": [{"id": "x", "name": "car"}]}, "category 0: not an object with a whole 'id' and a 'name'"),
        ({"categories": [{"id": 1.5, "name": "car"}]}, r"category 0: not an .* 'name': \{'id': 1\.5, 'name': 'car'\}"),
        ({"images": [{"id": 1.5, "file_name": "b.jpg"}]}, r"image 0: not an object .*: \{'id': 1\.5, "),
        (
            {"annotations": [{"image_id": "b7", "category_id": 3}]},
            "annotation 0: there is no image of id 'b7', of type str; theirs are of type int",
        ),
        (
            {"annotations": [{"image_id": 1, "category_id": "car"}]},
            "annotation 0: there is no category of id 'car', of type str; theirs are of type int",
        ),
        (
            {"images": [{"id": "a", "file_name": "b.jpg"}], "annotations": [{"image_id": 1, "category_id": 3}]},
            "annotation 0: there is no image of id 1, of type int; theirs are of type str",
        ),
        ({"annotations": [{"image_id": "4", "category_id": 3}]}, "there is no image of id '4'$"),
        ({"categories": [{"id": 3}]}, "category 0: not an object with a whole 'id'"),
        ({"categories": [{"id": 3, "name": 4}]}, r"category 0: \[4\] is not a list of strings"),
        (
            {"categories": [CATEGORY, {"id": "3", "name": "dog"}]},
            "category 1: the id 3 is that of 'car', too; change one",
        ),
        (
            {
                "categories": [CATEGORY, {"id": 4, "name": "car"}],
                "annotations": [{"image_id": 1, "category_id": 3}, {"image_id": 1, "category_id": 4}],
            },
            "the categories 3 and 4 are both called 'car'; rename one",
        ),
    ],
)
def test_wrong_json(make, change, message):
    data = {"images": [IMAGE], "annotations": [], "categories": [CATEGORY]}
    root = make(data=change if isinstance(change, str) else {**data, **change})
    with pytest.raises(DatasetError, match=message):
        find_samples(f"coco:{root}", missing="skip")


@pytest.mark.parametrize("form", [str, float, int])
@pytest.mark.parametrize("where", ["images", "annotations", "categories"])
def test_ids_that_differ_in_their_type_alone_are_one(make, form, where):
    data = {**DATA, where: [dict(one) for one in DATA[where]]}
    for one in data[where]:
        for key in ("image_id", "category_id") if where == "annotations" else ("id",):
            one[key] = form(one[key])
    samples = find_samples(f"coco:{make(data=data)}")
    assert [sample.labels for sample in samples] == [("car",), ("toothbrush", "car"), ()]
    assert samples.category_ids == {"car": 3, "toothbrush": 90, "airplane": 5}


@pytest.mark.parametrize("root_first", [True, False])
def test_an_unused_category_of_the_same_name_is_left_out(make, root_first):
    """Roboflow's root category."""
    both = [{"id": 0, "name": "car", "supercategory": "none"}, {"id": 3, "name": "car", "supercategory": "car"}]
    data = {**DATA, "categories": [*(both if root_first else both[::-1]), *DATA["categories"][1:]]}
    root = make(data=data)
    samples = find_samples(f"coco:{root}")
    assert samples.category_ids == {"car": 3, "toothbrush": 90, "airplane": 5} and samples[0].labels == ("car",)
    file = root / "annotations" / "instances_val2017.json"
    assert samples.notes == (f"{file}: the category 0, which no annotation uses, is left out: 3 is 'car', too",)


def _put(path, data=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("" if data is None else json.dumps(data))


@pytest.mark.parametrize(
    ("file", "images", "names"),
    [
        ("train/_annotations.coco.json", "train", ("b.jpg", "sub/a.jpg", "c.jpg")),  # Roboflow
        ("result.json", ".", ("images/b.jpg", "images/sub/a.jpg", "images/c.jpg")),  # Label Studio
        ("result.json", ".", ("images\\b.jpg", "images\\sub\\a.jpg", "images\\c.jpg")),  # and on Windows
        ("annotations/instances_default.json", "images", ("b.jpg", "sub/a.jpg", "c.jpg")),  # CVAT
        ("annotations/instances_val2017.json", "val2017", ("b.jpg", "sub/a.jpg", "c.jpg")),
        ("anything.json", "images", ("b.jpg", "sub/a.jpg", "c.jpg")),
    ],
)
def test_any_file_of_its_form(tmp_path, file, images, names):
    rows = [{**row, "file_name": name} for row, name in zip(DATA["images"], names, strict=True)]
    _put(tmp_path / file, {**DATA, "images": rows})
    slashed = [name.replace("\\", "/") for name in names]
    for name in slashed:
        _put(tmp_path / images / name)
    samples = find_samples(f"coco:{tmp_path / file}")
    assert [sample.id for sample in samples] == [name.removesuffix(".jpg") for name in slashed]
    assert [sample.image for sample in samples] == [tmp_path / images / name for name in slashed]
    assert samples[1].labels == ("toothbrush", "car") and samples.category_ids["toothbrush"] == 90
    assert [name for name, _ in read_image_ids(str(tmp_path / file))] == [sample.id for sample in samples]


def test_a_file_and_its_images_elsewhere(make, tmp_path, monkeypatch):
    root = make("photos")
    file = root / "annotations" / "instances_val2017.json"
    (root / "photos" / "b.jpg").unlink()  # the first: the others say which folder it is
    source = f"coco:{file}:{root / 'photos'}"
    with pytest.raises(DatasetError, match=rf"looked for {root}/photos/b\.jpg"):
        find_samples(source)
    assert find_samples(source, missing="skip")[1].image == root / "photos/sub/a.jpg"
    monkeypatch.chdir(root)
    assert absolute_source("coco:annotations/instances_val2017.json:photos") == source
    assert absolute_source("coco:annotations/instances_val2017.json") == f"coco:{file}"
    assert source_folder(source) == source_folder(f"coco:{file}") == file.parent
    with pytest.raises(FileNotFoundError, match=r"coco: no such folder of images: 'nowhere'; write coco:.*json:IMAGES"):
        find_samples(f"coco:{file}:nowhere")
    for missing in ("absent.json", "absent.json:photos"):
        with pytest.raises(
            FileNotFoundError, match=r"coco: no such (file|folder): 'absent\.json'; write coco:FILE\.json"
        ):
            find_samples(f"coco:{missing}")


def test_a_root_with_other_files_names_them(tmp_path):
    for split in ("train", "valid"):
        _put(tmp_path / split / "_annotations.coco.json", DATA)
    with pytest.raises(
        FileNotFoundError, match=r"write coco:FILE\.json, of .*train/_annotations\.coco\.json, .*valid/_ann"
    ):
        find_samples(f"coco:{tmp_path}")


def test_a_file_by_the_command_and_python(photos, tmp_path, cli):
    """Ids in text, a root category; the export keeps the file's ids."""
    categories = [
        {"id": 0, "name": "cat", "supercategory": "none"},
        {"id": 1, "name": "cat"},
        {"id": 2, "name": "tree"},
    ]
    images = [{"id": "5", "file_name": "a.jpg"}, {"id": "6", "file_name": "b.png"}]
    annotations = [{"id": 1, "image_id": 5, "category_id": 1.0}, {"id": 2, "image_id": "6", "category_id": "2"}]
    _put(photos / "_annotations.coco.json", {"images": images, "annotations": annotations, "categories": categories})
    source = f"coco:{photos / '_annotations.coco.json'}"
    code, _, error = cli("generate", source, "--out", tmp_path / "out")
    assert code == 0 and "the category 0, which no annotation uses, is left out" in error
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["source"] == source and run["category_ids"] == {"cat": 1, "tree": 2}
    with pytest.warns(UserWarning, match="the category 0, which no annotation uses"):
        assert clipes.run(source, tmp_path / "python").ok == 2
    for name in ("a", "b"):
        assert (tmp_path / f"out/{name}.png").read_bytes() == (tmp_path / f"python/{name}.png").read_bytes()
    pytest.importorskip("pycocotools")
    assert cli("export", tmp_path / "out", "--to", "coco", "--out", tmp_path / "coco", "--images", "none")[0] == 0
    exported = json.loads((tmp_path / "coco/annotations/instances_train.json").read_text())
    assert {one["file_name"]: one["id"] for one in exported["images"]} == {"a.jpg": "5", "b.png": "6"}


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
