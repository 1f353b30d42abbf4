"""clipes.runs.ray_engine: the same masks by Ray, whatever happens to its actors. Most with a real Ray of two CPUs."""

from __future__ import annotations

import errno
import itertools
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import tarfile
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipes.cli import main
from clipes.datasets import Sample
from clipes.datasets.sample import RegionPlace
from clipes.device.errors import DeviceLost
from clipes.generator import MaskGenerator, load
from clipes.io.images import TarMember
from clipes.io.kinds import FORMATS, READ_INSTEAD
from clipes.regions.files import regions_checksum
from clipes.runs.decoding import Loaded, decode_image
from clipes.runs.generation import MasksFromImages
from clipes.runs.loading import KILLED
from clipes.runs.local_engine import MaskWriter
from clipes.runs.outcome import Outcome
from clipes.runs.plan import RayEngine
from clipes.runs.publishing import Publisher
from clipes.scenes import THINGS
from clipes.store.output import Output
from clipes.store.record import read_records

ray = pytest.importorskip("ray")
pyarrow = pytest.importorskip("pyarrow")

from clipes.runs import ray_engine  # noqa: E402
from clipes.runs.ray_engine import write_with_ray  # noqa: E402
from clipes.runs.ray_session import connected  # noqa: E402
from clipes.runs.ray_stages import GenerateMasks, Item, Work, WriteFiles, items_of, load_pixels, table_of  # noqa: E402

HEADER = {"settings": "x"}
NAMES = tuple(THINGS)
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


def fits(folder: Path) -> dict[str, tuple[tuple[str, ...], float | None]]:
    """What each row says of how its mask fits the labels."""
    found = (row for record in read_records(folder) for row in record.rows() if row.status == "ok")
    return {row.id: (row.missing, row.foreground) for row in found}


def work_of(output: Output, threads: int = 1, **options: Any) -> Work:
    return Work(NAMES, output, HEADER, threads, **options)


def write(
    load: Callable[[], MaskGenerator],
    output: Output,
    samples: Iterable[Sample],
    actors: tuple[int, int | None] = (1, None),
    address: str | None = None,
    **options: Any,
) -> Iterator[Outcome]:
    """Actors of one CPU; ``options`` are those of Work or arguments."""
    told = {name: options.pop(name) for name in Work.__dataclass_fields__ if name in options}
    engine = RayEngine(actors, cpus_per_actor=1, address=address)
    return write_with_ray(load, work_of(output, **told), samples, engine, **options)


def check_written(
    out: Path, outcomes: list[Outcome], samples: list[Sample], plain: Path, lost: tuple[str, ...] = ()
) -> None:
    """Each image ended once; all masks are those without Ray, except for the broken image and the ``lost``."""
    assert {one.sample for one in outcomes} == set(samples) and len(outcomes) == COUNT
    assert {one.sample.id: one.sample.origin for one in outcomes} == {one.id: one.origin for one in samples}
    broken = (f"sub/{BAD}", "failed", f"not a {', '.join(FORMATS)} image; {READ_INSTEAD}")
    bad = [broken, *((name, "failed", KILLED) for name in lost)]
    assert [one for one in by_id(outcomes) if one[1] != "ok"] == sorted(bad)
    assert masks(out) == {name: data for name, data in masks(plain).items() if name.removesuffix(".png") not in lost}
    assert fits(out) == {name: fit for name, fit in fits(plain).items() if name not in lost}
    assert set().union(*rows(out)) == {sample.id for sample in samples}


