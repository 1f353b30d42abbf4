"""clipes.batch: every image ends as a whole mask or as a named failure."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipes.batch import Outcome, check_folder, check_labels, mask_path, write_masks
from clipes.datasets import Sample, find_samples
from clipes.generator import load
from clipes.image import open_image
from clipes.vocabulary import load_vocabulary


class Faulty:
    """Behaves as the generator does, but fails on batches for which ``fails`` gives an error."""

    def __init__(self, generator, fails):
        self.generator, self.fails, self.batches = generator, fails, []
        self.class_names, self.config, self.default_batch_size = generator.class_names, generator.config, 3

    def generate(self, images, labels, batch_size):
        self.batches.append(len(images))
        error = self.fails(images)
        if error:
            raise error
        return self.generator.generate(images, labels, batch_size)


RECORDS = {"classes.json", "run.json"}


def _samples(photos: Path) -> list[Sample]:
    return find_samples(photos, photos.parent / "labels.csv")


def _bytes(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_masks_are_those_of_the_generator_whatever_the_batch_size(tiny, photos: Path, tmp_path: Path) -> None:
    samples = _samples(photos)
    for size in (1, 2, 5, None):
        outcomes = list(write_masks(tiny, samples, tmp_path / str(size), size))
        assert outcomes == [Outcome(s, tmp_path / str(size) / f"{s.id}.png") for s in samples]
    first = _bytes(tmp_path / "1")
    assert set(first) == {"a.png", "b.png", "sub/c.png", *RECORDS}
    assert all(_bytes(tmp_path / str(size)) == first for size in (2, 5, None))
    for sample in samples:
        with Image.open(tmp_path / "1" / f"{sample.id}.png") as image:
            assert np.array_equal(np.asarray(image), tiny(sample.image, sample.labels).mask)
    names = json.loads((tmp_path / "1" / "classes.json").read_text())
    assert names == {"0": "background", **{str(i): name for i, name in enumerate(tiny.class_names, 1)}}


def test_masks_are_written_as_they_are_asked_for(tiny, photos: Path, tmp_path: Path) -> None:
    outcomes = write_masks(tiny, _samples(photos), tmp_path / "m")
    next(outcomes)
    assert set(_bytes(tmp_path / "m")) == {*RECORDS, "a.png"}


def test_a_bad_image_is_named_and_the_others_are_done(tiny, photos: Path, tmp_path: Path) -> None:
    samples = _samples(photos)
    (photos / "a.jpg").write_bytes(b"")
    (photos / "sub" / "c.jpg").unlink()
    a, b, c = write_masks(tiny, samples, tmp_path / "m", 3)
    assert a.mask is None and a.error == f"{photos / 'a.jpg'}: the file is empty"
    assert c.mask is None and c.error == f"{photos / 'sub/c.jpg'}: no such image"
    assert b.mask == tmp_path / "m" / "b.png" and b.error == ""
    assert set(_bytes(tmp_path / "m")) == {"b.png", *RECORDS}


def test_one_culprit_does_not_spoil_its_batch(tiny, photos: Path, tmp_path: Path) -> None:
    """b.png is the only one that is 64 pixels wide; the batch is halved until it is alone."""

    def fails(images):
        return FloatingPointError("a map is not finite") if any(i.width == 64 for i in images) else None

    faulty = Faulty(tiny, fails)
    a, b, c = write_masks(faulty, _samples(photos), tmp_path / "m")
    assert b.error == f"{photos / 'b.png'}: a map is not finite" and b.mask is None
    assert a.mask and c.mask and a.mask.exists() and c.mask.exists()
    assert faulty.batches == [3, 1, 2, 1, 1]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ],
    ids=["python", "cuda", "cpu"],
)
def test_too_large_a_batch_is_halved(tiny, photos: Path, tmp_path: Path, error: Exception) -> None:
    outcomes = list(
        write_masks(Faulty(tiny, lambda images: error if len(images) > 1 else None), _samples(photos), tmp_path)
    )
    assert [outcome.error for outcome in outcomes] == ["", "", ""]
    alone = list(write_masks(Faulty(tiny, lambda images: error), _samples(photos), tmp_path))
    assert [outcome.error for outcome in alone] == [
        f"{outcome.sample.image}: {str(error) or 'out of memory'}" for outcome in alone
    ]


def test_a_lost_gpu_is_no_images_fault(tiny, photos: Path, tmp_path: Path) -> None:
    faulty = Faulty(tiny, lambda images: RuntimeError("CUDA error: device-side assert triggered"))
    with pytest.raises(RuntimeError, match="device-side"):
        list(write_masks(faulty, _samples(photos), tmp_path))


def test_errors_of_the_generator_get_the_path(photos: Path, tmp_path: Path) -> None:
    bare = load(background=[])
    samples = [Sample("a", photos / "a.jpg", ("cat",)), Sample("b", photos / "b.png", ("cat", "tree"))]
    a, b = write_masks(bare, samples, tmp_path / "m", 2)
    assert a.error.startswith(f"{photos / 'a.jpg'}: 'cat' is the only label and there is no background word")
    assert b.mask == tmp_path / "m" / "b.png"


def test_an_image_without_labels_is_background(tiny, photos: Path, tmp_path: Path) -> None:
    (outcome,) = write_masks(tiny, [Sample("a", photos / "a.jpg", ())], tmp_path)
    assert outcome.mask is not None
    with Image.open(outcome.mask) as image:
        assert image.size == (96, 64) and not np.asarray(image).any()


@pytest.mark.parametrize("size", [0, -1])
def test_batch_size_is_checked_at_once(tiny, tmp_path: Path, size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size is {size}; it must be at least 1"):
        write_masks(tiny, [], tmp_path / "m", size)
    assert not (tmp_path / "m").exists()


def test_left_overs_are_swept(tiny, tmp_path: Path) -> None:
    old = tmp_path / f".clipes-{'0' * 8}-1-{'0' * 16}.tmp.png"
    old.touch()
    os.utime(old, (0, 0))
    assert list(write_masks(tiny, [], tmp_path)) == []
    assert set(_bytes(tmp_path)) == RECORDS


# --- what is refused before a run


def test_unknown_labels_are_told_with_their_place() -> None:
    vocabulary = load_vocabulary("voc12")
    good = Sample("a", Path("a.jpg"), ("dog",), "labels.csv, line 2")
    check_labels([good], vocabulary)
    with pytest.raises(ValueError, match=r"^labels.csv, line 3: unknown class 'dgo' in voc12; did you mean 'dog'"):
        check_labels([good, Sample("b", Path("b.jpg"), ("dgo",), "labels.csv, line 3")], vocabulary)
    with pytest.raises(ValueError, match=r"^unknown class 'dgo'"):
        check_labels([Sample("b", Path("b.jpg"), ("dgo",))], vocabulary)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x"])
def test_ids_that_leave_the_folder_are_refused(tiny, photos: Path, tmp_path: Path, name: str) -> None:
    sample = Sample(name, photos / "a.jpg", ("cat",))
    with pytest.raises(ValueError, match="leads out of the output folder; use a relative one"):
        mask_path(sample, tmp_path / "m")
    (outcome,) = write_masks(tiny, [sample], tmp_path / "m")
    assert outcome.mask is None and "leads out" in outcome.error
    assert set(_bytes(tmp_path / "m")) == RECORDS


def test_a_mask_never_replaces_its_image(tiny, photos: Path) -> None:
    before = (photos / "b.png").read_bytes()
    (outcome,) = write_masks(tiny, [Sample("b", photos / "b.png", ("cat",))], photos)
    assert outcome.error.startswith(f"{photos / 'b.png'}: its mask would replace it; choose another folder")
    assert (photos / "b.png").read_bytes() == before


@pytest.mark.parametrize(
    ("source", "out", "refused"),
    [
        ("photos", "masks", False),
        ("photos", "photos-masks", False),
        ("photos", "photos", True),
        ("photos", "photos/masks", True),
        ("photos", "photos/../photos/new/masks", True),
        ("photos", ".", False),
        ("photos/a.jpg", "photos", False),
        ("photos/*.jpg", "photos", False),
        ("photos/*.jpg", "photos/masks", False),
        ("photos/*.png", "photos/masks", False),
        ("photos/*/*", "photos/masks", False),  # it will be photos/masks/sub/c.png
        ("photos/sub/*", "photos/sub", True),
        ("photos/**/*.jpg", "photos/masks", False),
        ("photos/**/*.*", "photos/masks", True),
        ("photos/**/*.*", "masks", False),
        ("photos/../photos/sub/*.*", "photos/sub", True),
    ],
)
def test_masks_are_not_put_where_they_are_taken_for_images(
    photos: Path, monkeypatch: pytest.MonkeyPatch, source: str, out: str, refused: bool
) -> None:
    monkeypatch.chdir(photos.parent)
    for base in (Path(), photos.parent):
        samples = find_samples(base / source, ["cat"])
        if refused:
            with pytest.raises(ValueError, match=r"lies in the source .* choose a folder outside it"):
                check_folder(base / source, samples, base / out, ["cat"])
        else:
            check_folder(base / source, samples, base / out, ["cat"])


def test_a_file_in_place_of_the_folder_is_refused(photos: Path) -> None:
    (photos.parent / "m").touch()
    with pytest.raises(NotADirectoryError, match="m is a file; give a folder for the masks"):
        check_folder(photos, [], photos.parent / "m", ["cat"])


def test_nothing_foreign_is_replaced(tiny, photos: Path, tmp_path: Path) -> None:
    """Neither a classes.json of other classes, nor a PNG that no run wrote; an earlier run's masks are."""
    samples, out = find_samples(photos / "a.jpg", ["cat"]), tmp_path / "m"
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"a\.png exists and is no mask of an earlier run"):
        check_folder(photos, samples, out, tiny.class_names)
    (out / "a.png").unlink()
    (out / "classes.json").write_text('{"dog": ["dog", "puppy"]}')
    with pytest.raises(ValueError, match=r"classes\.json is of other classes or no clipes file"):
        check_folder(photos, samples, out, tiny.class_names)
    with pytest.raises(ValueError, match="choose another folder"):
        list(write_masks(tiny, samples, out))
    assert (out / "classes.json").read_text() == '{"dog": ["dog", "puppy"]}'
    (out / "classes.json").unlink()
    for _ in range(2):
        check_folder(photos, samples, out, tiny.class_names)
        assert [outcome.error for outcome in write_masks(tiny, samples, out)] == [""]


