"""Leases: who may write masks to a folder beside whom, and when a lease is stale."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clipes.io.atomic import MACHINE_ID
from clipes.io.retry import LastingTrouble
from clipes.store import lease
from clipes.store.cleanup import check_output_folder, clear
from clipes.store.lease import FolderInUse, owners, process_start, take_lease

HOLD = """
import sys
from pathlib import Path
from clipes.store.lease import take_lease
with take_lease(Path(sys.argv[1]), sys.argv[2], sys.argv[3], alone=sys.argv[4] == "alone"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(folder: Path, digest: str, does: str = "clipes generate", alone: bool = False) -> Iterator[subprocess.Popen]:
    """Another process that holds a lease of ``folder``."""
    arguments = [sys.executable, "-c", HOLD, str(folder), digest, does, "alone" if alone else "beside"]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
    finally:
        process.communicate()


def leases(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if lease.LEASE_FILE.fullmatch(name)]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 0.4)


def test_writers_of_the_same_settings_share_a_folder(tmp_path: Path) -> None:
    with held(tmp_path, "x"), take_lease(tmp_path, "x"), take_lease(tmp_path, "x"):
        assert len(leases(tmp_path)) == 3
        assert {owner.digest for owner in owners(tmp_path).values() if owner} == {"x"}
    assert not leases(tmp_path)


@pytest.mark.parametrize(("digest", "alone", "other"), [("y", False, False), ("x", True, False), ("x", False, True)])
def test_other_settings_and_a_writer_that_must_be_alone_are_refused(
    tmp_path: Path, digest: str, alone: bool, other: bool
) -> None:
    with held(tmp_path, "x", "clipes finalize", other) as process:
        message = rf"clipes finalize \(process {process.pid} on .*\) writes masks there; wait until it ends"
        with pytest.raises(FolderInUse, match=message):
            take_lease(tmp_path, digest, alone=alone)
        assert len(leases(tmp_path)) == 1
    take_lease(tmp_path, digest, alone=alone).close()
    assert not leases(tmp_path)


def test_a_lease_of_a_killed_process_is_stale(tmp_path: Path) -> None:
    with held(tmp_path, "x") as process:
        process.kill()
        process.wait()
        assert len(leases(tmp_path)) == 1 and not owners(tmp_path)
        with take_lease(tmp_path, "y", alone=True):
            assert len(leases(tmp_path)) == 1


@pytest.mark.skipif(process_start(os.getpid()) is None, reason="Linux alone says when a process started")
def test_another_process_of_the_same_number_is_innocent(tmp_path: Path) -> None:
    with held(tmp_path, "x") as process:
        (name,) = leases(tmp_path)
        process.kill()
        process.wait()
    innocent = tmp_path / name.replace(f"-{process.pid}-", f"-{os.getppid()}-")  # which lives, and never was here
    (tmp_path / name).rename(innocent)
    with take_lease(tmp_path, "y", alone=True):
        assert not innocent.exists()


def test_a_lease_of_another_machine_is_watched(tmp_path: Path, quick: None) -> None:
    """No clock is compared: the counter either rises while it is watched, or it does not."""
    path = tmp_path / f".clipes-{'0' * 8}-7-{'0' * 16}.lease"
    value = {"host": "node7", "pid": 7, "started": "1", "does": "clipes generate", "digest": "x", "alone": False}
    ended = threading.Event()

    def beat() -> None:
        number = 0
        while not ended.wait(0.03):
            number += 1
            path.write_text(json.dumps({**value, "beat": number}))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        while not path.exists():
            time.sleep(0.01)
        for wrong_time in (0, 4e9):
            os.utime(path, (wrong_time, wrong_time))
            with pytest.raises(FolderInUse, match=r"clipes generate \(process 7 on node7\)"):
                take_lease(tmp_path, "y")
        take_lease(tmp_path, "x").close()  # the same settings do not wait
    finally:
        ended.set()
        thread.join()
    with take_lease(tmp_path, "y"):
        assert not path.exists()


def test_a_writer_notices_that_its_lease_is_gone(tmp_path: Path, quick: None) -> None:
    """As one finds it that slept for longer than others watch."""
    with take_lease(tmp_path, "x") as own:
        own.verify()
        own.path.unlink()
        end = time.monotonic() + 30
        while own.fault is None and time.monotonic() < end:
            time.sleep(0.01)
        with pytest.raises(FolderInUse, match="was removed while masks were written; start again"):
            own.verify()


def test_a_folder_that_is_gone_may_come_back(tmp_path: Path, quick: None) -> None:
    """As that of a share: no beat takes it for a lease that another removed."""
    folder, elsewhere = tmp_path / "m", tmp_path / "n"
    folder.mkdir()
    with take_lease(folder, "x") as own:
        folder.rename(elsewhere)
        with pytest.raises(LastingTrouble, match="the folder is not there any more"):
            own.verify()
        assert own.fault is None
        elsewhere.rename(folder)
        own.verify()


def test_a_writer_notices_that_the_folder_changes(tmp_path: Path) -> None:
    def check() -> None:
        raise ValueError("decided again")

    with take_lease(tmp_path, "x", check=check) as own, pytest.raises(ValueError, match="decided again"):
        own.verify()


def test_overwriting_waits_for_no_writer(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    with held(tmp_path, "x") as process:
        with pytest.raises(FolderInUse, match=rf"process {process.pid} on .* is writing there; stop it before"):
            check_output_folder(tmp_path, overwrite=True)
        with pytest.raises(FolderInUse, match=rf"process {process.pid}"):
            clear(tmp_path)
    clear(tmp_path)
    assert not leases(tmp_path)


def test_a_process_that_sleeps_still_holds_its_lease(tmp_path: Path) -> None:
    with held(tmp_path, "x") as process:
        os.kill(process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(FolderInUse):
                take_lease(tmp_path, "y")
        finally:
            os.kill(process.pid, signal.SIGCONT)


def test_a_broken_lease_of_this_machine(tmp_path: Path) -> None:
    """Of a full disk: who holds it is known from its name."""
    (tmp_path / f".clipes-{MACHINE_ID}-999999999-{'0' * 16}.lease").touch()
    with take_lease(tmp_path, "x", alone=True):
        assert len(leases(tmp_path)) == 1
