"""clipes.runs.local_engine: every image ends as a whole mask or as a named failure."""

from __future__ import annotations

import errno
import hashlib
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generating import files
from PIL import Image

from clipes.datasets import Sample, find_samples
from clipes.device.errors import DeviceLost
from clipes.generator import load
from clipes.io.images import open_image
from clipes.runs import generation
from clipes.runs.generation import MasksFromImages
from clipes.runs.local_engine import MaskWriter
from clipes.runs.outcome import Outcome
from clipes.store import writer
from clipes.store.output import Output
from clipes.store.record import read_records
from clipes.store.row import Row

HEADER = {"settings": "0" * 64}


class Faulty:
    """Behaves as the generator does, but fails on batches for which ``fails`` gives an error."""

    def __init__(self, generator, fails, dtype=torch.float32):
        self.generator, self.fails, self.batches, self.dtype = generator, fails, [], dtype
        self.class_names, self.config, self._default_batch_size = generator.class_names, generator.config, 3
        self.device, self.clip = generator.device, generator.clip

    def generate(self, images, labels, batch_size, regions):
        self.batches.append(len(images))
        error = self.fails(images)
        if error:
            raise error
        return self.generator.generate(images, labels, batch_size)

    def _in_float32(self):
        return self.generator


def _samples(photos: Path) -> list[Sample]:
    return list(find_samples(photos, photos.parent / "labels.csv"))


def _write(generator: Any, samples: Sequence[Sample], folder: Path, **options: Any) -> list[Outcome]:
    saved = {name: options.pop(name) for name in ("confidence", "cams", "format", "tar_size") if name in options}
    with MaskWriter(MasksFromImages(generator), Output(folder, **saved), HEADER, **options) as writer:
        return list(writer.write(samples))


def _rows(folder: Path) -> list[Row]:
    return [row for record in read_records(folder) for row in record.rows()]


def test_masks_are_those_of_the_generator(tiny, photos: Path, tmp_path: Path) -> None:
    samples = _samples(photos)
    assert _write(tiny, samples, tmp_path / "m") == [Outcome(sample, "ok") for sample in samples]
    for sample in samples:
        with Image.open(tmp_path / "m" / f"{sample.id}.png") as image:
            assert np.array_equal(np.asarray(image), tiny(sample.image, sample.labels).mask)


def test_on_a_cpu_no_bit_depends_on_batches_or_readers(tiny, scenes: list[Sample], tmp_path: Path) -> None:
    """Pictures of one size, which would be encoded together on a GPU."""
    _write(tiny, scenes, tmp_path / "first", cams="patch")
    first = files(tmp_path / "first")
    maps = {name: np.load(tmp_path / "first" / name)["patch_cams"] for name in first if name.endswith(".npz")}
    assert len(first) == 2 * len(scenes)
    for number, (size, readers) in enumerate([(2, 0), (5, 1), (3, 2), (1, 3)]):
        folder = tmp_path / str(number)
        _write(tiny, scenes, folder, cams="patch", batch_size=size, readers=readers)
        again = files(folder)
        assert {name: data for name, data in again.items() if name.endswith(".png")} == {
            name: data for name, data in first.items() if name.endswith(".png")
        }
        assert all(np.array_equal(np.load(folder / name)["patch_cams"], cams) for name, cams in maps.items())


def test_batches_side_by_side(tiny, scenes: list[Sample], tmp_path: Path) -> None:
    """Three at once, which wait for each other: the bytes are those of one after the other, the order too."""
    _write(tiny, scenes, tmp_path / "first", cams="patch")
    barrier = threading.Barrier(3)

    def together(images):
        if len(faulty.batches) <= 3:
            barrier.wait(60)

    faulty = Faulty(tiny, together)
    outcomes = _write(faulty, scenes, tmp_path / "m", cams="patch", batch_size=1, jobs=3)
    assert [(one.sample, one.status) for one in outcomes] == [(sample, "ok") for sample in scenes]
    assert [row.id for row in _rows(tmp_path / "m")] == [sample.id for sample in scenes]
    masks, first = files(tmp_path / "m"), files(tmp_path / "first")
    assert masks.keys() == first.keys()
    assert all(masks[f"{sample.id}.png"] == first[f"{sample.id}.png"] for sample in scenes)


