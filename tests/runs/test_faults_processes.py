"""What befalls a running `clipes generate`: it is killed, stopped, out of disk, or not alone. See test_faults.py."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipes.cli import main
from clipes.scenes import draw_scenes
from clipes.store.manifest import read_manifest
from clipes.store.record import read_records
from clipes.store.rows import LatestRows

pytest.importorskip("resource", reason="signals and limits of POSIX")
from forked import PATIENCE, Command, Server, served

COUNT = 24
GENERATE = ["generate", "scenes", "--labels", "labels.csv"]


@pytest.fixture(scope="module")
def server(_own_cache: None) -> Iterator[Server]:
    with served() as server:
        yield server


@pytest.fixture
def start(server: Server) -> Iterator[Callable[..., Command]]:
    """Start `clipes generate` over the scenes; what is still running at the end of the test is killed."""
    started: list[Command] = []

    def start(*arguments: object, **prepare: int | str) -> Command:
        log = Path(f"log{len(started)}")
        started.append(Command(server, [*GENERATE, *arguments], log, **prepare))
        return started[-1]

    yield start
    for one in started:
        one.kill()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scenes/*.png, the first of them large, and labels.csv."""
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "scenes").mkdir()
    rows = ["image,labels"]
    for number, scene in enumerate(draw_scenes(COUNT, 3_000_700, (40, 56))):
        Image.fromarray(scene.image).save(folder / "scenes" / f"{number:02}.png")
        rows.append(f"{number:02}.png,{';'.join(scene.labels)}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(autouse=True)
def _in_the_folder(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("scenes", "labels.csv"):
        (tmp_path / name).symlink_to(drawn / name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def whole(drawn: Path, server: Server) -> dict[str, bytes]:
    """What an undisturbed run writes: masks, confidences, maps."""
    source = ["generate", drawn / "scenes", "--labels", drawn / "labels.csv", *SAVED]
    with Command(server, [*source, "--out", drawn / "whole"], drawn / "log") as run:
        assert run.code() == 0, run.said
    return _files(drawn / "whole")


SAVED = ["--save-confidence", "--save-patch-cams"]


def _files(folder: Path) -> dict[str, bytes]:
    """All that was written for images, left-overs of writers included."""
    own = {"records", "run.json", "classes.json"}
    files = (path for path in folder.rglob("*") if path.is_file())
    named = ((path.relative_to(folder), path) for path in files)
    return {name.as_posix(): path.read_bytes() for name, path in named if name.parts[0] not in own}


def _named(folder: Path) -> dict[str, bytes]:
    """Those that have their final name."""
    return {name: data for name, data in _files(folder).items() if "/." not in f"/{name}"}


def _check_whole(folder: Path) -> None:
    """Nothing with a final name is half: images and maps open, a .tar ends as it must and all its masks open."""
    for name, data in _named(folder).items():
        if name.endswith(".tar"):
            assert data.endswith(bytes(2 * tarfile.BLOCKSIZE))
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                for member in archive:
                    if member.name.endswith(".png"):
                        Image.open(archive.extractfile(member)).load()
        elif name.endswith(".png"):
            Image.open(io.BytesIO(data)).load()
        else:
            np.load(io.BytesIO(data))["keys"]
    for name in ("run.json", "classes.json"):
        if (folder / name).exists():
            json.loads((folder / name).read_text())
    assert all(row.id for record in read_records(folder) for row in record.rows())


def _check_all_done(folder: Path, whole: dict[str, bytes], saved: bool = True) -> None:
    """The folder holds what an undisturbed run writes, and nothing else; and its records say so."""
    expected = {name: data for name, data in whole.items() if saved or "/" not in name}
    assert _files(folder) == expected
    _check_status(folder)


def _check_status(folder: Path) -> None:
    assert main(["status", str(folder), "--json", "status.json"]) == 0
    found = json.loads(Path("status.json").read_text())
    assert (found["total"], found["ok"], found["failed"], found["left"]) == (COUNT, COUNT, 0, 0)


def _killed(start: Callable[..., Command], windows: Sequence[str], *arguments: object) -> None:
    """One start after the other kills itself, each in its window; then one goes on to the end."""
    for window in windows:
        run = start(*arguments, "--out", "m", "--workers", 0, die=window)
        assert run.code() == -signal.SIGKILL, f"{window}: {run.said}"
        if Path("m").exists():
            _check_whole(Path("m"))
    run = start(*arguments, "--out", "m")
    assert run.code() == 0, run.said


def test_killed_in_each_window(start: Callable[..., Command], whole: dict[str, bytes]) -> None:
    """At the start, before the record, between an image's files, before a file has its name, and before its row."""
    _killed(start, ["start 0", "record 0", "file 0", "file 4", "name 3", "row 0", "row 2", "file 8", "row 4"], *SAVED)
    _check_all_done(Path("m"), whole)


def test_killed_in_each_window_of_a_tar(start: Callable[..., Command], whole: dict[str, bytes]) -> None:
    """In the middle of a member, before the .tar has its name, and before its rows."""
    tar = ("--out-format", "tar", "--tar-size", 3)
    _killed(start, ["member 1", "member 5", "name 1", "row 1"], *tar)
    assert _of_tars(Path("m")) == {name: data for name, data in whole.items() if "/" not in name}
    assert all(name.endswith(".tar") for name in _files(Path("m")))
    _check_status(Path("m"))


@pytest.mark.slow
def test_killed_at_fifty_random_moments(start: Callable[..., Command], whole: dict[str, bytes]) -> None:
    """After each kill all that has its name is whole; the next start goes on from there.

    Some moments are drawn by the clock, from the start of the process on, the others by the number of masks.
    """
    dice, kills, busy, rounds = random.Random(5), 0, 0, 0
    while kills < 50:
        folder, code = Path(f"m{rounds}"), None
        while code is None:
            run = start(*SAVED, "--out", folder, "--workers", dice.choice([0, 0, 0, 1]))
            have = _masks(folder)
            if kills >= 50 or have >= COUNT - 1:  # on to the next folder
                code = run.code(PATIENCE)
            elif dice.random() < 0.4:
                code = run.code(dice.uniform(0.03, 1))
            else:
                wanted = dice.randint(have + 1, COUNT - 1)
                while code is None and _masks(folder) < wanted:
                    code = run.code(dice.uniform(0, 0.005))
            assert code in (None, 0), run.said
            if code is None:
                run.kill()
                kills += run.code() == -signal.SIGKILL
                busy += 0 < _masks(folder) < COUNT
                _check_whole(folder)
        _check_all_done(folder, whole)
        rounds += 1
    assert busy >= 10  # those that are counted by masks


def _of_tars(folder: Path) -> dict[str, bytes]:
    """The mask of each image that the records say is done, from the .tar that they name."""
    found = {}
    with LatestRows(folder, read_manifest(folder)["digest"]) as rows:
        for number in range(COUNT):
            row = rows.get(f"{number:02}")
            assert row and row.status == "ok" and row.shard
            with tarfile.open(folder / row.shard) as archive:
                member = archive.extractfile(f"{row.id}.png")
                assert member
                found[f"{row.id}.png"] = member.read()
    return found


@pytest.mark.slow
def test_killed_while_tars_are_written(start: Callable[..., Command], whole: dict[str, bytes]) -> None:
    dice, kills, rounds = random.Random(6), 0, 0
    while kills < 8:
        folder, code = Path(f"t{rounds}"), None
        while code is None:
            run = start("--out", folder, "--out-format", "tar", "--tar-size", 3)
            code = run.code(dice.uniform(0.3, 0.8) if kills < 8 else PATIENCE)
            assert code in (None, 0), run.said
            if code is None:
                run.kill()
                kills += run.code() == -signal.SIGKILL
                _check_whole(folder)
        assert _of_tars(folder) == {name: data for name, data in whole.items() if "/" not in name}
        assert all(name.endswith(".tar") for name in _files(folder))
        _check_status(folder)
        rounds += 1


def _masks(folder: Path) -> int:
    """How many are written."""
    return len(list(folder.glob("[0-9]*.png")))


@pytest.mark.parametrize(("number", "code", "workers"), [(signal.SIGINT, 130, 2), (signal.SIGTERM, 143, 0)])
def test_one_signal_finishes_the_batch(
    start: Callable[..., Command], whole: dict[str, bytes], number: int, code: int, workers: int
) -> None:
    """To the whole group, as a terminal and schedulers send it."""
    run = start("--out", "m", *SAVED, "--workers", workers, "--batch-size", 2)
    run.until(lambda: _masks(Path("m")))
    os.killpg(run.pid, number)
    assert run.code() == code, run.said
    assert (
        "stopping after the images in progress; a second signal stops immediately" in run.said
        and "Traceback" not in run.said
    )
    _check_whole(Path("m"))
    assert _files(Path("m")) == _named(Path("m"))
    rows = [row.id for record in read_records("m") for row in record.rows()]
    assert len(rows) == _masks(Path("m")) < COUNT and len(rows) % 2 == 0
    again = start("--out", "m", *SAVED)
    assert again.code() == 0 and f"{len(rows)} finished before" in again.said
    _check_all_done(Path("m"), whole)


@pytest.mark.parametrize(
    ("number", "code", "workers", "format"),
    [
        (signal.SIGINT, 130, 0, "png"),
        (signal.SIGTERM, 143, 2, "png"),
        (signal.SIGINT, 130, 2, "tar"),
        (signal.SIGTERM, 143, 0, "tar"),
    ],
)
def test_a_second_signal_stops_at_once(
    start: Callable[..., Command], whole: dict[str, bytes], number: int, code: int, workers: int, format: str
) -> None:
    """Though the image in hand takes minutes."""
    arguments = ["--out", "m", "--workers", workers, "--out-format", format, "--tar-size", 3]
    run = start(*arguments, slow=7)
    run.until(lambda: "slow" in run.said)
    os.killpg(run.pid, number)
    run.until(lambda: "stopping after" in run.said)
    assert run.code(0.3) is None
    os.killpg(run.pid, number)
    assert run.code(60) == code, run.said
    assert "the files written so far are whole" in run.said and "Traceback" not in run.said
    _check_whole(Path("m"))
    assert _files(Path("m")) == _named(Path("m"))
    assert start(*arguments).code() == 0
    if format == "png":
        _check_all_done(Path("m"), whole, saved=False)
    else:
        assert _of_tars(Path("m")) == {name: data for name, data in whole.items() if "/" not in name}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_process_whose_threads_hang(
    start: Callable[..., Command], whole: dict[str, bytes], number: int
) -> None:
    """As where a file system does not answer any more: nothing can be waited for."""
    run = start("--out", "m", hang=7)
    run.until(lambda: "hangs" in run.said)
    os.killpg(run.pid, number)
    run.until(lambda: "stopping after" in run.said)
    assert run.code(1) is None
    os.killpg(run.pid, number)
    assert run.code(60) == {signal.SIGINT: 130, signal.SIGTERM: 143}[signal.Signals(number)], run.said
    _check_whole(Path("m"))
    assert start("--out", "m").code() == 0
    _check_all_done(Path("m"), whole, saved=False)


@pytest.mark.parametrize(
    ("limit", "format"),
    [
        (100, "png"),
        (1100, "tar"),
        *(
            pytest.param(limit, format, marks=pytest.mark.slow)
            for limit, format in [(100, "tar"), (1100, "png"), (4000, "png"), (4000, "tar")]
        ),
    ],
)
def test_files_that_may_not_grow(
    start: Callable[..., Command], whole: dict[str, bytes], limit: int, format: str
) -> None:
    """As on a full disk: from a limit that no file keeps to one that only the record and the .tar reach."""
    arguments = ["--out", "m", "--out-format", format, "--tar-size", 9]
    run = start(*arguments, limit=limit)
    assert run.code() == 4, run.said
    if limit > 100:  # what it says is a file, too
        assert "File too large" in run.said and "Traceback" not in run.said
    _check_whole(Path("m"))
    assert _files(Path("m")) == _named(Path("m"))
    assert start(*arguments).code() == 0
    if format == "png":
        _check_all_done(Path("m"), whole, saved=False)
    else:
        assert _of_tars(Path("m")) == {name: data for name, data in whole.items() if "/" not in name}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True)
    if not done or done.returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # processes that read images take seconds to go


def test_a_full_disk(start: Callable[..., Command], whole: dict[str, bytes], small_disk: Path) -> None:
    """A real one; once there is room, the run goes on."""
    (small_disk / "others").write_bytes(bytes(12 * 1024))
    run = start("--out", small_disk / "m", *SAVED)
    assert run.code() == 4, run.said
    assert "No space left on device" in run.said and "Traceback" not in run.said
    _check_whole(small_disk / "m")
    assert _files(small_disk / "m") == _named(small_disk / "m")
    assert 0 < _masks(small_disk / "m") < COUNT
    (small_disk / "others").unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    again = start("--out", small_disk / "m", *SAVED)
    assert again.code() == 0 and "finished before" in again.said, again.said
    _check_all_done(small_disk / "m", whole)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_nobody_can_be_told(whole: dict[str, bytes]) -> None:
    """Where stdout is full, all masks are written all the same, and the exit code is that of the outcome."""
    command = [sys.executable, "-m", "clipes.cli", *GENERATE, "--out", "m"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    _check_all_done(Path("m"), whole, saved=False)


def test_two_at_once_with_the_same_settings(start: Callable[..., Command], whole: dict[str, bytes]) -> None:
    dice = random.Random(7)
    for number in range(3):
        folder = Path(f"m{number}")
        first = start("--out", folder, *SAVED)
        first.code(number and dice.uniform(0, 0.4))
        second = start("--out", folder, *SAVED)
        assert (first.code(), second.code()) == (0, 0), first.said + second.said
        _check_all_done(folder, whole)


def test_two_at_once_with_other_settings(start: Callable[..., Command], whole: dict[str, bytes]) -> None:
    """Exactly one is refused, with the difference, and changes nothing."""
    for number in range(3):
        folder = Path(f"m{number}")
        both = [start("--out", folder, "--crf-iterations", count) for count in (1, 2)]
        codes = [run.code() for run in both]
        assert sorted(map(str, codes)) == ["0", "2"], [run.said for run in both]
        refused = both[codes.index(2)]
        assert re.search(r"config\.refine\.\S*iterations: (1 → 2|2 → 1)", refused.said), refused.said
        _check_status(folder)
