"""What befalls a running `clipes generate`: it is killed, stopped, out of disk, or not alone. See test_faults.py."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipes.cli import main
from clipes.history import History
from clipes.manifest import read_manifest
from clipes.record import read_records
from clipes.scenes import draw_scenes

pytest.importorskip("resource", reason="signals and limits of POSIX")
import forked  # noqa: E402
from forked import Command, Limit, Slow  # noqa: E402

COUNT = 24
GENERATE = ["generate", "scenes", "--labels", "labels.csv"]


@pytest.fixture(scope="module", autouse=True)
def _server(_own_cache: None) -> Iterator[None]:
    with forked.server():
        yield


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
def whole(drawn: Path, _server: None) -> dict[str, bytes]:
    """What an undisturbed run writes: masks, confidences, maps."""
    source = ["generate", drawn / "scenes", "--labels", drawn / "labels.csv", *SAVED]
    with Command([*source, "--out", drawn / "whole"], drawn / "log") as run:
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


def _go_on(folder: Path, *arguments: object) -> None:
    with Command([*GENERATE, "--out", folder, *arguments], Path("log")) as run:
        assert run.code() == 0, run.said


def test_killed_at_fifty_random_moments(whole: dict[str, bytes]) -> None:
    """After each kill all that has its name is whole; the next start goes on; what is finished is never done again."""
    dice, kills, round, started = random.Random(5), 0, 0, time.monotonic()
    while kills < 50:
        folder, done = Path(f"m{round}"), False
        while not done:
            workers = dice.choice([0, 0, 0, 1])
            arguments = [*GENERATE, *SAVED, "--out", folder, "--workers", workers]
            with Command(arguments, Path("log")) as run:
                if kills < 50:
                    code = run.code(dice.uniform(0.05, 1.2))
                else:
                    code = run.code()
                done = code is not None
                assert code in (None, 0), run.said
            if not done:
                assert run.code() == -signal.SIGKILL
                kills += 1
                _check_whole(folder)
        _check_all_done(folder, whole)
        round += 1
    print(f"{kills} kills in {round} rounds, {time.monotonic() - started:.1f} s")


def _of_tars(folder: Path) -> dict[str, bytes]:
    """The mask of each image that the records say is done, from the .tar that they name."""
    found = {}
    with History(folder, read_manifest(folder)["digest"]) as history:
        for number in range(COUNT):
            row = history.get(f"{number:02}")
            assert row and row.status == "ok" and row.shard
            with tarfile.open(folder / row.shard) as archive:
                member = archive.extractfile(f"{row.id}.png")
                assert member
                found[f"{row.id}.png"] = member.read()
    return found


def test_killed_while_tars_are_written(whole: dict[str, bytes]) -> None:
    dice, done, kills, folder = random.Random(6), False, 0, Path("m")
    while not done:
        with Command([*GENERATE, "--out", folder, "--out-format", "tar", "--tar-size", 3], Path("log")) as run:
            code = run.code(dice.uniform(0.4, 1.5) if kills < 10 else forked.PATIENCE)
            assert code in (None, 0), run.said
            done = code == 0
        kills += not done
        _check_whole(folder)
    assert kills >= 3
    assert _of_tars(folder) == {name: data for name, data in whole.items() if "/" not in name}
    assert all(name.endswith(".tar") for name in _files(folder))
    _check_status(folder)