def deadly_decoder(folder: Path, times: dict[str, int | None]) -> Callable[[Sample], Loaded]:
    """Reading one of these images kills the process that does, as often as is said (None: always)."""

    def decode(sample: Sample) -> Loaded:
        most = times.get(sample.id, 0)
        deaths = len(list(folder.glob(f"{Path(sample.id).name}-died-*")))
        if most is None or deaths < most:
            (folder / f"{Path(sample.id).name}-died-{deaths}-{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return decode_image(sample)

    return decode


@pytest.mark.slow
def test_a_picture_that_kills_decoders_costs_nothing_else(cluster, samples, plain, tmp_path):
    """Of two blocks, one has an image that kills once, of which nothing is lost; one that kills always has failed."""
    decode = deadly_decoder(tmp_path, {"sub/3": None, "sub/9": 1})
    outcomes = list(write(load, Output(tmp_path / "m"), samples, block_size=7, decode=decode))
    check_written(tmp_path / "m", outcomes, samples, plain, lost=("sub/3",))
    deaths = [len(list(tmp_path.glob(f"{name}-died-*"))) for name in (3, 9)]
    assert deaths[0] >= 3 and deaths[1] == 1, "the test has killed nothing"


@pytest.mark.slow
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
                with suppress(FileExistsError), open(signs / "died", "x"):
                    os.kill(os.getpid(), signal.SIGKILL)
            return generate(*arguments)

        generator.generate = once  # type: ignore[method-assign]
        return generator

    out = tmp_path / "masks"
    outcomes = list(write(dying, Output(out), samples, actors=(2, 2), block_size=2))
    check_written(out, outcomes, samples, plain)
    assert (signs / "died").exists() and len(list(signs.glob("actor-*"))) == 3, "one took the dead one's place"
    assert ray.is_initialized(), "this Ray is not the engine's"


@pytest.mark.slow
@pytest.mark.parametrize("format", ["png", "tar"])
def test_a_writer_is_killed(cluster, samples, plain, tmp_path, format):
    """What it had is written again by another, with a record of its own; the names of records tell the processes."""
    out = tmp_path / "m"
    outcomes = []
    for outcome in write(load, Output(out, format=format, tar_size=2), samples, block_size=2):
        outcomes.append(outcome)
        if len(outcomes) == 3:
            (record,) = (out / "records").glob("*.jsonl")
            os.kill(int(record.name.split("-")[2]), signal.SIGKILL)
    assert len(list((out / "records").glob("*.jsonl"))) == 2
    if format == "png":
        check_written(out, outcomes, samples, plain)
    else:
        assert sorted(one.sample.id for one in outcomes) == sorted(one.id for one in samples)
        assert tar_masks(out) == masks(plain)


def tar_masks(folder: Path) -> dict[str, bytes]:
    found = {}
    for shard in folder.glob("*.tar"):
        with tarfile.open(shard) as tar:
            found |= {name: tar.extractfile(name).read() for name in tar.getnames() if name.endswith(".png")}
    return found


SAVED = {"confidence": True, "cams": "full"}
REASONS = {"a": "unknown class 'dgo'", "b": "no such image"}


@pytest.fixture(scope="module")
def finished(cluster: None, samples: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run of three threads, in the folder of the pictures, over six images in as many blocks. It saves everything.

    Two of the images are refused, one is warned of, and the first has regions; its files told and decoders say how
    processes were at work.
    """
    folder, pictures = tmp_path_factory.mktemp("finished"), samples[0].image.parent
    with Image.open(samples[0].image) as image:
        image.save(folder / "exif.jpg", exif=b"Exif\0\0broken")
        Image.new("L", image.size, 1).save(folder / "regions.png")
    good = [Sample(one.id, Path(one.image.name), one.labels) for one in samples[:3]]
    good[0] = replace(good[0], regions=RegionPlace(folder / "regions.png"))
    asked = [
        *good,
        Sample("a", samples[0].image, ("cat", "dgo")),
        Sample("b", folder / "no.png", ("cat",)),
        Sample("c", folder / "exif.jpg", ("cat",)),
    ]

    def telling() -> MaskGenerator:
        with open(folder / "told", "a") as told:
            told.write(f"{torch.get_num_threads()} {os.getcwd()} {os.getpid()}\n")
        return load()

    def decode(sample: Sample) -> Loaded:
        with open(folder / "decoders", "a") as decoders:
            decoders.write(f"{'torch' in sys.modules} {os.getcwd()}\n")
        return decode_image(sample)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as warned:
        patch.chdir(pictures)
        warnings.simplefilter("always")
        options = {"threads": 3, "decode": decode, "skip": ("unknown", "missing")}
        outcomes = list(write(telling, Output(folder / "m", **SAVED), asked, block_size=1, readers=1, **options))
    said = [str(one.message) for one in warned]
    return SimpleNamespace(folder=folder, pictures=pictures, outcomes=outcomes, asked=asked, warned=said)


@pytest.mark.slow
def test_processes_work_as_they_are_told(finished):
    """In the folder they were started from, with as many threads, and without torch where there is no model."""
    told = (finished.folder / "told").read_text().splitlines()
    assert all(line.startswith(f"3 {finished.pictures} ") for line in told)
    assert len(told) == len(set(told)) <= 2, "the model is loaded once in each actor"
    decoders = (finished.folder / "decoders").read_text().splitlines()
    assert set(decoders) == {f"False {finished.pictures}"}
    for record in read_records(finished.folder / "m"):
        assert record.header["threads"] == 3 and record.header["settings"] == "x"
        assert record.header["machine"] == socket.gethostname()


@pytest.mark.slow
def test_everything_that_is_saved_is_that_without_ray(finished, tiny, monkeypatch):
    monkeypatch.chdir(finished.pictures)
    alone, threads = finished.folder / "n", torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with MaskWriter(MasksFromImages(tiny), Output(alone, **SAVED), HEADER, skip=("unknown", "missing")) as writer:
            list(writer.write(finished.asked))
    finally:
        torch.set_num_threads(threads)
    written, expected = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.[pn][np][gz]")}
        for folder in (finished.folder / "m", alone)
    )
    assert written == expected and len(written) == 4 * 3
    (found,) = (row for record in read_records(finished.folder / "m") for row in record.rows() if row.id == "sub/0")
    assert found.regions == regions_checksum(finished.asked[0].regions)
    assert len(set(np.asarray(Image.open(finished.folder / "m/sub/0.png")).ravel().tolist()) - {255}) == 1, "one region"


@pytest.mark.slow
def test_what_is_refused_and_what_is_warned_of(finished):
    """A label that is no class, a file that is not there, a broken EXIF: as in one process."""
    assert {one.sample.id: one.reason for one in finished.outcomes if one.status == "skipped"} == REASONS
    assert by_id([one for one in finished.outcomes if one.status != "skipped"]) == [
        (name, "ok", "") for name in ("c", "sub/0", "sub/1", "sub/2")
    ]
    assert any("broken EXIF ignored" in text for text in finished.warned)


def failing_at(call: int, error: Exception) -> Callable[[], MaskGenerator]:
    """Loads a generator that raises at one call."""

    def failing() -> MaskGenerator:
        generator = load()
        generate, calls = generator.generate, itertools.count()

        def fail(*arguments: Any) -> Any:
            if next(calls) == call:
                raise error
            return generate(*arguments)

        generator.generate = fail  # type: ignore[method-assign]
        return generator

    return failing


@pytest.mark.slow
def test_a_lost_gpu_is_raised_here_as_it_was_there(cluster, samples, tmp_path):
    """And what was done before is written."""
    lost = RuntimeError("CUDA error: unspecified launch failure")
    with pytest.raises(DeviceLost) as caught:
        list(write(failing_at(2, lost), Output(tmp_path / "m"), samples[:4], actors=(1, 1)))
    assert type(caught.value) is DeviceLost, "and no class of Ray's"
    assert str(caught.value) == "CUDA error: unspecified launch failure", "Ray Data's advice is left out"
    assert rows(tmp_path / "m") == [["sub/0", "sub/1"]]


@pytest.mark.slow
def test_what_loading_raises_is_raised_here(cluster, samples, tmp_path):
    with pytest.raises(ValueError, match=r"^no classes given for nosuch; pass .* names$"):
        list(write(partial(load, "nosuch"), Output(tmp_path / "m"), samples[:2]))
    assert not (tmp_path / "m" / "records").exists()


@pytest.mark.slow
def test_a_full_disk(cluster, samples, tmp_path):
    """The writer's error is raised here, and the open .tar was closed with what fits."""
    big = Sample("sub/big", samples[0].image, samples[0].labels)
    small = tmp_path / "disk"
    small.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", small], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        many = [Sample(f"sub/{index}", big.image, big.labels) for index in range(40)]
        with pytest.raises(OSError, match="No space left on device") as caught:
            list(write(load, Output(small / "m", format="tar", tar_size=40), many))
        assert caught.value.errno == errno.ENOSPC
        (recorded,) = rows(small / "m")
        assert 0 < len(recorded) < 40 and set(tar_masks(small / "m")) == {f"{name}.png" for name in recorded}
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)


@pytest.mark.slow
def test_a_block_that_kills_every_actor_ends_the_run(cluster, samples, tmp_path):
    def deadly() -> MaskGenerator:
        (tmp_path / f"died-{os.getpid()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
        return load()

    for timeout_s in (15, 150):  # a busy machine may need more to start an actor
        with pytest.raises(TimeoutError, match=r"no block of images got ready in time: .* kills each process"):
            list(write(deadly, Output(tmp_path / "m"), samples[:2], timeout_s=timeout_s))
        if killed := list(tmp_path.glob("died-*")):
            break
    assert killed, "the test has killed nothing"


@pytest.mark.slow
def test_a_tar_has_as_many_images_as_was_said(cluster, samples, plain, tmp_path):
    output = Output(tmp_path / "m", format="tar", tar_size=4)
    assert samples[BAD] in samples[2:10]
    outcomes = list(write(load, output, samples[2:10]))
    assert [one.sample.id for one in outcomes if one.status != "ok"] == [f"sub/{BAD}"]
    counts = []
    for shard in (tmp_path / "m").glob("*.tar"):
        with tarfile.open(shard) as tar:
            counts.append(len(tar.getnames()))
    assert sorted(counts) == [6, 8], "each image a PNG and a JSON"
    found = tar_masks(tmp_path / "m")
    assert found == {name: data for name, data in masks(plain).items() if name in found}
    assert set(found) == {f"{one.sample.id}.png" for one in outcomes if one.status == "ok"}


@pytest.mark.slow
def test_samples_are_read_as_they_are_needed_and_a_stop_is_heard(cluster, samples, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "IMAGES_PER_SUBMISSION", 2)
    source, seen = iter(samples), []
    for outcome in write(load, Output(tmp_path / "m"), source, block_size=1, stop=lambda: len(seen) == 3):
        seen.append(outcome.sample.id)
    assert sorted(seen[:2]) == ["sub/0", "sub/1"] and seen[2] in ("sub/2", "sub/3") and len(seen) == 3
    assert next(source) == samples[4], "two submissions of two blocks"


def test_no_images_need_no_ray(tmp_path):
    """All are finished, say."""
    assert list(write(load, Output(tmp_path / "m"), [], address="nowhere:1")) == []


@pytest.mark.slow
def test_ray_is_started_and_ended(samples, tmp_path):
    """In a process of its own: its signals are its own, it is quiet, and a stop half-way leaves nothing."""
    script = """
        import signal, sys
        from clipes.datasets import Sample
        from clipes.generator import load
        from clipes.store.output import Output
        from clipes.runs.plan import RayEngine
        from clipes.runs.ray_engine import write_with_ray
        from clipes.runs.ray_stages import Work
        from clipes.scenes import THINGS
        import ray

        if __name__ == "__main__":
            def own(*arguments): raise KeyboardInterrupt
            signal.signal(signal.SIGTERM, own)
            found = [Sample(str(index), sys.argv[1], ("cat",)) for index in range(9)]
            work = Work(tuple(THINGS), Output("m"), {"settings": "x"}, threads=1)
            outcomes = write_with_ray(load, work, found, RayEngine(cpus_per_actor=1), block_size=1)
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


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_after_a_block_and_the_next_start_goes_on(
    samples, plain, tmp_path, monkeypatch, capsys, number, code
):
    """The next start is one without Ray; the masks are those of one image, many times."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(200):
        (photos / f"{index:03}.png").symlink_to(samples[0].image)
    labels = ",".join(samples[0].labels)
    arguments = ["generate", "photos", "--labels", labels, "--out", "m"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    ray_run = subprocess.Popen(
        [sys.executable, "-m", "clipes.cli", *arguments, "--engine", "ray", "--threads", "1"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        while not list((tmp_path / "m").glob("*.png")):
            assert ray_run.poll() is None, ray_run.stdout.read()
            time.sleep(0.05)
        ray_run.send_signal(number)
        said = ray_run.communicate(timeout=300)[0]
    finally:
        ray_run.kill()
    assert ray_run.returncode == code and "stopping after the images in progress" in said, said
    assert 64 <= len(masks(tmp_path / "m")) < 200
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 0 and "finished before" in capsys.readouterr().out
    assert set(masks(tmp_path / "m").values()) == {masks(plain)["sub/0.png"]} and len(masks(tmp_path / "m")) == 200


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
    with pytest.raises(
        ImportError,
        match=re.escape(
            'the engine "ray" needs Ray: pip install "ray[data]", or in a clone of clipes pip install ".[ray]"'
        ),
    ):
        list(write(load, Output(tmp_path), samples))


def test_the_processes_without_the_model_load_no_torch(tmp_path):
    """Neither by what they run, nor by what they are told."""
    told = pickle.dumps((load_pixels, WriteFiles, work_of(Output(tmp_path))))
    code = "import pickle, sys; pickle.load(sys.stdin.buffer); raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], input=told, check=False).returncode == 0


def test_nothing_loads_ray_before_it_is_used():
    code = "import sys, clipes.runs.ray_engine; raise SystemExit('ray' in sys.modules or 'pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


text = st.text(st.characters(exclude_categories=())).filter(lambda text: "\0" not in text)
paths = st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name).map(os.fsdecode).map(Path)
sizes = st.integers(0, 2**62)
found = st.builds(
    Sample, text, paths | st.builds(TarMember, paths, text, sizes, sizes), st.lists(text).map(tuple), origin=text
)


@settings(deadline=None)
@given(st.lists(found, min_size=1, max_size=5))
def test_samples_come_through_as_they_are(samples):
    """Surrogates among them: names of files need not be UTF-8."""
    back = [item.sample for item in items_of(table_of([Item(sample) for sample in samples]))]
    assert back == samples and [one.origin for one in back] == [one.origin for one in samples]


def test_arrays_come_through_as_they_are():
    """Empty ones, missing ones, and those of several blocks."""
    sample = Sample("a", Path("a.png"), ("cat",))
    arrays = [np.arange(6, dtype=np.uint16).reshape(2, 3), None, np.empty((0, 3, 4), np.float32)]
    items = [Item(sample, content=one) for one in arrays] + [Item(sample, error=OSError(errno.ENOSPC, "full", "/m"))]
    table = pyarrow.concat_tables([table_of(items)] * 2)
    for item, back in zip(items * 2, items_of(table), strict=True):
        assert np.array_equal(item.content, back.content) and type(item.content) is type(back.content)
        assert item.content is None or item.content.dtype == back.content.dtype
        assert repr(item.error) == repr(back.error) and (item.row, item.sample) == (back.row, back.sample)


def by_stages(work: Work, samples: list[Sample]) -> list[Item]:
    """What the stages return, one after the other in this process."""
    generate, write_files = GenerateMasks(work, load), WriteFiles(work)
    threads = torch.get_num_threads()
    try:
        pixels = load_pixels(table_of([Item(sample) for sample in samples]), work)
        return [item for table in pixels for made in generate(table) for item in items_of(write_files(made))]
    finally:
        torch.set_num_threads(threads)


def test_the_stages_write_what_one_process_does(samples, plain, tmp_path):
    done = by_stages(work_of(Output(tmp_path / "m"), batch_size=3), samples)
    assert not any(item.error for item in done)
    check_written(tmp_path / "m", [item.content for item in done], samples, plain)


def test_too_little_memory_to_encode_fails_one_image(samples, tmp_path, monkeypatch):
    encode = Output.encode

    def fails(self: Output, result: Any) -> dict[str, bytes]:
        if result.labels == samples[1].labels:
            raise MemoryError
        return encode(self, result)

    monkeypatch.setattr(Output, "encode", fails)
    outcomes = [item.content for item in by_stages(work_of(Output(tmp_path / "m")), samples[:3])]
    failed = [(one.sample.id, "failed", "out of memory") for one in outcomes if one.sample.labels == samples[1].labels]
    assert failed and [one for one in by_id(outcomes) if one[1] != "ok"] == sorted(failed)


def test_an_error_of_the_writer_ends_its_record(samples, plain, tmp_path, monkeypatch):
    """What was published before it is on the disk; the tables after it are not done."""
    publish, calls = Publisher.publish, itertools.count()

    def fails(self: Publisher, *arguments: Any) -> Outcome:
        if next(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return publish(self, *arguments)

    monkeypatch.setattr(Publisher, "publish", fails)
    done = by_stages(work_of(Output(tmp_path / "m"), batch_size=2), samples[:5])
    assert [item.sample.id for item in done if not item.error] == ["sub/0", "sub/1"]
    assert {item.error.errno for item in done if item.error} == {errno.ENOSPC}
    assert rows(tmp_path / "m") == [["sub/0", "sub/1"]]


def test_an_error_that_does_not_pickle_keeps_its_text():
    class Local(Exception):
        pass

    (back,) = items_of(table_of([Item(Sample("a", Path("a.png"), ()), error=Local("no memory"))]))
    assert repr(back.error) == "RuntimeError('Local: no memory')"


@pytest.mark.parametrize(("tar_size", "size"), [(1000, 50), (64, 64), (4, 4), (997, 64), (1, 1)])
def test_blocks_fill_tars(tmp_path, tar_size, size):
    assert ray_engine._block_size(Output(tmp_path, format="tar", tar_size=tar_size)) == size
    assert ray_engine._block_size(Output(tmp_path)) == ray_engine.BLOCK
