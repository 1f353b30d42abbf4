"""A run whose disk or network share is in trouble: for a moment, for a minute, or for good."""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from generating import Run, draw, masks, rows, runner

from clipes.cli import main
from clipes.config import ParConfig
from clipes.io import retry
from clipes.io.retry import LastingTrouble, Patience, Retry
from clipes.runs import decoding
from clipes.runs.decoding import Loaded, SavedSample
from clipes.runs.finalize import read_run
from clipes.runs.saved_maps import MapsDecoder
from clipes.store.store import Store

COUNT = 6


def slow(value: object) -> Any:
    """A parameter of a test that is as good without it."""
    return pytest.param(value, marks=pytest.mark.slow)


class Trouble:
    """Raises an error of the file system for all paths that ``hits`` names, until it is ``over`` by its clock.

    It begins when the second picture is read. Its clock is moved by sleeping alone.
    """

    def __init__(self) -> None:
        self.number, self.began, self.lasts, self.now = errno.EIO, False, 0.0, 0.0
        self.hits: Callable[[str], bool] = lambda path: True
        self.at_sleep: Callable[[], object] = lambda: None
        self.said: list[str] = []
        self.retry = Retry(Patience, self._sleep, lambda: self.now, self.said.append)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.at_sleep()

    def check(self, path: object) -> None:
        """Raise the error if this path is in trouble now."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        if not self.began or self.now >= self.lasts or not isinstance(path, str | os.PathLike):
            return
        if self.hits(os.path.relpath(path)):
            raise OSError(self.number, os.strerror(self.number), str(path))


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trouble]:
    trouble = Trouble()

    def faulty(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            trouble.check(path)
            return real(path, *arguments, **options)

        return call

    opened = faulty(open)
    read = decoding.open_image

    def open_image(path: Path) -> Any:
        trouble.began = trouble.began or path.name == "001.png"
        return read(path)

    with monkeypatch.context() as patch:
        for name in ("open", "stat", "lstat", "scandir", "mkdir", "replace", "write", "fsync", "fstat", "link"):
            patch.setattr(os, name, faulty(getattr(os, name)))
        patch.setattr(builtins, "open", opened)
        patch.setattr(io, "open", opened)
        patch.setattr(decoding, "open_image", open_image)
        patch.setattr(retry, "of_process", trouble.retry)
        yield trouble


BeforePicture = Callable[[str, Callable[[], object]], None]


@pytest.fixture
def before_picture(monkeypatch: pytest.MonkeyPatch, trouble: Trouble) -> BeforePicture:
    """Does something before a picture of that name is read the first time."""

    def arrange(name: str, action: Callable[[], object]) -> None:
        read, left = decoding.open_image, [action]

        def open_image(path: Path) -> Any:
            if path.name == name and left:
                left.pop()()
            return read(path)

        monkeypatch.setattr(decoding, "open_image", open_image)

    return arrange


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trouble: Trouble) -> Run:
    """The command, in a folder with pictures in in/photos/, which reads them itself."""
    if not os.path.exists("/proc/self/fd"):
        pytest.skip("the names of descriptors are read from Linux's /proc")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    draw(COUNT)
    plain = runner(capsys)

    def run(*arguments: object, out: str = "share/m", **options: str) -> Any:
        (tmp_path / "share").mkdir(exist_ok=True)
        return plain("--workers", 0, "--threads", 1, *arguments, out=out, **options)

    return run


@pytest.fixture
def undisturbed(run: Run, trouble: Trouble) -> dict[str, bytes]:
    assert run(out="clean").code == 0
    trouble.began = False
    return masks("clean")


def _in(folder: str) -> Callable[[str], bool]:
    return lambda path: path == folder or path.startswith(f"{folder}/")


@pytest.mark.parametrize("name", ["EIO", "ESTALE", "ENOTCONN", "ENOSPC", *map(slow, ("EAGAIN", "EHOSTDOWN", "EDQUOT"))])
def test_the_share_of_the_masks_is_gone_for_a_minute(
    run: Run, trouble: Trouble, undisturbed: dict[str, bytes], name: str
) -> None:
    """Whatever is written or read there meanwhile: masks, records, run.json, the lease."""
    trouble.number, trouble.lasts, trouble.hits = getattr(errno, name), 60, _in("share")
    code, _, err = run()
    assert code == 0 and masks("share/m") == undisturbed, err
    assert len(rows("share/m")) == COUNT and 60 <= trouble.now < 71
    begun, over = trouble.said
    assert "; it is tried again for up to 90 s" in begun and "is over after" in over


@pytest.mark.parametrize("format", ["png", "tar"])
def test_a_share_that_does_not_come_back(
    run: Run, trouble: Trouble, undisturbed: dict[str, bytes], format: str
) -> None:
    """An exit code of its own; what is finished is whole, and the next start goes on."""
    flags = ("--out-format", format, "--tar-size", 2)
    trouble.lasts, trouble.hits = float("inf"), _in("share")
    code, _, err = run(*flags)
    assert code == 6 and 90 <= trouble.now < 100, err
    assert err.splitlines()[-1].endswith("; see that the disk or the network share works, and start again, what is "
                                         "finished is kept")  # fmt: skip
    assert len(trouble.said) == 1
    trouble.lasts = 0
    assert all(data == undisturbed[name] for name, data in masks("share/m").items())
    assert len(rows("share/m")) < COUNT and all(row.status == "ok" for row in rows("share/m").values())
    assert run(*flags).code == 0 and len(rows("share/m")) == COUNT
    if format == "png":
        assert masks("share/m") == undisturbed


def test_tars_on_a_share_that_is_gone_for_a_minute(run: Run, trouble: Trouble) -> None:
    """The same bytes as those of an undisturbed run."""
    flags = ("--out-format", "tar", "--tar-size", COUNT)
    assert run(*flags, out="clean").code == 0
    trouble.began, trouble.lasts, trouble.hits = False, 60, _in("share")
    assert run(*flags).code == 0 and trouble.now >= 60
    tars = [[path.read_bytes() for path in Path(folder).glob("*.tar")] for folder in ("clean", "share/m")]
    assert tars[0] == tars[1] and len(tars[0]) == 1


@pytest.mark.parametrize(("name", "expected"), [("ENOSPC", 4), ("EDQUOT", 4), ("EHOSTDOWN", 6)])
def test_what_does_not_pass_has_its_exit_code(run: Run, trouble: Trouble, name: str, expected: int) -> None:
    trouble.number, trouble.lasts, trouble.hits = getattr(errno, name), float("inf"), _in("share")
    code, _, err = run()
    assert code == expected and trouble.now >= 90, err


def test_a_file_system_becomes_read_only(run: Run, trouble: Trouble, undisturbed: dict[str, bytes]) -> None:
    """It will not become writable by itself: nothing is waited for."""
    trouble.number, trouble.lasts = errno.EROFS, float("inf")
    trouble.hits = lambda path: path.startswith("share/") and path.endswith(".png")
    code, _, err = run()
    assert (code, trouble.now) == (7, 0.0) and "mount it for writing, or choose another folder" in err
    trouble.lasts = 0
    assert run().code == 0 and masks("share/m") == undisturbed


def test_pictures_on_a_share_that_is_gone_for_a_minute(
    run: Run, trouble: Trouble, undisturbed: dict[str, bytes]
) -> None:
    trouble.number, trouble.lasts, trouble.hits = errno.ENOTCONN, 60, _in("photos")
    assert run().code == 0 and masks("share/m") == undisturbed
    assert len(trouble.said) == 2 and 60 <= trouble.now < 71


@pytest.mark.parametrize("returns", [True, False], ids=["for a minute", "for good"])
def test_the_folder_of_the_pictures_is_gone(
    run: Run, trouble: Trouble, undisturbed: dict[str, bytes], returns: bool
) -> None:
    """No picture has failed for that."""
    trouble.number, trouble.lasts, trouble.hits = errno.ENOENT, 60 if returns else float("inf"), _in("photos")
    code, _, err = run()
    if returns:
        assert code == 0 and masks("share/m") == undisturbed and len(trouble.said) == 2, err
    else:
        assert code == 6 and {row.status for row in rows("share/m").values()} <= {"ok"}, err


def test_the_share_of_the_pictures_is_not_mounted(
    run: Run, trouble: Trouble, undisturbed: dict[str, bytes], before_picture: BeforePicture
) -> None:
    """The empty folder to which it is mounted is there."""
    before_picture("001.png", lambda: (os.rename("photos", "elsewhere"), os.mkdir("photos")))
    trouble.at_sleep = lambda: trouble.now >= 60 and os.path.exists("elsewhere") and os.rename("elsewhere", "photos")
    assert run().code == 0 and masks("share/m") == undisturbed and len(trouble.said) == 2


def test_a_picture_that_is_missing_is_not_waited_for(run: Run, trouble: Trouble, tmp_path: Path) -> None:
    """Its folder never was there; the folder of the table answers."""
    (tmp_path / "photos" / "labels.csv").write_text("image,labels\n000.png,cat\nno/a.png,cat\n001.png,cat\n")
    code, _, err = run("--missing", "skip", source="photos/labels.csv", labels="")
    assert code == 0 and trouble.now == 0, err
    assert {row.id: row.status for row in rows("share/m").values()} == {"000": "ok", "no/a": "skipped", "001": "ok"}


def test_a_picture_with_a_bad_sector(run: Run, trouble: Trouble, undisturbed: dict[str, bytes]) -> None:
    """It alone has failed, after a short wait that nobody need be told of; the next start tries it again."""
    trouble.lasts, trouble.hits = float("inf"), lambda path: path == "photos/002.png"
    code, _, err = run("--max-failure-rate", 0.5)
    assert code == 0 and 3 <= trouble.now < 4 and not trouble.said
    assert masks("share/m") == {name: data for name, data in undisturbed.items() if name != "002.png"}
    assert "Input/output error" in rows("share/m")["002"].reason and "photos/002.png: " in err
    trouble.lasts = 0
    assert run().code == 0 and masks("share/m") == undisturbed


def test_a_read_that_fails_once_is_repeated(run: Run, trouble: Trouble, undisturbed: dict[str, bytes]) -> None:
    trouble.lasts, trouble.hits = 0.1, lambda path: path == "photos/002.png"
    assert run().code == 0 and masks("share/m") == undisturbed and not trouble.said


@pytest.mark.parametrize("returns", [True, False], ids=["for a minute", "for good"])
def test_the_folder_of_the_masks_is_gone(
    run: Run, trouble: Trouble, undisturbed: dict[str, bytes], returns: bool, before_picture: BeforePicture
) -> None:
    """It is not created again where it was mounted: the masks would lie under the share."""
    before_picture("003.png", lambda: os.rename("share/m", "share/n"))
    trouble.at_sleep = lambda: (
        returns and trouble.now >= 60 and os.path.exists("share/n") and os.rename("share/n", "share/m")
    )
    code, _, err = run()
    if returns:
        assert code == 0 and masks("share/m") == undisturbed and len(trouble.said) == 2, err
    else:
        assert code == 6 and not os.path.exists("share/m"), err
        assert "the folder is not there any more" in err


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_wait(
    run: Run, trouble: Trouble, monkeypatch: pytest.MonkeyPatch, number: int, expected: int
) -> None:
    trouble.lasts, trouble.hits = float("inf"), _in("share")

    sent: list[float] = []

    def send() -> None:
        if trouble.now > 20 and not sent:
            sent.append(trouble.now)
            os.kill(os.getpid(), number)  # to the process, and so to its main thread
        if sent:
            assert handled.wait(60)

    handled, write = threading.Event(), os.write

    def said(file: int, data: bytes) -> int:
        handled.set() if b"stopping after" in data else None
        return write(file, data)

    monkeypatch.setattr(os, "write", said)
    trouble.at_sleep = send
    code, _, _ = run()
    assert code == expected and trouble.now < 21
    trouble.lasts = 0
    assert run().code == 0


def test_a_record_is_opened_again_when_its_descriptor_is_stale(
    run: Run, trouble: Trouble, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart of the server: the name leads to the file, what was opened does not."""
    stale: list[int] = []
    fstat = os.fstat

    def find(file: int) -> os.stat_result:
        if trouble.began and os.readlink(f"/proc/self/fd/{file}").endswith(".jsonl"):
            stale.extend([] if stale else [file])
            if file in stale:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return fstat(file)

    monkeypatch.setattr(os, "fstat", find)
    assert run().code == 0 and masks("share/m") == undisturbed and len(rows("share/m")) == COUNT
    assert stale and len(trouble.said) == 2


