"""clipes.runs.ray_engine: the same masks by Ray, whatever happens to its actors. All with a real Ray of two CPUs."""

from __future__ import annotations

import errno
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipes.datasets import Sample
from clipes.device.errors import DeviceLost
from clipes.generator import MaskGenerator, load
from clipes.io.images import TarMember
from clipes.runs.generation import MasksFromImages
from clipes.runs.local_engine import MaskWriter
from clipes.runs.outcome import Outcome
from clipes.store.output import Output
from clipes.store.record import read_records

ray = pytest.importorskip("ray")
pytest.importorskip("pyarrow")

from clipes.runs import ray_engine  # noqa: E402
from clipes.runs.ray_engine import Pool, write_with_ray  # noqa: E402
from clipes.runs.ray_session import connected  # noqa: E402
from clipes.runs.sample_table import samples_of, table_of  # noqa: E402

HEADER = {"settings": "x"}
COUNT, BAD = 14, 5  # of the fixture samples


@pytest.fixture(scope="module")
def cluster(_own_cache: None) -> Iterator[None]:
    """Two CPUs of Ray, which the engine finds and leaves as they are."""
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def plain(tiny: MaskGenerator, samples: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is written without Ray."""
    folder = tmp_path_factory.mktemp("plain")
    with MaskWriter(MasksFromImages(tiny), Output(folder), HEADER) as writer:
        list(writer.write(samples))
    return folder


def masks(folder: Path) -> dict[str, bytes]:
    """The masks; a killed process may leave a hidden file, which the next start removes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("[!.]*.png")}


def by_id(outcomes: list[Outcome]) -> list[tuple[str, str, str]]:
    return sorted((one.sample.id, one.status, one.reason) for one in outcomes)


def rows(folder: Path) -> list[list[str]]:
    """The ids in each record."""
    return [[row.id for row in record.rows()] for record in read_records(folder)]


def test_an_actor_is_killed_and_the_masks_are_those_without_ray(cluster, samples, plain, tmp_path):
    signs = tmp_path / "signs"
    signs.mkdir()

    def dying() -> MaskGenerator:
        """Waits for the other actor, and kills its process at the fourth image, once in the run."""
        generator = load()
        generate, calls = generator.generate, itertools.count()
        (signs / f"actor-{os.getpid()}").touch()
        for _ in range(600):
            if len(os.listdir(signs)) > 1:
                break
            time.sleep(0.1)

        def once(*arguments: Any) -> Any:
            if next(calls) == 3:
                with suppress(FileExistsError), open(signs / "died", "x") as sign:
                    sign.write(f"-{os.getpid()}-")
                    sign.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
            return generate(*arguments)

        generator.generate = once  # type: ignore[method-assign]
        return generator

    out = tmp_path / "masks"
    outcomes = list(write_with_ray(dying, Output(out), HEADER, samples, Pool(actors=(2, 2), block_size=2, threads=1)))
    assert {one.sample for one in outcomes} == set(samples) and len(outcomes) == COUNT
    assert [one for one in by_id(outcomes) if one[1] != "ok"] == [
        (f"sub/{BAD}", "failed", "not a JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM image; convert it first")
    ]
    assert masks(out) == masks(plain) and len(masks(out)) == COUNT - 1
    assert {one.sample.id: one.sample.origin for one in outcomes} == {one.id: one.origin for one in samples}
    records = {path.name: set(ids) for path, ids in zip(sorted((out / "records").iterdir()), rows(out), strict=True)}
    assert len(records) == 3, "two actors, and one that took the dead one's place"
    (dead,) = (name for name in records if (signs / "died").read_text() in name)
    assert records[dead] and set().union(*records.values()) == {sample.id for sample in samples}
    assert ray.is_initialized(), "this Ray is not the engine's"


