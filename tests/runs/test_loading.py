"""clipes.runs.loading: images read ahead, in order; what kills a process costs one image."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipes.datasets import Sample
from clipes.io import retry
from clipes.io.images import open_image
from clipes.io.kinds import FORMATS
from clipes.runs import decoding, loading
from clipes.runs.decoding import Loaded
from clipes.runs.loading import KILLED, load_ahead

POSIX = pytest.mark.skipif(os.name != "posix", reason="processes are forked on POSIX")


@pytest.mark.parametrize("readers", [0, 1, 3])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_all_are_read_in_order(scenes: list[Sample], size: int, readers: int) -> None:
    batches = list(load_ahead(iter(scenes), size, readers))
    assert [len(batch) for batch in batches] == [min(size, 5 - start) for start in range(0, 5, size)]
    reads = [read for batch in batches for read in batch]
    assert [read.sample for read in reads] == scenes
    for read in reads:
        assert read.image.mode == "RGB" and read.reason == "" and not read.missing
        assert np.array_equal(np.asarray(read.image), np.asarray(open_image(read.sample.image)))


def test_nothing_is_read_of_nothing() -> None:
    assert list(load_ahead([], 4, 2)) == []


@pytest.mark.parametrize("readers", [0, 2])
def test_what_cannot_be_read_has_a_reason(scenes: list[Sample], readers: int) -> None:
    Path(str(scenes[0].image)).write_bytes(b"")
    Path(str(scenes[2].image)).unlink()
    Path(str(scenes[3].image)).write_bytes(b"no picture")
    reads = [read for batch in load_ahead(scenes, 2, readers) for read in batch]
    assert [(read.reason.split(";")[0], read.missing) for read in reads] == [
        ("the file is empty", False),
        ("", False),
        ("no such image", True),
        (f"not a {', '.join(FORMATS)} image", False),
        ("", False),
    ]
    assert [read.pixels is None for read in reads] == [True, False, True, True, False]


@pytest.mark.parametrize("readers", [0, 2])
def test_warnings_come_through(scenes: list[Sample], readers: int) -> None:
    with Image.open(str(scenes[1].image)) as image:
        image.save(Path(str(scenes[1].image)), exif=b"Exif\0\0broken")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(load_ahead(scenes, 2, readers))
    assert any(f"{scenes[1].image}: broken EXIF ignored" in str(one.message) for one in caught)


@pytest.mark.parametrize("readers", [0, 2])
def test_it_reads_only_a_little_ahead(scenes: list[Sample], readers: int) -> None:
    """Two batches for each process."""
    taken = []

    def samples():
        for sample in scenes * 20:
            taken.append(sample)
            yield sample

    reads = load_ahead(samples(), 3, readers)
    next(reads)
    assert len(taken) <= 3 * (1 + 2 * readers)
    reads.close()


def test_the_random_numbers_of_others_stay(scenes: list[Sample]) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(load_ahead(scenes, 2, 1))
    assert torch.equal(torch.get_rng_state(), before)


def _dies(monkeypatch: pytest.MonkeyPatch, deadly: set[str], times: int | None, folder: Path) -> None:
    """Reading one of ``deadly`` kills the process that does, ``times`` times in all."""

    def read(image):
        if Path(str(image)).stem in deadly:
            deaths = len(list(folder.glob("death-*")))
            if times is None or deaths < times:
                (folder / f"death-{deaths}-{os.getpid()}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return open_image(image)

    monkeypatch.setattr(decoding, "open_image", read)


@POSIX
def test_what_kills_its_process_costs_one_image(
    scenes: list[Sample], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second time when all the others are on their way, too."""
    _dies(monkeypatch, {"1"}, None, tmp_path)
    reads = [read for batch in load_ahead(scenes * 2, 2, 2) for read in batch]
    assert [read.sample for read in reads] == scenes * 2
    assert [read.reason for read in reads] == ["", KILLED, "", "", ""] * 2


