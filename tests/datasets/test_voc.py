"""clipes.datasets.voc: VOC's folders, lists and annotations."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipes.datasets import DatasetError, Sample, find_images, find_samples
from clipes.datasets.source_spec import split_root

FUZZ = settings(
    max_examples=int(os.environ.get("CLIPES_FUZZ", "150")),  # CLIPES_FUZZ=100000 for a night
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def _xml(*names, difficult=0):
    objects = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><part><name>head</name><object><name>eye</name></object></part></object>"
        for name in names
    )
    return f"<annotation><filename>other.jpg</filename><source><name>no</name></source>{objects}</annotation>"


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path):
    """VOC2012 with three images, of which c has no annotation."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("2007_a", "2007_b", "2007_c"):
        _write(root / "JPEGImages" / f"{name}.jpg", "")
    _write(root / "Annotations" / "2007_a.xml", _xml("person", "dog", "person"))
    _write(root / "Annotations" / "2007_b.xml", _xml("pottedplant", difficult=1))
    _write(root / "ImageSets" / "Segmentation" / "train.txt", "2007_b\n2007_a\n")
    _write(root / "ImageSets" / "Segmentation" / "val.txt", "2007_c\n")
    _write(root / "ImageSets" / "Main" / "val.txt", "wrong\n")
    _write(root / "ImageSets" / "Main" / "train.txt", "wrong\n")
    _write(root / "ImageSets" / "Main" / "trainval.txt", "2007_a\n2007_c\n")
    _write(
        root / "ImageSets" / "SegmentationAug" / "train_aug.txt",
        "/JPEGImages/2007_a.jpg /SegmentationClassAug/2007_a.png\n",
    )
    return root


def _labels(samples):
    return {sample.id: sample.labels for sample in samples}


def test_train_is_the_default_and_labels_are_the_objects(root):
    for source in (f"voc:{root}", f"voc:{root}:train", f"voc:{root.parent}"):
        samples = find_samples(source)
        assert list(samples) == [
            Sample("2007_b", root / "JPEGImages" / "2007_b.jpg", ("pottedplant",)),
            Sample("2007_a", root / "JPEGImages" / "2007_a.jpg", ("person", "dog")),
        ]
        assert samples[1].origin == str(root / "Annotations" / "2007_a.xml")


def test_labels_from_the_lists_of_classes(root):
    main = root / "ImageSets" / "Main"
    for name, flag in (("cat", "1"), ("bird", " 0"), ("car", "-1"), ("dining_table", "1")):
        _write(main / f"{name}_val.txt", f"2007_c {flag}\n2007_x  1\n")
    _write(main / "train_trainval.txt", "2007_c 1\n")
    samples = find_samples(f"voc:{root}:val")
    assert _labels(samples) == {"2007_c": ("bird", "cat", "dining_table")}
    assert samples[0].origin == str(main)


def test_lists_of_trainval_serve_where_the_split_has_none(root):
    _write(root / "ImageSets" / "Main" / "train_trainval.txt", "2007_c 1\n")
    _write(root / "ImageSets" / "Main" / "sofa_trainval.txt", "2007_c -1\n")
    _write(root / "ImageSets" / "Main" / "sofa_train.txt", "2007_c 1\n")
    assert _labels(find_samples(f"voc:{root}:val")) == {"2007_c": ("train",)}


def test_an_image_in_no_list_of_classes_has_no_label(root):
    _write(root / "ImageSets" / "Main" / "cat_val.txt", "2007_x 1\n")
    with pytest.raises(
        DatasetError, match=r"val\.txt, line 1: no labels of '2007_c': neither .*xml nor lists of classes"
    ):
        find_samples(f"voc:{root}:val")


def test_splits_elsewhere(root, tmp_path):
    assert _labels(find_samples(f"voc:{root}:train_aug")) == {"2007_a": ("person", "dog")}
    _write(root / "Annotations" / "2007_c.xml", _xml("cat"))
    assert list(_labels(find_samples(f"voc:{root}:trainval"))) == ["2007_a", "2007_c"]
    listed = _write(tmp_path / "a:b" / "my.list", "\n2007_c\nVOC2012/JPEGImages/2007_a.jpg x\n")
    samples = find_samples(f"voc:{root}:{listed}")
    assert _labels(samples) == {"2007_c": ("cat",), "2007_a": ("person", "dog")}


def test_labels_given_replace_those_of_voc(root, tmp_path):
    table = _write(tmp_path / "l.csv", "image,labels\n2007_a,cat\nJPEGImages/2007_b.jpg,\n")
    assert _labels(find_samples(f"voc:{root}", table)) == {"2007_b": (), "2007_a": ("cat",)}
    assert _labels(find_samples(f"voc:{root}:val", ["cat"])) == {"2007_c": ("cat",)}
    assert list(find_images(f"voc:{root}:val")) == ["2007_c"]


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".JPEG", ".png", ".PNG", ".tif", ".webp", ".avif"])
@pytest.mark.parametrize("line", ["2007_b", "/JPEGImages/2007_b.jpg /SegmentationClassAug/2007_b.png", "2007_b.png"])
def test_images_with_another_suffix(root, suffix, line):
    (root / "JPEGImages" / "2007_b.jpg").rename(root / "JPEGImages" / f"2007_b{suffix}")
    _write(root / "ImageSets" / "Segmentation" / "train.txt", f"2007_a\n{line}\n")
    for samples in (find_samples(f"voc:{root}"), find_samples(f"voc:{root.parent}:train", ["pottedplant"])):
        assert samples[1] == Sample("2007_b", root / "JPEGImages" / f"2007_b{suffix}", ("pottedplant",))
    assert find_images(f"voc:{root}")["2007_b"] == root / "JPEGImages" / f"2007_b{suffix}"