def test_an_error_beside_others(tiny, scenes: list[Sample], tmp_path: Path) -> None:
    """The second of three fails for good: the first is written, and what is there of the third is known."""
    barrier = threading.Barrier(3)

    def fails(images):
        barrier.wait(60)
        return RuntimeError("CUDA error: unspecified launch failure") if np.array_equal(images[0], second) else None

    second = open_image(scenes[1].image)
    with pytest.raises(DeviceLost, match="unspecified launch failure"):
        _write(Faulty(tiny, fails), scenes[:3], tmp_path / "m", batch_size=1, jobs=3)
    assert [row.id for row in _rows(tmp_path / "m")] == ["0", "2"]
    assert sorted(files(tmp_path / "m")) == ["0.png", "2.png"]


def test_too_little_memory_side_by_side_is_said_once(tiny, scenes: list[Sample], tmp_path: Path) -> None:
    barrier = threading.Barrier(2)

    def fails(images):
        if len(images) == 4:
            barrier.wait(60)
            return MemoryError()
        return None

    with pytest.warns(UserWarning) as caught:
        outcomes = _write(Faulty(tiny, fails), (scenes * 2)[:8], tmp_path / "m", batch_size=4, jobs=2)
    assert [outcome.status for outcome in outcomes] == ["ok"] * 8
    told = [str(one.message) for one in caught if "out of memory" in str(one.message)]
    assert told == ["out of memory with 4 images; making them 2 at a time"]


def test_stopping_at_once_waits_for_nobody(tiny, scenes: list[Sample], tmp_path: Path) -> None:
    """The second picture takes for ever; the first is written and recorded, the rest is left."""
    second, go_on, asked = open_image(scenes[1].image), threading.Event(), []

    def slow(images):
        if np.array_equal(images[0], second):
            go_on.wait(60)

    def stop() -> bool:
        asked.append(1)
        if len(asked) < 3:
            return False
        while not (tmp_path / "m" / "0.png").exists():
            time.sleep(0.01)
        time.sleep(0.5)  # the job that handed the file over ends meanwhile
        raise KeyboardInterrupt  # as the second Ctrl-C does

    saved = Output(tmp_path / "m")
    writer = MaskWriter(MasksFromImages(Faulty(tiny, slow)), saved, HEADER, batch_size=1, stop=stop, jobs=4)
    with writer, pytest.raises(KeyboardInterrupt):
        list(writer.write(scenes))
    assert not go_on.is_set()
    rows, masks = [row.id for row in _rows(tmp_path / "m")], files(tmp_path / "m")
    assert "0" in rows and "1" not in rows and {f"{name}.png" for name in rows} <= set(masks)
    go_on.set()


def test_a_folder_that_is_replaced_ends_the_run(tiny, scenes: list[Sample], tmp_path: Path, monkeypatch) -> None:
    """No image's name is to blame when the folder is a file."""
    folder = tmp_path / "m"

    def write_bytes(path, data):
        (folder / "records").parent.rename(tmp_path / "moved")
        folder.touch()
        raise FileExistsError(errno.EEXIST, "File exists", str(folder))

    monkeypatch.setattr(writer, "write_bytes", write_bytes)
    with pytest.raises(FileExistsError, match="File exists"):
        _write(tiny, scenes[:1], folder)


