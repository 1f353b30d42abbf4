"""clipes.runs.preflight: what is refused before the first image, and what --overwrite removes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generating import write_masks
from PIL import Image

from clipes.datasets import Sample, find_samples
from clipes.runs.preflight import check_folder
from clipes.store.cleanup import clear
from clipes.store.lease import FolderInUse, take_lease
from clipes.store.output import Output
from clipes.vocabulary import check_labels, load_vocabulary


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_unknown_labels_are_told_with_their_place() -> None:
    vocabulary = load_vocabulary("voc12")
    good = Sample("a", Path("a.jpg"), ("dog",), "labels.csv, line 2")
    check_labels([good], vocabulary)
    with pytest.raises(ValueError, match=r"^labels.csv, line 3: unknown class 'dgo' in voc12; did you mean 'dog'"):
        check_labels([good, Sample("b", Path("b.jpg"), ("dgo",), "labels.csv, line 3")], vocabulary)
    with pytest.raises(ValueError, match=r"^unknown class 'dgo'"):
        check_labels([Sample("b", Path("b.jpg"), ("dgo",))], vocabulary)


def test_images_with_unknown_labels_are_counted_where_they_are_skipped() -> None:
    vocabulary = load_vocabulary("voc12")
    rows = [("dgo",), ("dog", "ct"), ("cat",), ()]
    samples = [Sample(str(n), Path("a.jpg"), labels, f"l.csv, line {n + 2}") for n, labels in enumerate(rows)]
    count, first = check_labels(samples, vocabulary, skip_unknown=True)
    assert count == 2 and first.startswith("l.csv, line 2: unknown class 'dgo' in voc12")
    bare = load_vocabulary("voc12", [])
    with pytest.raises(ValueError, match=r"^l\.csv, line 4: 'cat' is the only label and there is no background word"):
        check_labels(samples, bare, skip_unknown=True)


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
                check_folder(base / source, samples, Output(base / out))
        else:
            check_folder(base / source, samples, Output(base / out))


def test_a_file_in_place_of_the_folder_is_refused(photos: Path) -> None:
    (photos.parent / "m").touch()
    with pytest.raises(NotADirectoryError, match="m is a file; give another name, or move it away"):
        check_folder(photos, [], Output(photos.parent / "m"))


def test_nothing_foreign_is_replaced(tiny, photos: Path, tmp_path: Path) -> None:
    """Neither a classes.json of others, nor a PNG that no run wrote; an earlier run's masks are."""
    samples, out = find_samples(photos / "a.jpg", ["cat"]), tmp_path / "m"
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"a\.png exists and is no mask of an earlier run"):
        check_folder(photos, samples, Output(out))
    (out / "a.png").unlink()
    for name in ("classes.json", "run.json", "records", "confidence"):
        (out / name).write_text("{}")
        for check in (
            lambda: check_folder(photos, samples, Output(out)),
            lambda: [*write_masks(tiny, samples, Output(out))],
        ):
            with pytest.raises(ValueError, match=r"[Cc]hoose another folder"):
                check()
        assert (out / name).read_text() == "{}"
        (out / name).unlink()
    list(write_masks(tiny, samples, Output(out)))
    check_folder(photos, samples, Output(out))
    (out / "a.png").unlink()
    (out / "a.png").mkdir()
    check_folder(photos, samples, Output(out))
    (outcome,) = write_masks(tiny, samples, Output(out))
    assert outcome.status == "failed" and "exists and is no mask of an earlier run" in outcome.reason


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\0b"])
def test_ids_that_leave_the_folder_are_refused(photos: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "other.txt").touch()
    with pytest.raises(ValueError, match="cannot name a mask: it "):
        check_folder(photos, [Sample(name, photos / "a.jpg", ())], Output(tmp_path / "m"))


def test_to_begin_anew_only_what_runs_wrote_is_removed(tiny, photos: Path, tmp_path: Path) -> None:
    """Also what has no row, because its run was killed, and what has one that cannot be read."""
    samples = find_samples(photos, photos.parent / "labels.csv")
    mine = {"mine.png": b"1", "sub/mine.png": b"2", "cams/mine.npz": b"3", "masks-1.tar": b"4", "records/my.txt": b"5"}
    saved: dict[str, dict[str, Any]] = {
        "png": {"confidence": True, "cams": "patch"},
        "tar": {"format": "tar", "tar_size": 2},
    }
    for name, options in saved.items():
        out = tmp_path / name
        assert all(outcome.status == "ok" for outcome in write_masks(tiny, samples, Output(out, **options)))
        for file, data in mine.items():
            (out / file).parent.mkdir(exist_ok=True)
            (out / file).write_bytes(data)
        (record,) = (out / "records").glob("*.jsonl")
        record.write_bytes(record.read_bytes().splitlines(keepends=True)[0] + b"\xff rubbish\n")
        check_folder(photos, samples, Output(out, **options), overwrite=True)
        clear(out)
        assert _bytes(out) == mine