def test_the_jpg_is_taken_before_others(root):
    for suffix in (".png", ".JPG"):
        _write(root / "JPEGImages" / f"2007_b{suffix}", "")
    assert find_samples(f"voc:{root}")[0].image == root / "JPEGImages" / "2007_b.jpg"


def test_a_missing_image_is_refused_or_stays(root):
    (root / "JPEGImages" / "2007_a.jpg").unlink()
    with pytest.raises(DatasetError, match=r"1 image\(s\) .*train\.txt, line 2: no such image: '2007_a\.jpg'"):
        find_samples(f"voc:{root}")
    assert len(find_samples(f"voc:{root}", missing="skip")) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation>", r"2007_a\.xml: broken XML: no element found: line 1"),
        ("", "broken XML: no element found"),
        ("<html></html>", "its root is <html>, not <annotation>"),
        ("<annotation><object></object></annotation>", "label 1 of 1 is blank"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "broken XML: unknown encoding"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>', "broken XML: undefined"),
        (f"<annotation>{' ' * 10_000_000}</annotation>", "10000025 bytes are too many for a VOC annotation"),
    ],
)
def test_wrong_annotations(root, content, message):
    _write(root / "Annotations" / "2007_a.xml", content)
    with pytest.raises(DatasetError, match=message):
        find_samples(f"voc:{root}")


def test_entities_that_grow_without_end_are_refused(root):
    entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(12))
    xml = f'<!DOCTYPE a [<!ENTITY e0 "boom">{entities}]><annotation><object><name>&e12;</name></object></annotation>'
    _write(root / "Annotations" / "2007_a.xml", xml)
    with pytest.raises(DatasetError, match=r"2007_a\.xml: broken XML: limit on input amplification"):
        find_samples(f"voc:{root}")


@pytest.mark.parametrize("line", ["2007_c", "2007_c 2", "2007_c 1 1", "2007_c yes"])
def test_wrong_lists_of_classes(root, line):
    _write(root / "ImageSets" / "Main" / "cat_val.txt", f"\n{line}\n")
    with pytest.raises(DatasetError, match=r"cat_val\.txt, line 2: '2007_c.*' is not an id and 1, 0 or -1"):
        find_samples(f"voc:{root}:val")


@pytest.mark.parametrize("line", ["../../x", "/JPEGImages/../x.jpg", "a\0b", "x" * 300])
def test_wrong_ids(root, line):
    _write(root / "ImageSets" / "Segmentation" / "train.txt", f"2007_a\n{line}\n")
    with pytest.raises(DatasetError, match=r"train\.txt, line 2: "):
        find_samples(f"voc:{root}")


def test_wrong_roots(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"voc: no split 'vla': .*; in Segmentation: train, val"):
        find_samples(f"voc:{root}:vla")
    with pytest.raises(FileNotFoundError, match=r"voc: no such folder: '/absent'; write voc:ROOT or voc:ROOT:SPLIT"):
        find_samples("voc:/absent:train")
    with pytest.raises(DatasetError, match=r"there is no split after the colon"):
        find_samples(f"voc:{root}:")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"empty holds no JPEGImages, and no folder in it does; give the one folder"):
        find_samples(f"voc:{tmp_path / 'empty'}")
    (root.parent / "VOC2007" / "JPEGImages").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"and the folders VOC2007, VOC2012 do; give the one"):
        find_samples(f"voc:{root.parent}")
    assert len(find_samples(f"voc:{root}")) == 2


def test_colons_of_drives_and_names_do_not_cut(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    for name in ("C:\\data", "a:b"):
        (tmp_path / name).mkdir()
        assert split_root("voc", name) == (tmp_path.joinpath(name).relative_to(tmp_path), None)
        assert str(split_root("voc", f"{name}:val")[0]) == name
        assert split_root("voc", f"{name}:D:\\list.txt")[1] == "D:\\list.txt"
    with pytest.raises(FileNotFoundError, match=r"no such folder: 'C:\\\\absent'"):
        split_root("voc", "C:\\absent")
    with pytest.raises(FileNotFoundError, match=r"no such folder: 'C:\\\\absent'"):
        split_root("voc", "C:\\absent:train")


@FUZZ
@given(
    data=st.binary() | st.text("<>/annotation object name&;![CDATA] \"'=x\0").map(str.encode),
    kind=st.sampled_from("xlc"),
)
def test_any_bytes_are_labels_or_a_dataset_error(root, data, kind):
    main = root / "ImageSets" / "Main"
    path = {
        "x": root / "Annotations" / "2007_c.xml",
        "l": main.parent / "Segmentation" / "val.txt",
        "c": main / "a_val.txt",
    }
    path[kind].write_bytes(data)
    try:
        samples = find_samples(f"voc:{root}:val", missing="skip")
        assert all(label.strip() == label != "" for sample in samples for label in sample.labels)
    except DatasetError:
        pass
    finally:
        for used in path.values():
            used.unlink(missing_ok=True)
        _write(path["l"], "2007_c\n")