def test_large_pictures_are_not_all_worked_on_together(tiny, scenes: list[Sample], tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(generation, "_MAX_PIXELS", 2 * 64 * 80)
    faulty = Faulty(tiny, lambda images: None)
    _write(faulty, scenes, tmp_path / "m", batch_size=5)
    monkeypatch.setattr(generation, "_MAX_PIXELS", 1)
    _write(faulty, scenes[:2], tmp_path / "n", batch_size=5)
    assert faulty.batches == [2, 2, 1, 1, 1]


def test_each_image_has_a_row(tiny, photos: Path, tmp_path: Path) -> None:
    (photos / "b.png").write_bytes(b"")
    samples = _samples(photos)
    _write(tiny, samples, tmp_path / "m")
    a, b, c = _rows(tmp_path / "m")
    assert (a.id, a.status, a.reason, a.labels, a.size) == ("a", "ok", "", samples[0].labels, (64, 96))
    assert a.checksum == hashlib.sha256((tmp_path / "m" / "a.png").read_bytes()).hexdigest()
    assert a.seconds is not None and a.seconds > 0 and a.shard is None
    assert (b.id, b.status, b.reason, b.checksum, b.size) == ("b", "failed", "the file is empty", None, None)
    assert (c.id, c.status) == ("sub/c", "ok")


def test_masks_are_written_as_they_are_asked_for(tiny, photos: Path, tmp_path: Path) -> None:
    """And what was begun is finished, when nobody asks any more."""
    asked = []

    def samples():
        for sample in _samples(photos) * 5:
            asked.append(sample)
            yield sample

    with MaskWriter(MasksFromImages(tiny), Output(tmp_path / "m"), HEADER, batch_size=1) as writer:
        outcomes = writer.write(samples())
        next(outcomes)
        assert 1 <= len(asked) < 7
        outcomes.close()
    assert len(_rows(tmp_path / "m")) >= 1
    assert {row.id for row in _rows(tmp_path / "m")} == {name.removesuffix(".png") for name in files(tmp_path / "m")}


def test_a_bad_image_is_named_and_the_others_are_done(tiny, photos: Path, tmp_path: Path) -> None:
    samples = _samples(photos)
    (photos / "a.jpg").write_bytes(b"")
    (photos / "sub" / "c.jpg").unlink()
    for readers in (0, 2):
        a, b, c = _write(tiny, samples, tmp_path / str(readers), batch_size=3, readers=readers)
        assert (a.status, a.error) == ("failed", f"{photos / 'a.jpg'}: the file is empty")
        assert (c.status, c.error) == ("failed", f"{photos / 'sub/c.jpg'}: no such image")
        assert (b.status, b.error) == ("ok", "")
        assert set(files(tmp_path / str(readers))) == {"b.png"}


def test_an_image_that_fails_leaves_no_mask_of_before(tiny, photos: Path, tmp_path: Path) -> None:
    samples = _samples(photos)
    _write(tiny, samples, tmp_path / "m", confidence=True, cams="patch")
    (photos / "a.jpg").write_bytes(b"")
    _write(tiny, samples, tmp_path / "m", confidence=True, cams="patch")
    wanted = {f"{where}{name}" for name in ("b", "sub/c") for where in ("", "confidence/", "cams/")}
    assert {name.rpartition(".")[0] for name in files(tmp_path / "m")} == wanted


def test_one_culprit_does_not_spoil_its_batch(tiny, photos: Path, tmp_path: Path) -> None:
    """b.png is the only one that is 64 pixels wide; the batch is halved until it is alone."""

    def fails(images):
        return FloatingPointError("a map is not finite") if any(i.width == 64 for i in images) else None

    faulty = Faulty(tiny, fails)
    a, b, c = _write(faulty, _samples(photos), tmp_path / "m")
    assert (b.status, b.reason) == ("failed", "a map is not finite")
    assert a.status == c.status == "ok" and set(files(tmp_path / "m")) == {"a.png", "sub/c.png"}
    assert faulty.batches == [3, 1, 2, 1, 1]


def test_what_is_not_finite_in_half_precision_is_done_in_float32(tiny, photos: Path, tmp_path: Path) -> None:
    faulty = Faulty(tiny, lambda images: FloatingPointError("a map is not finite"), torch.bfloat16)
    assert {outcome.status for outcome in _write(faulty, _samples(photos), tmp_path / "wide")} == {"ok"}
    _write(tiny, _samples(photos), tmp_path / "float")
    assert files(tmp_path / "wide") == files(tmp_path / "float")


def test_the_generator_in_float32(photos: Path) -> None:
    half = load(precision="bf16")
    wide = half._in_float32()
    assert (half.dtype, wide.dtype) == (torch.bfloat16, torch.float32)
    assert wide.settings["dtype"] == "float32" and half.settings["dtype"] == "bfloat16"
    sample = _samples(photos)[0]
    maps = wide(sample.image, sample.labels).patch_cams, load()(sample.image, sample.labels).patch_cams
    assert np.abs(maps[0] - maps[1]).max() < 0.05  # the weights have been through bfloat16


OUT_OF_MEMORY = [
    MemoryError(),
    RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["python", "cuda", "cpu"])
def test_too_large_a_batch_is_halved(tiny, scenes: list[Sample], tmp_path: Path, error: Exception) -> None:
    """Only what is not done is done again; the next batch, of which the images may be smaller, is tried whole."""
    faulty = Faulty(tiny, lambda images: error if len(images) > 3 else None)
    with pytest.warns(UserWarning, match="out of memory with 8 images; making them 4 at a time"):
        outcomes = _write(faulty, (scenes * 4)[:20], tmp_path / "m", batch_size=8)
    assert [outcome.status for outcome in outcomes] == ["ok"] * 20
    assert faulty.batches == [8, 4, 2, 2, 2, 2, 8, 4, 2, 2, 2, 2, 4, 2, 2]
    _write(tiny, scenes, tmp_path / "plain")
    assert files(tmp_path / "m") == files(tmp_path / "plain")


@pytest.mark.filterwarnings("ignore:out of memory")
@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["python", "cuda", "cpu"])
def test_too_large_an_image_fails(tiny, photos: Path, tmp_path: Path, error: Exception) -> None:
    outcomes = _write(Faulty(tiny, lambda images: error), _samples(photos), tmp_path / "m")
    assert [outcome.reason for outcome in outcomes] == [str(error) or "out of memory"] * 3
    assert not files(tmp_path / "m")