@pytest.mark.skipif(os.name != "posix", reason="links are made otherwise elsewhere")
def test_a_link_does_not_lead_out_of_the_folder(tiny, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="leads out of the output folder through a link"):
        check_folder(photos, find_samples(photos, ["cat"]), tmp_path / "m", tiny.class_names)
    outcomes = write_masks(tiny, [Sample("sub/c", photos / "sub" / "c.jpg", ("cat",))], tmp_path / "m")
    assert "through a link" in next(outcomes).error
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_turned_once(tiny, photos: Path, tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    with Image.open(photos / "a.jpg") as image:
        image.save(photos / "turned.jpg", exif=exif)
    upright = open_image(photos / "turned.jpg")
    assert np.array_equal(np.asarray(open_image(upright)), np.asarray(upright))
    samples = [Sample("turned", photos / "turned.jpg", ("cat", "tree"))]
    (outcome,) = write_masks(tiny, samples, tmp_path / "m", save_cams="patch")
    expected = tiny(photos / "turned.jpg", ["cat", "tree"]).mask
    with Image.open(outcome.mask) as mask:
        assert mask.size == upright.size == ((96, 64) if orientation < 5 else (64, 96))
        assert np.array_equal(np.asarray(mask), expected)


def test_a_record_that_no_run_wrote_is_kept(tiny, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "run.json").write_text('{"my": 1}')
    with pytest.raises(ValueError, match=r"run\.json is not of an earlier run; choose another folder"):
        list(write_masks(tiny, _samples(photos), tmp_path / "m"))
    assert _bytes(tmp_path / "m") == {"run.json": b'{"my": 1}'}
