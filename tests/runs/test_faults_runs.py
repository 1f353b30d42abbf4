"""Faults that tests bring about in the middle of a `clipes generate` in this process. See test_faults.py."""

from __future__ import annotations

import errno
import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generating import Run, draw, masks, rows, runner, same_as_clean
from PIL import Image

from clipes.cams import compute
from clipes.datasets import Sample
from clipes.runs import decoding, preflight
from clipes.store import cleanup, writer
from clipes.store.output import Output


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command, in a folder with an empty photos/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    return runner(capsys)


# --- images that cannot be had


def test_reads_that_fail_by_chance(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in ten; the next start reads them again."""
    draw(40)
    dice, real, hit = random.Random(8), decoding.open_image, []

    def faulty(path: Any) -> Image.Image:
        if dice.random() < 0.1:
            hit.append(path.stem)
            raise OSError(errno.EIO, "Input/output error", str(path))
        return real(path)

    monkeypatch.setattr(decoding, "open_image", faulty)
    code, said, err = run("--workers", 0, "--max-failure-rate", 0.2)
    assert 2 <= len(hit) <= 8 and code == 0 and f"{40 - len(hit)} of 40 masks" in said
    assert {row.id for row in rows().values() if row.status == "failed"} == set(hit)
    assert all(rows()[name].reason == f"[Errno 5] Input/output error: 'photos/{name}.png'" for name in hit)
    assert all(f"photos/{name}.png: " in err for name in hit)
    monkeypatch.setattr(decoding, "open_image", real)
    code, said, _ = run()
    assert code == 0 and said.startswith(f"{len(hit)} of 40 masks written to m, {40 - len(hit)} finished before")
    assert same_as_clean(run)


def _copies(good: int, bad: int) -> None:
    draw(1, (8, 8))
    data = Path("photos/000.png").read_bytes()
    for number in range(good + bad):
        Path(f"photos/{number:03}.png").write_bytes(data if number >= bad else b"")


@pytest.mark.parametrize(
    ("bad", "allowed", "code"),
    [(1, None, 0), (2, None, 3), (29, 0.29, 0), (30, 0.29, 3), (0, 0, 0), (1, 0, 3), (99, 1, 0), (100, 1, 3)],
)
def test_the_failure_budget(run: Run, bad: int, allowed: float | None, code: int) -> None:
    """Exactly the share is allowed; 0.29 * 100 is less than 29 in floats."""
    _copies(100 - bad, bad)
    given = [] if allowed is None else ["--max-failure-rate", allowed]
    assert run(*given)[0] == code
    assert len(masks()) == 100 - bad


def test_strict(run: Run) -> None:
    """The first failure ends the run; those before it are done."""
    _copies(6, 0)
    Path("photos/003.png").write_bytes(b"")
    code, said, err = run("--strict", "--workers", 0)
    assert code == 3 and said.startswith("3 of 6 masks written to m, 1 failed") and "003.png: the file is empty" in err
    assert set(masks()) >= {"000.png", "001.png", "002.png"} and rows()["003"].status == "failed"
    Path("photos/003.png").write_bytes(Path("photos/000.png").read_bytes())
    code, said, _ = run("--strict")
    assert code == 0 and "finished before" in said
    assert same_as_clean(run)


def test_what_is_skipped(run: Run) -> None:
    draw(4)
    table = "image,labels\n000.png,cat\n001.png,cat;dgo\n002.png,cat\n003.png,tree\n"
    Path("photos/t.csv").write_text(table)
    Path("photos/002.png").unlink()
    given = {"source": "photos/t.csv", "labels": ""}
    code, _, err = run(**given)
    assert code == 2 and "002.png" in err and not Path("m").exists()
    code, _, err = run("--missing", "skip", **given)
    assert code == 2 and "line 3: unknown class 'dgo' in scenes" in err and not Path("m").exists()
    code, said, err = run("--missing", "skip", "--unknown", "skip", **given)
    assert code == 0 and said.startswith("2 of 4 masks written to m, 2 skipped")
    assert "1 image(s) with unknown labels will be skipped; photos/t.csv, line 3" in err
    assert {name: (row.status, row.reason) for name, row in rows().items()} == {
        "000": ("ok", ""),
        "001": ("skipped", "unknown class 'dgo'"),
        "002": ("skipped", "no such image"),
        "003": ("ok", ""),
    }


def test_labels_twice_and_none(run: Run) -> None:
    """Repeated labels are one; without a label all is background."""
    draw(2)
    Path("twice.csv").write_text("image,labels\n000.png,cat;tree;cat\n001.png,\n")
    assert run(labels="twice.csv")[0] == 0
    assert rows()["000"].labels == ("cat", "tree") and rows()["001"].labels == ()
    Path("once.csv").write_text("image,labels\n000.png,cat;tree\n001.png,\n")
    assert run(labels="once.csv", out="once")[0] == 0
    assert masks("m") == masks("once")
    with Image.open("m/001.png") as mask:
        assert mask.size == (56, 40) and not np.asarray(mask).any()


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a/../../x.png", "a\nb.png", "confidence/x.png"])
def test_hostile_ids(run: Run, name: str) -> None:
    """In a .tar, whose names are anybody's: refused before anything is written."""
    draw(1)
    data = Path("photos/000.png").read_bytes()
    with tarfile.open("s.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for member, content in ((name, data), (f"{name[:-4]}.txt", b"cat")):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    before = {path for path in Path.cwd().rglob("*")}
    code, said, err = run(source="s.tar", labels="")
    assert (code, said) == (2, "") and len(err.splitlines()) == 1, err
    assert {path for path in Path.cwd().rglob("*")} == before


def test_a_link_out_of_the_folder(run: Run) -> None:
    """Refused, whoever has made it."""
    Path("photos/sub").mkdir()
    Path("elsewhere").mkdir()
    draw(2)
    Path("photos/001.png").rename("photos/sub/001.png")
    Path("m").mkdir()
    Path("m/sub").symlink_to("../elsewhere")
    code, _, err = run()
    assert code == 2 and "leads out of the output folder through a link" in err
    assert not list(Path("elsewhere").iterdir()) and not Path("m/000.png").exists()


# --- the model and its memory


def _encoder(monkeypatch: pytest.MonkeyPatch, before: Callable[[Any, list[Image.Image]], None]) -> None:
    """Have ``before`` called with the encoder and the images that it gets."""
    real = compute.encode_images

    def encode(encoder: Any, images: list[Image.Image], config: Any) -> Any:
        before(encoder, images)
        return real(encoder, images, config)

    monkeypatch.setattr(compute, "encode_images", encode)


def test_too_large_a_batch(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Halved until it fits, and no image is done twice."""
    draw(19)
    real, tried = compute.encode_images, []

    def allocate(encoder: Any, images: list[Image.Image]) -> None:
        tried.append(len(images))
        if len(images) > 3:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")

    _encoder(monkeypatch, allocate)
    code, said, err = run("--batch-size", 8)
    assert code == 0 and said.startswith("19 of 19 masks") and not any(row.reason for row in rows().values())
    assert err.splitlines() == ["clipes generate: warning: out of memory with 8 images; making them 4 at a time"]
    assert tried == [8, 4, 2, 2, 2, 2, 8, 4, 2, 2, 2, 2, 3]
    monkeypatch.setattr(compute, "encode_images", real)
    assert same_as_clean(run)


def test_a_lost_gpu(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exit code of its own; no image has failed, and the next start goes on."""
    draw(8)
    seen: list[int] = []

    def lose(encoder: Any, images: list[Image.Image]) -> None:
        seen.append(1)
        if len(seen) > 3:
            raise RuntimeError("CUDA error: unspecified launch failure")

    real = compute.encode_images
    _encoder(monkeypatch, lose)
    code, said, err = run()
    assert code == 5 and said.startswith("3 of 8 masks written to m;")
    assert err.startswith("the GPU was lost, and no image is to blame: CUDA error") and len(err.splitlines()) == 1
    assert sorted(rows()) == ["000", "001", "002"] and all(row.status == "ok" for row in rows().values())
    monkeypatch.setattr(compute, "encode_images", real)
    code, said, _ = run()
    assert code == 0 and said.startswith("5 of 8 masks written to m, 3 finished before")
    assert same_as_clean(run)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_maps_that_are_not_finite(run: Run, monkeypatch: pytest.MonkeyPatch, precision: str, value: float) -> None:
    """In bfloat16 the image is done again in float32; in float32 it has failed, and no other has."""
    draw(5)
    Image.open("photos/002.png").resize((40, 40)).save("photos/002.png")
    real, bad = compute.compute_cams, []

    def localize(encoder: Any, *arguments: Any) -> list[torch.Tensor]:
        cams: list[torch.Tensor] = real(encoder, *arguments)
        if cams[0].shape[-1] == cams[0].shape[-2] and (encoder.dtype == torch.bfloat16 or precision == "fp32"):
            bad.append(1)
            cams = [torch.full_like(one, value) for one in cams]
        return cams

    monkeypatch.setattr(compute, "compute_cams", localize)
    code, _, err = run("--precision", precision, "--batch-size", 2)
    states = {name: row.status for name, row in rows().items()}
    assert bad and states.pop("002") == ("failed" if precision == "fp32" else "ok")
    assert set(states.values()) == {"ok"} and code == (3 if precision == "fp32" else 0)
    assert ("is not finite" in err) == (precision == "fp32")


# --- the folder


def test_a_signal_within_a_tar(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second Ctrl-C when half of an image is in it: the shard closes without that half, with what was in hand."""
    draw(6)
    real, calls = writer._write_all, []

    def write(file: Any, data: bytes) -> None:
        calls.append(len(data))
        if len(calls) == 3:
            real(file, data[: len(data) - 700])
            raise KeyboardInterrupt
        real(file, data)

    monkeypatch.setattr(writer, "_write_all", write)
    code, _, err = run("--out-format", "tar")
    assert code == 130 and "whole" in err
    (shard,) = Path("m").glob("*.tar")
    with tarfile.open(shard) as archive:
        names = archive.getnames()
    assert names[:4] == ["000.json", "000.png", "001.json", "001.png"] and "002.json" not in names
    assert [f"{name}.{kind}" for name in sorted(rows()) for kind in ("json", "png")] == names
    assert shard.stat().st_size % 512 == 0 and shard.read_bytes().endswith(bytes(1024))


def test_a_run_that_begins_at_the_same_moment(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are no foreign ones, though they were not there a moment ago."""
    draw(2)
    assert run()[0] == 0
    Path("m").rename("done")
    real = preflight.os.path.lexists

    def lexists(path: Any) -> bool:
        found = real(path)
        if not found and not Path("m").exists():
            Path("done").rename("m")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(preflight.os.path, "lexists", lexists)
        cleanup.check_output_folder(Path("m"))
    Path("m").rename("done")

    def samples() -> Any:
        Path("done/run.json").replace("m/run.json")
        for path in sorted(Path("done").glob("*.png")):
            path.rename(f"m/{path.name}")
        for number in range(2):
            yield Sample(f"{number:03}", Path(f"photos/{number:03}.png"), ("cat",))

    Path("m").mkdir()
    Path("m/notes.txt").touch()
    preflight.check_folder("photos", samples(), Output(Path("m")))


# --- the same bytes


def _tar_masks(folder: str) -> dict[str, bytes]:
    found = {}
    for shard in Path(folder).glob("*.tar"):
        with tarfile.open(shard) as archive:
            for member in archive:
                if member.name.endswith(".png"):
                    found[member.name] = archive.extractfile(member).read()  # type: ignore[union-attr]
    return found


def test_the_same_bytes_however_the_work_is_divided(run: Run) -> None:
    """Over shards, reading processes, batches and kinds of files; pictures of two sizes."""
    draw(5, (48, 40))
    for path in sorted(Path("photos").iterdir()):
        path.rename(f"photos/tall-{path.name}")
    draw(7)
    assert run()[0] == 0
    expected = masks()
    assert len(expected) == 12 and len(set(expected.values())) > 6
    for workers, size in ((0, 1), (0, 4), (1, 4), (3, 1), (3, 4)):
        assert run("--workers", workers, "--batch-size", size, out=f"{workers}-{size}")[0] == 0
        assert masks(f"{workers}-{size}") == expected
    assert [run("--shard", f"{part}/3", out="parts")[0] for part in range(3)] == [0, 0, 0]
    assert masks("parts") == expected and len(rows("parts")) == 12
    assert [run("--shard", f"{part}/2", "--out-format", "tar", "--tar-size", 4, out="tars")[0] for part in (0, 1)] == [
        0,
        0,
    ]
    assert _tar_masks("tars") == expected