@POSIX
def test_a_process_that_dies_while_it_sends_is_noticed(
    scenes: list[Sample], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Half of a picture is in the pipe, and the end of the message never comes."""
    Image.new("RGB", (2000, 2000)).save(Path(str(scenes[1].image)))

    def read(image):
        if Path(str(image)).stem == "1" and not (tmp_path / "death").exists():
            (tmp_path / "death").touch()
            threading.Timer(1, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return open_image(image)

    monkeypatch.setattr(decoding, "open_image", read)
    before = set(multiprocessing.active_children())
    reads = load_ahead(scenes, 1, 1)
    found = next(reads)
    (process,) = set(multiprocessing.active_children()) - before
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    found += [read for batch in reads for read in batch]
    assert [read.sample for read in found] == scenes and [read.reason for read in found] == [""] * 5


@POSIX
def test_many_samples_in_a_batch_do_not_block_the_pipe(scenes: list[Sample]) -> None:
    """More than the pipe holds, in both directions at once."""
    many = [replace(scenes[0], labels=("x" * 2_000_000,))] * 6
    assert [read.sample for batch in load_ahead(many, 1, 1) for read in batch] == many


@POSIX
def test_readers_end_with_the_process_that_started_them(scenes: list[Sample], tmp_path: Path) -> None:
    code = textwrap.dedent("""
        import multiprocessing, os, signal, sys
        from clipes.datasets import Sample
        from clipes.runs.loading import load_ahead

        reads = load_ahead([Sample("a", sys.argv[1], ("cat",))] * 9, 1, 2)
        next(reads)
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", code, scenes[0].image], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL and len(done.stdout.split()) == 2  # which waits for the end of stdout


@POSIX
def test_a_process_that_is_stuck_in_a_read_is_ended(scenes: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    def read(image):
        if Path(str(image)).stem == "1":
            time.sleep(600)
        return open_image(image)

    monkeypatch.setattr(decoding, "open_image", read)
    before = set(multiprocessing.active_children())
    reads = load_ahead(scenes, 1, 1)
    next(reads)
    (process,) = set(multiprocessing.active_children()) - before
    reads.close()
    process.join(30)
    assert not process.is_alive()


@POSIX
def test_a_process_that_dies_by_chance_costs_nothing(
    scenes: list[Sample], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _dies(monkeypatch, {"2"}, 1, tmp_path)
    reads = [read for batch in load_ahead(scenes, 2, 2) for read in batch]
    assert [read.sample for read in reads] == scenes and all(read.pixels is not None for read in reads)
    assert len(list(tmp_path.glob("death-*"))) == 1


@POSIX
def test_a_bug_in_a_process_is_told(scenes: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "open_image", lambda image: 1 / 0)
    for readers in (0, 1):
        with pytest.raises(ZeroDivisionError):
            list(load_ahead(scenes, 2, readers))


@POSIX
def test_the_signals_of_this_process_are_left_alone(scenes: list[Sample]) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM)]
    reads = load_ahead(scenes, 2, 1)
    next(reads)
    assert [signal.getsignal(number) for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM)] == handlers
    reads.close()


# --- processes that never begin

SCRIPT = """
import multiprocessing, sys, warnings
from pathlib import Path
from clipes.datasets import Sample
from clipes.runs.loading import load_ahead

multiprocessing.set_start_method("METHOD", force=True)
samples = [Sample(path.stem, path, ("cat",)) for path in sorted(Path(sys.argv[1]).glob("*.png"))]
GUARD
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reads = [read for batch in load_ahead(samples, 2, 2) for read in batch]
    for one in caught:
        print("warning:", one.message)
    print(*(read.reason or read.pixels.shape for read in reads), sep="; ")
"""


