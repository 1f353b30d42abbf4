"""clipes.store.output: where a run's files go; a .tar is whole or not there."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipes.datasets import Sample
from clipes.io.atomic import owned
from clipes.store.layout import file_path, tar_key
from clipes.store.output import Output, encode_mask
from clipes.store.row import Row
from clipes.store.writer import FolderWriter, TarWriter


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cams": "both"}, "cams is 'both'; it is 'patch', 'full' or None"),
        ({"format": "zip"}, "format is 'zip'; it is 'png', 'tar', 'none' or 'patches'"),
        ({"tar_size": 0}, "tar_size is 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_saved(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Output(tmp_path, **change)  # type: ignore[arg-type]


def test_encoded_files_hold_the_result(result, tmp_path: Path) -> None:
    assert set(Output(tmp_path).encode(result)) == {"mask"}
    files = Output(tmp_path, confidence=True, cams="full").encode(result)
    assert set(files) == {"mask", "confidence", "cams"}
    with Image.open(io.BytesIO(files["mask"])) as mask, Image.open(io.BytesIO(files["confidence"])) as confidence:
        assert np.array_equal(np.asarray(mask), result.mask)
        np.testing.assert_allclose(np.asarray(confidence) / 255, result.confidence, atol=0.5 / 255 + 1e-6)
    assert set(np.load(io.BytesIO(files["cams"])).files) == {"keys", "patch_cams", "size", "attn_highres"}
    patch = Output(tmp_path, cams="patch").encode(result)["cams"]
    assert set(np.load(io.BytesIO(patch)).files) == {"keys", "patch_cams", "size"}


@pytest.mark.parametrize("classes", [3, 300])
def test_only_what_a_run_wrote_is_replaced(result, photos: Path, tmp_path: Path, classes: int) -> None:
    """It is known by its mark; the same mask without it, saved by hand, is somebody's."""
    kind = np.uint8 if classes < 255 else np.uint16
    mine = replace(result, mask=(result.mask % 255).astype(kind), num_classes=classes)
    writer, sample, path = FolderWriter(Output(tmp_path)), Sample("a", photos / "a.jpg", ()), tmp_path / "a.png"
    writer.write_files("a", {"mask": encode_mask(mine)})
    writer.check(sample)
    assert owned(path, "mask")
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), mine.mask) and image.mode in (["P"] if classes == 3 else ["I;16", "I"])
    path.write_bytes(b"")  # what a broken file system leaves
    writer.check(sample)
    mine.save(path)
    for make in (lambda: None, path.unlink, path.mkdir):
        make()
        assert not owned(path, "mask")
        if path.exists():
            with pytest.raises(ValueError, match=r"a\.png exists and is no mask of an earlier run; move it away, or"):
                writer.check(sample)


@pytest.mark.parametrize("name", ["cams/a", "confidence/b/c", "records/a", "run.json/a", "classes.json/x"])
def test_names_that_are_taken(photos: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"in the output, {name.split('/')[0]}/ is for what is saved beside the masks"):
        FolderWriter(Output(tmp_path)).check(Sample(name, photos / "a.jpg", ()))
    FolderWriter(Output(tmp_path)).check(Sample(name.split("/")[0], photos / "a.jpg", ()))


FILES = {"mask": b"mask", "confidence": b"sure", "cams": b"maps"}


def test_a_folder_has_a_file_for_each(tmp_path: Path) -> None:
    writer, row = FolderWriter(Output(tmp_path, confidence=True, cams="patch")), Row("sub/a", "ok")
    writer.write_files("sub/a", FILES)
    assert writer.append(row, FILES) == [row] and writer.flush() == []
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert found == {"sub/a.png", "confidence/sub/a.png", "cams/sub/a.npz"}
    (tmp_path / "cams/sub/a.npz").unlink()
    writer.discard("sub/a")
    writer.discard("sub/a")
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.skipif(os.name != "posix", reason="links are made otherwise elsewhere")
def test_a_link_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "sub").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "m" / "cams").symlink_to(tmp_path / "elsewhere")
    writer = FolderWriter(Output(tmp_path / "m", confidence=True, cams="patch"))
    for name in ("sub/c", "c"):
        with pytest.raises(ValueError, match="leads out of the output folder through a link; remove the link"):
            writer.check(Sample(name, tmp_path / "c.jpg", ()))
        with pytest.raises(ValueError, match="through a link"):
            writer.write_files(name, FILES)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert file_path(tmp_path / "m", "a") == tmp_path / "m" / "a.png"