READERS = {
    "export": ("export", "share/m", "--to", "coco", "--out", "out"),
    "report": ("report", "share/m", "--out", "out"),
}


@pytest.fixture
def reading(
    run: Run, trouble: Trouble, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], Any]:
    """A command over a run; the trouble begins when the mask of the second image is asked for."""
    assert run().code == 0
    trouble.began = False
    mask = Store.mask

    def begin(store: Store, row: Any) -> Any:
        trouble.began = trouble.began or row.id == "001"
        return mask(store, row)

    monkeypatch.setattr(Store, "mask", begin)

    def command(name: str) -> Any:
        code = main(list(READERS[name]))
        return code, files("out") if code == 0 else {}, capsys.readouterr().err

    return command


def files(folder: str) -> dict[str, bytes]:
    """All files that an export or a report has written."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("share", ["photos", "share/m"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT], ids=["in trouble", "gone"])
def test_what_a_reader_reads_is_gone_for_a_minute(
    reading: Callable[[str], Any], trouble: Trouble, name: str, share: str, number: int
) -> None:
    """No image is left out: pictures and masks are those of an undisturbed reading."""
    code, undisturbed, err = reading(name)
    assert code == 0 and trouble.now == 0, err
    shutil.rmtree("out")
    trouble.began, trouble.number, trouble.lasts, trouble.hits = False, number, 60, _in(share)
    code, found, err = reading(name)
    assert code == 0 and found == undisturbed and 60 <= trouble.now < 71 and len(trouble.said) == 2, err


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("share", ["photos", "share/m"])
def test_what_a_reader_reads_does_not_come_back(
    reading: Callable[[str], Any], trouble: Trouble, name: str, share: str
) -> None:
    """The exit code is that of a share in trouble, not of images that failed, and nothing is written."""
    trouble.lasts, trouble.hits = float("inf"), _in(share)
    code, _, err = reading(name)
    assert code == 6 and not os.path.exists("out") and 90 <= trouble.now < 100, err


@pytest.mark.parametrize("returns", [True, False], ids=["for a minute", "for good"])
def test_the_pictures_of_a_second_decision_are_not_mounted(
    run: Run, trouble: Trouble, before_picture: BeforePicture, returns: bool
) -> None:
    """``finalize`` with a refinement by colours: the masks are those of an undisturbed one, and no image has failed."""

    def decide(out: str) -> set[str]:
        with read_run("share/m") as saved:
            config = replace(saved.config, refine=ParConfig())
            return {outcome.status for outcome in saved.finalize(config, "photos", out=out)}

    assert run("--save-cams").code == 0 and decide("clean") == {"ok"}
    before_picture("001.png", lambda: (os.rename("photos", "elsewhere"), os.mkdir("photos")))
    trouble.at_sleep = lambda: (
        returns and trouble.now >= 60 and os.path.exists("elsewhere") and os.rename("elsewhere", "photos")
    )
    if returns:
        assert decide("again") == {"ok"} and masks("again") == masks("clean") and len(trouble.said) == 2
    else:
        with pytest.raises(LastingTrouble):
            decide("again")
        assert {row.status for row in rows("again").values()} <= {"ok"}


@pytest.mark.parametrize("returns", [True, False], ids=["for a minute", "for good"])
def test_the_maps_of_a_second_decision_are_gone(
    run: Run, trouble: Trouble, monkeypatch: pytest.MonkeyPatch, returns: bool
) -> None:
    """``finalize`` into another folder, while that of the maps is not mounted: no image has failed."""

    def decide(out: str) -> set[str]:
        with read_run("share/m") as saved:
            return {outcome.status for outcome in saved.finalize(replace(saved.config, refine=None), out=out)}

    assert run("--save-cams").code == 0 and decide("clean") == {"ok"}
    read = MapsDecoder._read

    def unmount_first(decoder: MapsDecoder, sample: SavedSample) -> Loaded:
        if sample.id == "001" and not os.path.exists("elsewhere"):
            os.rename("share/m", "elsewhere")
            os.mkdir("share/m")
        return read(decoder, sample)

    def mount() -> None:
        if returns and trouble.now >= 60 and not os.listdir("share/m"):
            os.rmdir("share/m")
            os.rename("elsewhere", "share/m")
            Path("elsewhere").mkdir()  # it is taken away once

    monkeypatch.setattr(MapsDecoder, "_read", unmount_first)
    trouble.at_sleep = mount
    if returns:
        assert decide("again") == {"ok"} and masks("again") == masks("clean") and len(trouble.said) == 2
    else:
        with pytest.raises(LastingTrouble):
            decide("again")
        assert {row.status for row in rows("again").values()} <= {"ok"}
