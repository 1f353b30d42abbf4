"""clipes.datasets.tar: shards in WebDataset's layout."""

import gzip
import io
import json
import os
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from clipes.datasets import DatasetError, find_images, find_samples
from clipes.io.images import TarMember, open_image

FUZZ = settings(
    max_examples=int(os.environ.get("CLIPES_FUZZ", "150")),  # CLIPES_FUZZ=100000 for a night
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def _png(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), colour).save(buffer, "PNG")
    return buffer.getvalue()


def _tar(path, *members, format=tarfile.PAX_FORMAT):
    """Write (name, content) members; content is bytes, text, JSON or a TarInfo."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            data = content if isinstance(content, bytes) else content.encode() if isinstance(content, str) else None
            data = json.dumps(content).encode() if data is None else data
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def _special(name, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "a.png"
    return name, info


def _labels(samples):
    return {sample.id: sample.labels for sample in samples}


def test_members_of_one_key_are_a_sample(tmp_path):
    path = _tar(
        tmp_path / "s.tar",
        _special("./x", tarfile.DIRTYPE),
        ("./x/a.cls", "1"),
        ("./x/a.seg.png", b"not the image"),
        ("./x/a.png", _png("red")),
        ("./x/.hidden.png", b""),
        ("b.json", {"labels": ["cat", "fox"], "w": 3}),
        ("b.JPG", _png("blue")),
        ("b.txt", "unread"),
        ("readme.txt", "no image here"),
        ("n" * 150 + ".webp", _png("lime")),
        ("n" * 150 + ".txt", "cat; dog\nfox\n"),
        ("v1.2/c.jpeg", _png("white")),
        ("v1.2/c.json", {"caption": "x"}),
        ("v1.2/c.cls", "cat 1"),
    )
    samples = find_samples(path, class_names=("dog", "potted plant"))
    assert _labels(samples) == {
        "x/a": ("potted plant",),
        "b": ("cat", "fox"),
        "n" * 150: ("cat", "dog", "fox"),
        "v1.2/c": ("cat", "potted plant"),
    }
    colours = [open_image(sample.image).getpixel((1, 1)) for sample in samples]
    assert colours == [(255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 255)]
    assert isinstance(samples[0].image, TarMember) and str(samples[0].image) == f"{path}/./x/a.png"
    assert samples[0].origin == f"{path}/./x/a.cls"


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_formats_of_tar(tmp_path, format):
    name = "folder/" * 20 + "a" * 60
    path = _tar(tmp_path / "s.tar", (f"{name}.png", _png("red")), (f"{name}.json", ["cat"]), format=format)
    (sample,) = find_samples(path)
    assert (sample.id, sample.labels) == (name, ("cat",))
    assert open_image(sample.image).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("member", "content", "labels"),
    [
        ("a.json", ["fox", "fox"], ("fox",)),
        ("a.json", [1, "dog"], ("potted plant", "dog")),
        ("a.json", {"labels": []}, ()),
        ("a.cls", "", ()),
        ("a.cls", "0;1\n", ("dog", "potted plant")),
        ("a.cls", "potted plant; fox dog", ("potted plant", "fox", "dog")),
        ("a.cls", "\ufeff1", ("potted plant",)),
        ("a.txt", "potted plant\r\nfox;;dog \n", ("potted plant", "fox", "dog")),
        ("a.txt", " \n", ()),
    ],
)
def test_forms_of_labels(tmp_path, member, content, labels):
    path = _tar(tmp_path / "s.tar", ("a.png", b""), (member, content))
    assert _labels(find_samples(path, class_names=["dog", "potted plant"])) == {"a": labels}


@pytest.mark.parametrize(
    ("member", "content", "message"),
    [
        ("a.json", "{", r"s\.tar/a\.json: broken JSON"),
        ("a.json", "[" * 100_000, "broken JSON"),
        ("a.json", {"labels": 7}, r"the labels are 7; write a list"),
        ("a.json", "3", "the labels are 3|write a list"),
        ("a.json", [["dog"]], "is not a list of strings"),
        ("a.json", [True], "is not a list of strings"),
        ("a.json", [2], r"a\.json: the label 2 is not an index of 2 classes, counted from 0"),
        ("a.json", [-1], "the label -1 is not an index of 2 classes"),
        ("a.cls", "2", "the label 2 is not an index"),
        ("a.cls", b"\xff", r"a\.cls: not UTF-8"),
        ("a.txt", "x" * 1_000_001, "1000001 bytes are too many for labels; at most 1000000 are read"),
        (
            "a.json",
            {"caption": "x"},
            r"a\.png: no labels beside it; add a\.json, \.cls or \.txt, or give a labels file",
        ),
        ("b.json", ["dog"], r"a\.png: no labels beside it"),
        ("a.png", b"", r"a\.png comes twice"),
        ("a.webp", b"", r"a\.png: no labels beside it"),
    ],
)
def test_wrong_members(tmp_path, member, content, message):
    path = _tar(tmp_path / "s.tar", ("a.png", b""), (member, content))
    with pytest.raises(DatasetError, match=message):
        find_samples(path, class_names=["dog", "cat"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../b.png", r"\.\./b\.png: the id '\.\./b' is not a relative path"),
        ("/b.png", "the id '/b' is not a relative path"),
        ("c/../b.png", "the id 'c/../b' is not a relative path"),
        ("b\x1b.png", "holds a control character"),
        ("b" * 300 + ".png", "would be 304 bytes long"),
    ],
)
def test_wrong_ids(tmp_path, name, message):
    path = _tar(tmp_path / "s.tar", ("a.png", b""), (name, b""))
    with pytest.raises(DatasetError, match=message):
        find_samples(path, ["dog"])


def test_indices_need_the_classes(tmp_path):
    path = _tar(tmp_path / "s.tar", ("a.png", b""), ("a.cls", "1"))
    with pytest.raises(DatasetError, match="the label 1 is the index of a class, but no classes are given; give them"):
        find_samples(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    path = _tar(tmp_path / "s.tar", ("a.png", b""), ("a.json", []), _special("b.png", kind))
    with pytest.raises(DatasetError, match=r"s\.tar/b\.png': a link or a device, not a plain file; .*--dereference"):
        find_samples(path)


def test_sparse_members_are_refused(tmp_path):
    info = tarfile.TarInfo("a.png")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9000"}
    info.pax_headers["GNU.sparse.name"] = "a.png"
    data = b"1\n0\n512\n".ljust(512, b"\0") + bytes(512)
    info.size = len(data)
    with tarfile.open(tmp_path / "s.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(data))
    with pytest.raises(DatasetError, match=r"a\.png': sparse, not a plain file"):
        find_samples(tmp_path / "s.tar")


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    path = _tar(tmp_path / "s.tar", ("M\udcfcnchen.png", b""), format=tarfile.GNU_FORMAT)
    with pytest.raises(DatasetError, match=r"M\\udcfcnchen\.png': its name is not UTF-8; rename it"):
        find_samples(path, ["dog"])


# --- several shards


def test_images_behind_a_second_dot_are_not_left_out_without_a_word(tmp_path):
    """`photo.1.jpg` is no image of WebDataset's; `photo.mask.png` beside `photo.jpg` is meant."""
    dog = {"labels": ["dog"]}
    good = _tar(tmp_path / "good.tar", ("a.jpg", _png("red")), ("a.mask.png", _png("red")), ("a.json", dog))
    assert [sample.id for sample in find_samples(good)] == ["a"]
    bad = _tar(
        tmp_path / "bad.tar", ("b.jpg", _png("red")), ("b.json", dog), ("a.1.jpg", _png("red")), ("a.1.json", dog)
    )
    with pytest.raises(DatasetError, match=r"a\.1\.jpg: its key ends at the first dot, 'a', and that has no image"):
        find_samples(bad)