def _script(folder: Path, method: str, guard: str) -> subprocess.CompletedProcess[str]:
    path = folder / "script.py"
    path.write_text(SCRIPT.replace("METHOD", method).replace("GUARD", guard))
    return subprocess.run([sys.executable, path, folder], capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_script_without_a_main_guard_blames_no_image(scenes: list[Sample], method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    folder = Path(str(scenes[0].image)).parent
    done = _script(folder, method, "if True:")
    warning, shapes = done.stdout.splitlines()
    assert "end before they read any; put what calls clipes below `if __name__ == '__main__':`" in warning
    assert warning.endswith("images are read by this process alone")
    assert shapes == "; ".join(["(64, 80, 3)"] * 5) and done.returncode == 0
    done = _script(folder, method, "if __name__ == '__main__':")
    assert done.stdout.splitlines() == [shapes], done.stderr


@POSIX
def test_a_process_that_dies_at_its_start_is_no_images_fault(
    scenes: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For want of memory, for example; and one for the reading of one image alone."""
    monkeypatch.setattr(loading, "_serve", lambda *_: os._exit(1))
    with pytest.warns(UserWarning, match="end before they read any; images are read by this process alone"):
        reads = [read for batch in load_ahead(scenes * 4, 2, 3) for read in batch]
    assert [read.sample for read in reads] == scenes * 4 and all(read.pixels is not None for read in reads)
    assert loading._read_isolated(scenes[0], decoding.decode_image).pixels is not None


def test_a_process_that_cannot_be_started_is_no_images_fault(
    scenes: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(process: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(multiprocessing.Process, "start", start)
    with pytest.warns(UserWarning, match="no process that reads images can be started: .*unavailable; images are read"):
        reads = [read for batch in load_ahead(scenes, 2, 2) for read in batch]
    assert [read.sample for read in reads] == scenes and all(read.pixels is not None for read in reads)


@POSIX
def test_a_daemon_reads_by_itself(scenes: list[Sample]) -> None:
    """It may have no children: a worker of a pool, or of a loader of torch."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_count, (scenes,)) == 5


def _count(samples: list[Sample]) -> int:
    return sum(read.pixels is not None for batch in load_ahead(samples, 2, 2) for read in batch)


def _in_trouble_once(sample: Sample) -> Loaded:
    """In a process that reads."""
    errors = [OSError(errno.ENOTCONN, "Transport endpoint is not connected", "in/a.png")]

    def read() -> Loaded:
        while errors:
            raise errors.pop()
        return decoding.decode_image(sample)

    return retry.retried(read)


def test_what_a_reader_says_of_a_trouble_is_told_here(scenes: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    """When it begins, not with the picture; the wait is a tenth of a second."""
    monkeypatch.setenv(retry.SECONDS, "60")
    with pytest.warns(UserWarning) as caught:
        (batch,) = load_ahead(scenes[:1], 1, 1, _in_trouble_once)
    begun, over = (str(one.message) for one in caught)
    assert "not connected: 'in/a.png'; it is tried again for up to 60 s" in begun and "is over after" in over
    assert batch[0].pixels is not None and not batch[0].warnings


def _never(sample: Sample) -> Loaded:
    time.sleep(3600)
    return Loaded(sample)


def test_a_reader_that_waits_for_ever_is_not_waited_for_after_a_stop(scenes: list[Sample]) -> None:
    asked: list[bool] = []
    assert list(load_ahead(scenes, 1, 1, _never, lambda: bool(asked) or bool(asked.append(True)))) == []


@POSIX
@pytest.mark.parametrize(("deaths", "told"), [(2, False), (9, True)])
def test_processes_that_die_when_they_begin_are_started_again(
    scenes: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: int, told: bool
) -> None:
    """A few times: it may have been a kill by chance."""
    serve = loading._serve

    def dies(*arguments: object) -> None:
        if len(list(tmp_path.glob("death-*"))) < deaths:
            (tmp_path / f"death-{os.getpid()}").touch()
            os._exit(1)
        serve(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loading, "_serve", dies)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reads = [read for batch in load_ahead(scenes, 2, 1) for read in batch]
    assert [read.sample for read in reads] == scenes and all(read.pixels is not None for read in reads)
    assert ["images are read by this process alone" in str(one.message) for one in caught] == [True] * told
