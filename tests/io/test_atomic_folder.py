"""clipes.io.atomic: folders that are complete or absent, and whose files may be replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clipes.io.atomic import MACHINE_ID, check_target, owned, publish, remove_stale, staging_folder

posix = pytest.mark.skipif(os.name != "posix", reason="whether a process lives is only asked on POSIX")

REPLACE = """
import os, signal, sys
from pathlib import Path
from clipes.io.atomic import publish, staging_folder
renames, rename = int(sys.argv[1]), os.rename
def counted(old, new):
    global renames
    if not renames:
        os.kill(os.getpid(), signal.SIGKILL)
    renames -= 1
    rename(old, new)
os.rename = counted
with staging_folder(Path("out")) as staging:
    (staging / "new").touch()
    publish(staging, Path("out"), "export", {}, overwrite=True)
"""


def _write(out: Path, name: str) -> None:
    with staging_folder(out) as staging:
        (staging / name).touch()
        publish(staging, out, "export", {}, overwrite=True)


@posix
@pytest.mark.parametrize("renames", [0, 1])
def test_a_process_killed_while_it_replaces_a_folder_loses_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """Before the first rename, and between the two, when neither folder has the name."""
    monkeypatch.chdir(tmp_path)
    _write(Path("out"), "old")
    killed = subprocess.run([sys.executable, "-c", REPLACE, str(renames)], timeout=60)
    assert killed.returncode == -signal.SIGKILL and Path("out").exists() == (renames == 0)
    assert remove_stale(tmp_path, recursive=False) == 2  # the new folder and the one that holds the old
    assert os.listdir() == ["out"] and sorted(os.listdir("out")) == [".clipes-export", "old"]
    _write(Path("out"), "newer")
    assert os.listdir() == ["out"] and sorted(os.listdir("out")) == [".clipes-export", "newer"]


@posix
def test_a_replaced_folder_does_not_replace_its_replacement(tmp_path: Path) -> None:
    """Killed after the second rename; or somebody has used the name since."""
    old = tmp_path / f".clipes-{MACHINE_ID}-{2**22 + 1}-{'0' * 16}.tmp.old"
    (old / "out" / "old").mkdir(parents=True)
    (tmp_path / "out" / "new").mkdir(parents=True)
    assert remove_stale(tmp_path) == 1
    assert os.listdir(tmp_path) == ["out"] and os.listdir(tmp_path / "out") == ["new"]


@posix
def test_only_folders_of_dead_processes_of_this_machine_are_removed(tmp_path: Path) -> None:
    alive = f".clipes-{MACHINE_ID}-{os.getpid()}-{'0' * 16}.tmp"
    elsewhere = f".clipes-{'0' * 8}-{2**22 + 1}-{'0' * 16}.tmp"
    dead = f".clipes-{MACHINE_ID}-{2**22 + 1}-{'0' * 16}.tmp"
    for name in (alive, elsewhere, dead, f"sub/{dead}"):
        (tmp_path / name / "data").mkdir(parents=True)
    os.utime(tmp_path / elsewhere, (0, 0))  # a folder's time says nothing of the files below it
    assert remove_stale(tmp_path, recursive=False) == 1
    assert sorted(os.listdir(tmp_path)) == sorted([alive, elsewhere, "sub"])
    assert remove_stale(tmp_path) == 1 and os.listdir(tmp_path / "sub") == []


def test_a_failed_rename_leaves_the_earlier_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / "out", "old")
    rename = os.rename

    def fail(old: Path, new: Path) -> None:
        if ".tmp" in Path(old).name and Path(new).name == "out" and Path(old, "new").exists():
            raise PermissionError("no")
        rename(old, new)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(PermissionError):
        _write(tmp_path / "out", "new")
    assert os.listdir(tmp_path) == ["out"] and sorted(os.listdir(tmp_path / "out")) == [".clipes-export", "old"]


def test_whose_a_file_is(tmp_path: Path) -> None:
    marks = {"mask": b"tEXtSoftware\0clipes run", "figure": b"Software: clipes show"}
    for kind, mark in marks.items():
        for name, data in {"near": b"x" * 9 + mark, "end": b"x" * 200_000 + mark, "empty": b""}.items():
            (tmp_path / name).write_bytes(data)
            assert owned(tmp_path / name, kind)  # type: ignore[arg-type]
        for name, data in {"other": b"x" * 200_000, "deep": b"x" * 100_000 + mark + b"x" * 100_000}.items():
            (tmp_path / name).write_bytes(data)
            assert not owned(tmp_path / name, kind)  # type: ignore[arg-type]
    _write(tmp_path / "out", "a")
    (tmp_path / "link").symlink_to("out")
    assert owned(tmp_path / "out", "export")
    for name, kind in (
        ("out", "report"),
        ("link", "export"),
        ("absent", "export"),
        ("absent", "mask"),
        ("out", "mask"),
    ):
        assert not owned(tmp_path / name, kind)  # type: ignore[arg-type]


def test_a_folder_with_foreign_files_is_not_replaced(tmp_path: Path) -> None:
    run = tmp_path / "m"
    _write(tmp_path / "out", "a")
    check_target(tmp_path / "out", "export", run, [], overwrite=True)
    with pytest.raises(ValueError, match="holds an earlier export; choose another folder, or replace it with --ov"):
        check_target(tmp_path / "out", "export", run, [], overwrite=False)
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ValueError, match="out holds 'mine', which no export wrote; move it away"):
        check_target(tmp_path / "out", "export", run, [], overwrite=True)