def test_actors_work_as_they_are_told(cluster, samples, tmp_path, monkeypatch):
    """In the folder they were started from, with as many threads, reading in a process of their own."""
    monkeypatch.chdir(samples[0].image.parent)
    relative = [Sample(one.id, Path(one.image.name), one.labels) for one in samples[:3]]

    def telling() -> MaskGenerator:
        with open(tmp_path / "told", "a") as told:
            told.write(f"{torch.get_num_threads()} {os.getcwd()} {os.getpid()}\n")
        return load()

    outcomes = write_with_ray(
        telling, Output(tmp_path / "m"), HEADER, relative, Pool(cpus_per_actor=1, threads=3, block_size=1), readers=1
    )
    assert by_id(list(outcomes)) == [(f"sub/{index}", "ok", "") for index in range(3)]
    told = (tmp_path / "told").read_text().splitlines()
    assert all(line.startswith(f"3 {os.getcwd()} ") for line in told)
    assert len(told) == len(set(told)) <= 2, "the model is loaded once in each actor"
    for record in read_records(tmp_path / "m"):
        assert record.header["threads"] == 3 and record.header["settings"] == "x"
        assert record.header["machine"] == socket.gethostname()


def test_a_lost_gpu_is_raised_here_as_it_was_there(cluster, samples, tmp_path):
    def failing() -> MaskGenerator:
        def fail(*arguments: Any) -> Any:
            raise RuntimeError("CUDA error: unspecified launch failure")

        generator = load()
        generator.generate = fail  # type: ignore[method-assign]
        return generator

    with pytest.raises(DeviceLost) as caught:
        list(write_with_ray(failing, Output(tmp_path / "m"), HEADER, samples[:2], Pool(cpus_per_actor=1)))
    assert type(caught.value) is DeviceLost, "and no class of Ray's"
    assert str(caught.value) == "CUDA error: unspecified launch failure", "Ray Data's advice is left out"


def test_what_loading_raises_is_raised_here(cluster, samples, tmp_path):
    with pytest.raises(ValueError, match=r"^no classes given for nosuch; pass .* names$"):
        list(
            write_with_ray(partial(load, "nosuch"), Output(tmp_path / "m"), HEADER, samples[:2], Pool(cpus_per_actor=1))
        )
    assert not (tmp_path / "m" / "records").exists()


def test_what_an_actor_had_done_when_the_disk_was_full_is_kept(cluster, samples, tmp_path):
    def failing() -> MaskGenerator:
        generator = load()
        generate, calls = generator.generate, itertools.count()

        def fail(*arguments: Any) -> Any:
            if next(calls) == 2:
                raise OSError(errno.ENOSPC, "No space left on device", "/m/a.png")
            return generate(*arguments)

        generator.generate = fail  # type: ignore[method-assign]
        return generator

    output = Output(tmp_path / "m", format="tar")
    with pytest.raises(OSError, match=r"No space left on device: '/m/a\.png'$") as caught:
        list(write_with_ray(failing, output, HEADER, samples[:4], Pool(cpus_per_actor=1)))
    assert caught.value.errno == errno.ENOSPC
    # what was in hand beside it, too, and the open .tar was closed
    assert rows(tmp_path / "m") == [["sub/0", "sub/1", "sub/3"]]