def test_a_lost_gpu_is_no_images_fault(tiny, photos: Path, tmp_path: Path) -> None:
    """Those before it are written and recorded."""

    def fails(images):
        return RuntimeError("CUDA error: device-side assert triggered") if images[0].height == 50 else None

    samples = _samples(photos)
    with MaskWriter(MasksFromImages(Faulty(tiny, fails)), Output(tmp_path / "m"), HEADER, batch_size=1) as writer:
        outcomes = writer.write(samples)
        assert [next(outcomes).status for _ in range(2)] == ["ok", "ok"]
        with pytest.raises(DeviceLost, match="device-side"):
            next(outcomes)
    assert [row.id for row in _rows(tmp_path / "m")] == ["a", "b"]


def test_a_bug_is_no_images_fault(tiny, photos: Path, tmp_path: Path) -> None:
    faulty = Faulty(tiny, lambda images: RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes cannot"):
        _write(faulty, _samples(photos), tmp_path / "m")
    assert not _rows(tmp_path / "m")


def test_a_full_disk_ends_the_run(tiny, scenes: list[Sample], tmp_path: Path, monkeypatch) -> None:
    """At the fourth file; nothing of it is left, and the record knows the three."""
    written = []
    real = Path.write_bytes

    def write_bytes(self, data):
        written.append(self)
        if len(written) > 3:
            real(self, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(OSError, match="No space left"):
        _write(tiny, scenes, tmp_path / "m")
    monkeypatch.undo()
    rows = _rows(tmp_path / "m")
    assert {f"{row.id}.png" for row in rows} == set(files(tmp_path / "m")) and len(rows) == 3


def test_want_of_memory_while_a_mask_is_encoded(tiny, photos: Path, tmp_path: Path, monkeypatch) -> None:
    encode = Output.encode

    def fails(self, result):
        if result.size == (96, 64):
            raise MemoryError
        return encode(self, result)

    monkeypatch.setattr(Output, "encode", fails)
    outcomes = _write(tiny, _samples(photos), tmp_path / "m")
    assert [(one.status, one.reason) for one in outcomes] == [("ok", ""), ("failed", "out of memory"), ("ok", "")]


@pytest.mark.parametrize("error", [*OUT_OF_MEMORY[:2], FloatingPointError("a map is not finite")])
def test_the_repeat_in_float32_may_fail_too(tiny, photos: Path, tmp_path: Path, error: Exception) -> None:
    faulty = Faulty(tiny, lambda images: FloatingPointError("not finite"), torch.bfloat16)
    faulty._in_float32 = lambda: Faulty(tiny, lambda images: error)
    outcomes = _write(faulty, _samples(photos), tmp_path / "m")
    assert [one.reason for one in outcomes] == [f"in float32, too: {str(error) or 'out of memory'}"] * 3


def test_a_name_that_no_file_can_have_costs_one_image(tiny, photos: Path, tmp_path: Path) -> None:
    a, b = _samples(photos)[:2]
    samples = [replace(a, id="x" * 300), replace(a, id="y.png/z"), replace(b, id="y"), replace(b, id="w")]
    outcomes = _write(tiny, samples, tmp_path / "m", batch_size=1)
    assert [one.status for one in outcomes] == ["failed", "ok", "failed", "ok"]
    assert "would be 304 bytes long, above 250" in outcomes[0].reason
    assert (
        "exists" in outcomes[2].reason or "y.png is a folder" in outcomes[2].reason
    )  # before, or while, it is written


def test_a_mask_that_no_run_wrote_stays(tiny, photos: Path, tmp_path: Path) -> None:
    """Whether the image that it is named as can be read or not."""
    samples, mine = _samples(photos), tmp_path / "m" / "a.png"
    tiny(samples[0].image, samples[0].labels).save(mine)
    before = mine.read_bytes()
    for _ in range(2):
        outcomes = _write(tiny, samples, tmp_path / "m")
        assert [one.status for one in outcomes] == ["failed", "ok", "ok"] and mine.read_bytes() == before
        assert "exists and is no mask of an earlier run; move it away" in outcomes[0].reason
        (photos / "a.jpg").write_bytes(b"")


def test_a_record_that_was_removed_ends_the_run(tiny, photos: Path, tmp_path: Path) -> None:
    samples = _samples(photos)
    with MaskWriter(MasksFromImages(tiny), Output(tmp_path / "m"), HEADER, batch_size=1) as writer:
        outcomes = writer.write(samples * 9)
        next(outcomes)
        for record in (tmp_path / "m" / "records").iterdir():
            record.unlink()
        with pytest.raises(FileNotFoundError, match="was removed while it was written to; is another run in this fol"):
            list(outcomes)


def test_errors_of_the_generator_get_the_path(photos: Path, tmp_path: Path) -> None:
    bare = load(background=[])
    samples = [Sample("a", photos / "a.jpg", ("cat",)), Sample("b", photos / "b.png", ("cat", "tree"))]
    a, b = _write(bare, samples, tmp_path / "m", batch_size=2)
    assert a.error.startswith(f"{photos / 'a.jpg'}: 'cat' is the only label and there is no background word")
    assert b.status == "ok"


def test_unknown_classes_and_missing_files_fail_or_are_skipped(tiny, photos: Path, tmp_path: Path) -> None:
    samples = [
        Sample("a", photos / "a.jpg", ("cat", "dgo")),
        Sample("b", photos / "no.png", ("cat",)),
        Sample("c", photos / "b.png", ("cat",)),
    ]
    failed = _write(tiny, samples, tmp_path / "m")
    assert [outcome.status for outcome in failed] == ["failed", "failed", "ok"]
    assert "unknown class 'dgo' in scenes" in failed[0].reason and failed[1].reason == "no such image"
    skipped = _write(tiny, samples, tmp_path / "s", skip=("unknown", "missing"))
    assert [(one.status, one.reason) for one in skipped] == [
        ("skipped", "unknown class 'dgo'"),
        ("skipped", "no such image"),
        ("ok", ""),
    ]
    assert [row.status for row in _rows(tmp_path / "s")] == ["skipped", "skipped", "ok"]


def test_it_stops_when_it_is_told_to(tiny, scenes: list[Sample], tmp_path: Path) -> None:
    """After the batch in hand, whose masks are written."""
    asked = []
    outcomes = _write(tiny, scenes, tmp_path / "m", batch_size=2, stop=lambda: bool(asked.append(1)) or len(asked) > 1)
    assert len(outcomes) == len(_rows(tmp_path / "m")) == len(files(tmp_path / "m")) == 4


def test_an_image_without_labels_is_background(tiny, photos: Path, tmp_path: Path) -> None:
    (outcome,) = _write(tiny, [Sample("a", photos / "a.jpg", ())], tmp_path / "m")
    assert outcome.status == "ok"
    with Image.open(tmp_path / "m" / "a.png") as image:
        assert image.size == (96, 64) and not np.asarray(image).any()


@pytest.mark.parametrize(("size", "readers", "jobs"), [(0, 0, 1), (-1, 0, 1), (1, -1, 1), (1, 0, 0)])
def test_sizes_are_checked_at_once(tiny, tmp_path: Path, size: int, readers: int, jobs: int) -> None:
    given = f"batch_size is {size}, readers {readers} and jobs {jobs}; they must be at least 1, 0 and 1"
    with pytest.raises(ValueError, match=given):
        MaskWriter(MasksFromImages(tiny), Output(tmp_path / "m"), HEADER, batch_size=size, readers=readers, jobs=jobs)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\0b"])
def test_ids_that_leave_the_folder_are_refused(tiny, photos: Path, tmp_path: Path, name: str) -> None:
    for kind in ("png", "tar"):
        (outcome,) = _write(tiny, [Sample(name, photos / "a.jpg", ("cat",))], tmp_path / "m", format=kind)
        assert outcome.status == "failed" and "cannot name a mask: it " in outcome.reason
    assert not files(tmp_path / "m") and {path.name for path in tmp_path.iterdir()} == {"m", "photos", "labels.csv"}


def test_a_mask_never_replaces_its_image(tiny, photos: Path) -> None:
    """Nor is it taken for a left-over of an earlier run."""
    before = (photos / "b.png").read_bytes()
    (outcome,) = _write(tiny, [Sample("b", photos / "b.png", ("cat",))], photos)
    assert outcome.error.startswith(f"{photos / 'b.png'}: its mask would replace it; choose another folder")
    assert (photos / "b.png").read_bytes() == before


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_turned_once(tiny, photos: Path, tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    with Image.open(photos / "a.jpg") as image:
        image.save(photos / "turned.jpg", exif=exif)
    upright = open_image(photos / "turned.jpg")
    assert np.array_equal(np.asarray(open_image(upright)), np.asarray(upright))
    _write(tiny, [Sample("turned", photos / "turned.jpg", ("cat", "tree"))], tmp_path / "m")
    expected = tiny(photos / "turned.jpg", ["cat", "tree"]).mask
    with Image.open(tmp_path / "m" / "turned.png") as mask:
        assert mask.size == upright.size == ((96, 64) if orientation < 5 else (64, 96))
        assert np.array_equal(np.asarray(mask), expected)