def test_nothing_is_overwritten_while_another_writes(tiny, photos: Path, tmp_path: Path) -> None:
    samples, out = find_samples(photos, ["cat"]), tmp_path / "m"
    list(write_masks(tiny, samples, Output(out)))
    with take_lease(out, "x"):
        check_folder(photos, samples, Output(out))
        with pytest.raises(
            FolderInUse, match=rf"process {os.getpid()} on .* is writing there; stop it before --overwr"
        ):
            check_folder(photos, samples, Output(out), overwrite=True)
    check_folder(photos, samples, Output(out), overwrite=True)


def test_a_mask_that_would_have_to_be_a_folder(photos: Path, tmp_path: Path) -> None:
    names = ["x/a.png/b.png/c", "z", "x/a.png/b", "q.png/z"]
    deep = [Sample(name, Path(f"{name}.jpg"), ()) for name in names]
    with pytest.raises(ValueError, match=r"its mask x/a\.png/b\.png would have to be a folder, too; rename it"):
        check_folder(photos, deep, Output(tmp_path / "m"))
    names = ["x/a.png/b.png/c", "z", "x/a", "q.png/z"]
    samples = [Sample(name, Path(f"{name}.jpg"), ()) for name in names]
    with pytest.raises(ValueError, match=r"x/a\.jpg: its mask x/a\.png would have to be a folder, too; rename it"):
        check_folder(photos, samples, Output(tmp_path / "m"))
    check_folder(photos, [samples[0], samples[1], samples[3]], Output(tmp_path / "m"))
    check_folder(photos, samples, Output(tmp_path / "m", format="tar"))


def test_shards_of_masks_are_not_put_among_shards_of_images(photos: Path, tmp_path: Path) -> None:
    samples = [Sample("a", photos / "a.jpg", ())]
    with pytest.raises(ValueError, match="lies in the source"):
        check_folder(tmp_path / "d" / "*.tar", samples, Output(tmp_path / "d", format="tar"))
    check_folder(tmp_path / "d" / "shard-*.tar", samples, Output(tmp_path / "d", format="tar"))
    check_folder(tmp_path / "d" / "*.tar", samples, Output(tmp_path / "d"))


@pytest.mark.skipif(os.name != "posix", reason="links are made otherwise elsewhere")
def test_a_link_does_not_lead_out_of_the_folder(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="leads out of the output folder through a link"):
        check_folder(photos, find_samples(photos, ["cat"]), Output(tmp_path / "m"))


def test_a_mask_that_was_edited_is_kept_and_the_others_are_done(tiny, photos: Path) -> None:
    """By another program, which drops what ours says of itself; a broken one is made again."""
    samples, output = find_samples(photos, photos.parent / "labels.csv"), Output(photos.parent / "m")
    assert len(list(write_masks(tiny, samples, output))) == 3
    with Image.open(output.folder / "a.png") as image:
        pixels, palette = np.array(image), image.getpalette()
    pixels[:10] = 0
    edited = Image.fromarray(pixels)
    edited.putpalette(palette)
    edited.save(output.folder / "a.png")
    kept = (output.folder / "a.png").read_bytes()
    (output.folder / "b.png").write_bytes((output.folder / "b.png").read_bytes()[:200])
    (output.folder / "sub" / "c.png").unlink()
    check_folder(photos, samples, output)
    with pytest.warns(UserWarning, match=r"a\.png was edited since the run wrote it, and is kept; delete it"):
        outcomes = list(write_masks(tiny, samples, output))
    assert {outcome.sample.id: outcome.status for outcome in outcomes} == {"b": "ok", "sub/c": "ok"}
    assert (output.folder / "a.png").read_bytes() == kept


def test_a_foreign_file_in_the_folder_of_a_run_fails_its_image_alone(tiny, photos: Path) -> None:
    samples, output = find_samples(photos, photos.parent / "labels.csv"), Output(photos.parent / "m")
    first, *rest = samples
    assert len(list(write_masks(tiny, rest, output))) == 2
    Image.new("L", (96, 64)).save(output.folder / f"{first.id}.png")
    check_folder(photos, samples, output)
    (outcome,) = write_masks(tiny, samples, output)
    assert outcome.status == "failed" and "exists and is no mask of an earlier run" in outcome.reason
    with pytest.raises(ValueError, match="exists and is no mask of an earlier run; move it away"):
        Image.new("L", (96, 64)).save(photos.parent / f"{first.id}.png")
        check_folder(photos, samples, Output(photos.parent))