@pytest.mark.parametrize(
    ("name", "key"),
    [("a", "a"), ("2007.v2", "2007%2Ev2"), ("x.y/a.b.c", "x.y/a%2Eb%2Ec"), ("50%", "50%25"), ("a%2Eb", "a%252Eb")],
)
def test_keys_have_no_dot_in_the_name(name: str, key: str) -> None:
    assert tar_key(name) == key


def _fill(writer: TarWriter, names: list[str]) -> list[Row]:
    safe: list[Row] = []
    for name in names:
        safe += writer.append(Row(name, "ok", labels=("cat",), size=(3, 4)), {"mask": os.fsencode(name) * 300})
    return safe


def test_shards_are_whole_and_named_when_they_are_full(tmp_path: Path) -> None:
    writer = TarWriter(Output(tmp_path, format="tar", tar_size=2), "masks")
    assert _fill(writer, ["a"]) == [] and not list(tmp_path.glob("masks*"))
    safe = _fill(writer, ["sub/b.1", "c"])
    assert [(row.id, row.shard) for row in safe] == [("a", "masks-000000.tar"), ("sub/b.1", "masks-000000.tar")]
    assert [row.shard for row in writer.flush()] == ["masks-000001.tar"] and writer.flush() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks-000000.tar", "masks-000001.tar"]
    with tarfile.open(tmp_path / "masks-000000.tar") as tar:
        assert tar.getnames() == ["a.json", "a.png", "sub/b%2E1.json", "sub/b%2E1.png"]
        assert tar.extractfile("a.png").read() == b"a" * 300  # type: ignore[union-attr]
        about = json.load(tar.extractfile("sub/b%2E1.json"))  # type: ignore[arg-type]
        assert about == {"id": "sub/b.1", "labels": ["cat"], "size": [3, 4]}
        assert all(member.mtime == 0 and member.mode == 0o644 for member in tar)


def test_all_files_of_an_image_are_members(tmp_path: Path) -> None:
    writer = TarWriter(Output(tmp_path, format="tar", tar_size=1), "masks")
    writer.append(Row("a", "ok"), FILES)
    with tarfile.open(tmp_path / "masks-000000.tar") as tar:
        assert tar.getnames() == ["a.json", "a.png", "a.confidence.png", "a.cams.npz"]


def test_long_and_foreign_names(tmp_path: Path) -> None:
    names = ["ü/日本/" + "x" * 240, "y" * 200 + "/" + "z" * 200, os.fsdecode(b"caf\xe9")]
    writer = TarWriter(Output(tmp_path, format="tar", tar_size=9), "masks")
    _fill(writer, names)
    writer.flush()
    with tarfile.open(tmp_path / "masks-000000.tar", errors="surrogateescape") as tar:
        assert [name for name in tar.getnames() if name.endswith(".png")] == [f"{name}.png" for name in names]


def test_a_full_disk_costs_the_image_in_hand_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The half-written member is cut off again, so that the shard can still be closed."""
    writer = TarWriter(Output(tmp_path, format="tar", tar_size=9), "masks")
    _fill(writer, ["a", "b"])

    def some(file, data):
        file.write(data[:700])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("clipes.store.writer._write_all", some)
        _fill(writer, ["c"])
    assert [row.id for row in writer.flush()] == ["a", "b"]
    with tarfile.open(tmp_path / "masks-000000.tar") as tar:
        assert tar.getnames() == ["a.json", "a.png", "b.json", "b.png"]


def test_a_shard_that_cannot_be_closed_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = TarWriter(Output(tmp_path, format="tar", tar_size=9), "masks")
    _fill(writer, ["a"])

    def full(file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("clipes.store.writer._write_all", full)
    with pytest.raises(OSError, match="No space"):
        writer.flush()
    assert not list(tmp_path.iterdir())


def test_a_write_that_takes_a_part_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system may do with any."""
    from clipes.store import writer

    class Slow(io.BytesIO):
        def write(self, data):
            return super().write(bytes(data[:7]))

    file = Slow()
    writer._write_all(file, b"0123456789" * 10)
    assert file.getvalue() == b"0123456789" * 10


def test_the_same_images_give_the_same_tar(tmp_path: Path) -> None:
    digests = set()
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        writer = TarWriter(Output(tmp_path / name, format="tar", tar_size=3), "masks")
        _fill(writer, ["a", "b", "c"])
        digests.add(hashlib.sha256((tmp_path / name / "masks-000000.tar").read_bytes()).hexdigest())
    assert len(digests) == 1