def test_a_block_that_kills_every_actor_ends_the_run(cluster, samples, tmp_path):
    def deadly() -> MaskGenerator:
        (tmp_path / f"died-{os.getpid()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
        return load()

    with pytest.raises(TimeoutError, match=r"no block of images got ready in time: .* kills each that reads it"):
        list(write_with_ray(deadly, Output(tmp_path / "m"), HEADER, samples[:2], Pool(cpus_per_actor=1, patience=15)))
    assert list(tmp_path.glob("died-*")), "the test has killed nothing"


def test_a_block_is_a_tar(cluster, samples, plain, tmp_path):
    """Full or not: once Ray has a block, what it holds is on the disk."""
    output = Output(tmp_path / "m", format="tar", tar_size=4)
    assert samples[BAD] in samples[2:10]
    outcomes = list(write_with_ray(load, output, HEADER, samples[2:10], Pool(cpus_per_actor=1, threads=1)))
    assert [one.sample.id for one in outcomes if one.status != "ok"] == [f"sub/{BAD}"]
    found, counts = {}, []
    for shard in (tmp_path / "m").glob("*.tar"):
        with tarfile.open(shard) as tar:
            counts.append(len(tar.getnames()))
            found |= {name: tar.extractfile(name).read() for name in tar.getnames() if name.endswith(".png")}
    assert sorted(counts) == [6, 8], "each image a PNG and a JSON"
    assert found == {name: data for name, data in masks(plain).items() if name in found}
    assert set(found) == {f"{one.sample.id}.png" for one in outcomes if one.status == "ok"}


def test_samples_are_read_as_they_are_needed_and_a_stop_is_heard(cluster, samples, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "WAVE", 2)
    source, seen = iter(samples), []
    outcomes = write_with_ray(
        load, Output(tmp_path / "m"), HEADER, source, Pool(cpus_per_actor=1, block_size=1), stop=lambda: len(seen) == 3
    )
    for outcome in outcomes:
        seen.append(outcome.sample.id)
    assert sorted(seen[:2]) == ["sub/0", "sub/1"] and seen[2] in ("sub/2", "sub/3") and len(seen) == 3
    assert next(source) == samples[4], "two waves of two blocks"


def test_no_images_need_no_ray(tmp_path):
    """All are finished, say."""
    assert list(write_with_ray(load, Output(tmp_path / "m"), HEADER, [], Pool(address="nowhere:1"))) == []


def test_ray_is_started_and_ended(samples, tmp_path):
    """In a process of its own: its signals are its own, it is quiet, and a stop half-way leaves nothing."""
    script = """
        import signal, sys
        from clipes.datasets import Sample
        from clipes.generator import load
        from clipes.store.output import Output
        from clipes.runs.ray_engine import Pool, write_with_ray
        import ray

        if __name__ == "__main__":
            def own(*arguments): raise KeyboardInterrupt
            signal.signal(signal.SIGTERM, own)
            found = [Sample(str(index), sys.argv[1], ("cat",)) for index in range(9)]
            outcomes = write_with_ray(
                load, Output("m"), {"settings": "x"}, found, Pool(cpus_per_actor=1, threads=1, block_size=1)
            )
            print(next(outcomes).status, signal.getsignal(signal.SIGTERM) is own)
            outcomes.close()
            print(ray.is_initialized())
    """
    command = [sys.executable, "-c", textwrap.dedent(script), samples[0].image]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if "(raylet)" not in line]  # Ray tells of actors that are killed
    assert said == ["ok True", "False"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("actors", "each", "wrong"),
    [(3, {"CPU": 1, "GPU": 0}, "3 actor(s) with 1 CPU(s) each, but Ray finds 2"), (1, {"GPU": 0.5}, "finds 0")],
)
def test_a_machine_without_room_is_told_at_once(monkeypatch, actors, each, wrong):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    calls: list[str] = []
    found = SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda **options: calls.append(f"init {options['address']}"),
        cluster_resources=lambda: {"CPU": 2.0},
        shutdown=lambda: calls.append("shutdown"),
    )
    with pytest.raises(ValueError, match=re.escape(wrong)), connected(found, None, actors, each):
        pass
    with connected(found, "host:6379", actors, each):
        calls.append("a cluster may grow")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with connected(found, None, actors, each):
        pass
    assert calls == [
        *("init local", "shutdown"),
        *("init host:6379", "a cluster may grow", "shutdown"),
        *("init auto", "shutdown"),
    ]


def test_without_ray_it_is_said_how_to_get_it(monkeypatch, tmp_path, samples):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=re.escape('the engine "ray" needs Ray: pip install "clipes[ray]"')):
        list(write_with_ray(load, Output(tmp_path), HEADER, samples, Pool()))


def test_nothing_loads_ray_before_it_is_used():
    code = "import sys, clipes.runs.ray_engine; raise SystemExit('ray' in sys.modules or 'pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


text = st.text(st.characters(exclude_categories=())).filter(lambda text: "\0" not in text)
paths = st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name).map(os.fsdecode).map(Path)
sizes = st.integers(0, 2**62)
found = st.builds(
    Sample, text, paths | st.builds(TarMember, paths, text, sizes, sizes), st.lists(text).map(tuple), origin=text
)


@given(st.lists(found, min_size=1, max_size=5))
def test_samples_come_through_as_they_are(samples):
    """Surrogates among them: names of files need not be UTF-8."""
    back = samples_of(table_of(samples))
    assert back == samples and [one.origin for one in back] == [one.origin for one in samples]