def test_labels_of_a_table_find_members_in_folders_of_any_name(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    shard = _tar(folder / "s.tar", ("x/a.jpg", _png("red")))
    (tmp_path / "l.csv").write_text("image,labels\na.jpg,dog\n")
    assert [sample.labels for sample in find_samples(shard, tmp_path / "l.csv")] == [("dog",)]


def test_ranges_and_globs(tmp_path):
    for number in (8, 9, 10):
        _tar(tmp_path / f"s-{number:03}.tar", (f"{number}.png", b""), (f"{number}.cls", "cat"))
    for source in ("s-{008..010}.tar", "s-*.tar", "s-{00..00}{8..9}.tar", "s-{0..0}[01]{8..9}.tar"):
        found = [sample.id for sample in find_samples(tmp_path / source)]
        assert found == (["8", "9", "10"] if "10" in source or source == "s-*.tar" else ["8", "9"]), source
    with pytest.raises(FileNotFoundError, match=r"no such \.tar file: .*s-011\.tar"):
        find_samples(tmp_path / "s-{008..999999999999}.tar")
    with pytest.raises(DatasetError, match=r"the range \{2\.\.1\} runs backwards"):
        find_samples(tmp_path / "s-{2..1}.tar")
    with pytest.raises(FileNotFoundError, match=r"no such \.tar file: .*none\*\.tar"):
        find_samples(tmp_path / "none*.tar")


def test_a_name_with_braces_that_is_there_is_meant(tmp_path):
    path = _tar(tmp_path / "s-{1..2}.tar", ("a.png", b""), ("a.cls", ""))
    assert find_samples(path)[0].image.tar == path


@pytest.mark.parametrize("second", ["t.tar", "s.tar"])
def test_one_key_in_two_places_is_refused(tmp_path, second):
    first = [("a.png", b""), ("b.png", b"")]
    again = [("a.png", b"")]
    _tar(tmp_path / "s.tar", *first, *(again if second == "s.tar" else []))
    _tar(tmp_path / "t.tar", *(again if second == "t.tar" else [("c.png", b"")]))
    with pytest.raises(DatasetError, match=rf"s\.tar/a\.png and .*{second}/a\.png would both become one mask"):
        find_samples(tmp_path / "*.tar", ["dog"])


def test_labels_given_replace_those_in_a_tar(tmp_path):
    path = _tar(tmp_path / "s.tar", ("x/a.png", b""), ("x/a.json", "broken"), ("b.png", b""))
    (tmp_path / "l.csv").write_text("image,labels\na.png,cat\ns.tar/b,dog\n")
    assert _labels(find_samples(path, tmp_path / "l.csv")) == {"x/a": ("cat",), "b": ("dog",)}
    assert _labels(find_samples(path, ["fox"])) == {"x/a": ("fox",), "b": ("fox",)}
    assert list(find_images(path)) == ["x/a", "b"]


# --- broken files


@pytest.mark.parametrize(
    ("name", "start", "kind"),
    [
        ("s.tar.gz", gzip.compress(b"x", mtime=0), "gzip"),
        ("s.tgz", gzip.compress(b"x", mtime=0), "gzip"),
        ("s.tar", gzip.compress(b"x", mtime=0), "gzip"),
        ("s.tar.bz2", b"BZh9", "bzip2"),
        ("s.tar.xz", b"\xfd7zXZ\0", "xz"),
        ("s.tar.zst", b"\x28\xb5\x2f\xfd", "zstd"),
    ],
)
def test_compressed_tars_are_refused(tmp_path, name, start, kind):
    (tmp_path / name).write_bytes(start)
    with pytest.raises(DatasetError, match=rf"{name}: compressed with {kind}, so that .*; decompress it"):
        find_samples(tmp_path / name)


def test_empty_tars(tmp_path):
    with pytest.raises(DatasetError, match=r"s\.tar: no image found"):
        find_samples(_tar(tmp_path / "s.tar"))
    (tmp_path / "e.tar").touch()
    with pytest.raises(DatasetError, match=r"e\.tar: broken tar: empty file"):
        find_samples(tmp_path / "e.tar")


def test_a_tar_cut_anywhere_is_refused(tmp_path):
    path = _tar(tmp_path / "s.tar", *((f"{n}.png", bytes(700)) for n in range(3)), format=tarfile.USTAR_FORMAT)
    whole = path.read_bytes()
    assert len(find_samples(path, ["dog"])) == 3
    for end in [1, 511, 512, 700, 1235, 1236, 1536, 1540, 3071, 3072, 4607, 4608, 4700]:
        path.write_bytes(whole[:end])
        with pytest.raises(DatasetError, match=r"s\.tar: broken tar: "):
            find_samples(path, ["dog"])


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    path = _tar(tmp_path / "s.tar", ("a.png", b""), ("b.png", b""), format=tarfile.USTAR_FORMAT)
    data = bytearray(path.read_bytes())
    data[512] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="broken tar: no end mark at byte 512; it is cut off or damaged"):
        find_samples(path, ["dog"])


@FUZZ
@given(place=st.integers(0, 4000), data=st.binary(max_size=600), whole=st.booleans(), labels=st.binary(max_size=40))
def test_any_bytes_are_samples_or_a_dataset_error(tmp_path, place, data, whole, labels):
    path = _tar(tmp_path / "s.tar", ("a.png", b"x" * 600), ("a.json", labels), ("b.png", b""), ("b.cls", labels))
    if whole:
        path.write_bytes(data)
    elif place < 3500:
        content = bytearray(path.read_bytes())
        content[place : place + len(data)] = data
        path.write_bytes(content)
    try:
        samples = find_samples(path, class_names=["dog", "cat"])
    except DatasetError as error:
        assert "s.tar" in str(error)
    else:
        assert len(samples)
