"""clipes.runs.device_pool: the same masks by several processes, whatever happens to them; each is a real one."""

from __future__ import annotations

import errno
import itertools
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clipes.cli import main
from clipes.datasets import Sample
from clipes.device.errors import DeviceLost
from clipes.io.atomic import MACHINE_ID, atomic
from clipes.result import PseudoMask
from clipes.runs import device_pool
from clipes.runs.device_pool import device_list, write_on_devices
from clipes.runs.device_process import _portable, _signals_held
from clipes.runs.generation import MasksFromImages
from clipes.runs.local_engine import MaskWriter
from clipes.runs.outcome import Outcome
from clipes.scenes import draw_scenes
from clipes.store.output import Output
from clipes.store.record import read_records
from clipes.vocabulary import load_vocabulary

HEADER = {"settings": "x"}
COUNT, BAD = 14, 5  # of the fixture samples
TWO = ["cpu", "cpu"]
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture(scope="module")
def plain(samples: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process writes."""
    folder = tmp_path_factory.mktemp("plain")
    with MaskWriter(MasksFromImages(Drawer()), Output(folder), HEADER) as writer:  # type: ignore[arg-type]
        list(writer.write(samples))
    return folder


def masks(folder: Path) -> dict[str, bytes]:
    """All that is written for images, left-overs of writers included."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def rows(folder: Path) -> list[list[str]]:
    """The ids in each record."""
    return [[row.id for row in record.rows()] for record in read_records(folder)]


def recorded(folder: Path) -> list[str]:
    """The ids in all records."""
    return sorted(itertools.chain(*rows(folder)))


def ends(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    """The ids of those without a mask, and how they ended."""
    return [(one.sample.id, one.reason) for one in outcomes if one.status != "ok"]


# --- what the processes load: at module level, so that they find it


class Drawer:
    """Behaves as a generator does, and is there at once: its masks are the pictures' shades of red."""

    class_names = tuple(load_vocabulary("scenes").class_names)
    dtype, device, _default_batch_size = torch.float32, torch.device("cpu"), 1

    def _estimate_memory(self, images: list[Image.Image], labels: list[int]) -> int:
        return 0

    def generate(self, images: list[Image.Image], labels: Any, size: int) -> Iterator[PseudoMask]:
        for image in images:
            scores = np.asarray(image, np.float32)[None, :, :, 0] / 255
            yield PseudoMask(
                labels=(),
                class_ids=np.zeros(0, np.int64),
                patch_cams=np.zeros((0, 1, 1), np.float32),
                cams=scores[:0],
                scores=scores,
                mask=(scores[0] * len(self.class_names)).astype(np.uint8),
                confidence=scores[0],
                image=image,
                num_classes=len(self.class_names),
            )


def faulty(signs: Path, fault: Callable[[int, Path], None], device: str, processes: int = 2) -> Drawer:
    """A generator that calls ``fault`` with the number of each image, from 0, in the process; waits for the others."""
    generator = Drawer()
    generate, calls = generator.generate, itertools.count()
    (signs / f"process-{os.getpid()}").write_text(multiprocessing.get_start_method())
    for _ in range(600):
        if len(list(signs.glob("process-*"))) >= processes:
            break
        time.sleep(0.1)

    def generate_or_not(*arguments: Any) -> Any:
        fault(next(calls), signs)
        return generate(*arguments)

    generator.generate = generate_or_not  # type: ignore[method-assign]
    return generator


def first(signs: Path) -> bool:
    """Whether this process is the first to ask."""
    with suppress(FileExistsError), open(signs / "first", "x") as sign:
        sign.write(str(os.getpid()))
    return (signs / "first").read_text() == str(os.getpid())


def killed(number: int, signs: Path) -> None:
    """One is, once, in the middle of a file."""
    if number == 3 and not (signs / "first").exists() and first(signs):
        (signs.parent / "m" / "sub" / f".clipes-{MACHINE_ID}-{os.getpid()}-0123456789abcdef.tmp.png").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def lost(number: int, signs: Path, all_of_them: bool = False) -> None:
    """One has no GPU any more, or none has."""
    if number == 2 and (all_of_them or first(signs)):
        raise RuntimeError("CUDA error: unspecified launch failure")


def full(number: int, signs: Path) -> None:
    """One finds the disk full."""
    if number == 2 and first(signs):
        raise OSError(errno.ENOSPC, "No space left on device", "/m/a.png")


def stuck(number: int, signs: Path, seconds: float) -> None:
    """The third image takes so long, with a file half written."""
    if number == 2:
        with atomic(signs / "m" / "half.png") as temporary:
            temporary.touch()
            (signs / f"stuck-{os.getpid()}").touch()
            time.sleep(seconds)


def deadly(device: str) -> Drawer:
    """No process survives this."""
    os.kill(os.getpid(), signal.SIGKILL)
    return Drawer()


def poisoned(device: str) -> Drawer:
    """No process survives one of the images."""
    generator = Drawer()
    generate = generator.generate

    def generate_or_die(images: Any, labels: Any, size: int) -> Any:
        if images[0].size == (9, 9):
            os.kill(os.getpid(), signal.SIGKILL)
        return generate(images, labels, size)

    generator.generate = generate_or_die  # type: ignore[method-assign]
    return generator


def unknown(device: str) -> Drawer:
    """A model that cannot be loaded."""
    raise ValueError(f"no model for {device}")


# --- faults


@posix
def test_a_process_is_killed_and_the_masks_are_those_of_one(samples, plain, tmp_path, monkeypatch):
    """Though a process that reads images for it lives on, and holds its pipes."""
    monkeypatch.setattr(device_pool, "BLOCK", 2)
    signs, out = tmp_path / "signs", tmp_path / "m"
    signs.mkdir()
    with pytest.warns(UserWarning, match=r"^a process on cpu died \(killed by signal 9\); [1-9]\d* images are done ag"):
        outcomes = list(
            write_on_devices(partial(faulty, signs, killed), Output(out), HEADER, samples, TWO, threads=1, readers=1)
        )
    assert sorted(one.sample.id for one in outcomes) == sorted(one.id for one in samples)
    assert {one.sample for one in outcomes} == set(samples)
    assert ends(outcomes) == [(f"sub/{BAD}", "not a JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM image; convert it first")]
    assert masks(out) == masks(plain) and len(masks(out)) == COUNT - 1
    records = list(read_records(out))
    assert len(records) in (2, 3), "two processes, and one to take the dead one's place if there is time"
    assert {(one.header["threads"], one.header["device"], one.settings) for one in records} == {(1, "cpu", "x")}
    assert {sign.read_text() for sign in signs.glob("process-*")} == {multiprocessing.get_start_method()}
    dead = int((signs / "first").read_text())
    by_process = {record.header["pid"]: [row.id for row in record.rows()] for record in records}
    assert by_process[dead] and set().union(*by_process.values()) == {one.id for one in samples}


@pytest.mark.parametrize("format", ["png", "tar"])
def test_a_lost_gpu_is_given_up_and_the_others_go_on(samples, plain, tmp_path, format):
    """What it had done, an open .tar included, is not done again."""
    signs, output = tmp_path / "signs", Output(tmp_path / "m", format=format, tar_size=4)
    signs.mkdir()
    load = partial(faulty, signs, lost)
    with pytest.warns(UserWarning, match=r"^cpu is given up, the others go on: CUDA error: unspecified launch") as told:
        outcomes = list(write_on_devices(load, output, HEADER, samples, TWO, threads=1))
    assert len(told) == 1 and len(outcomes) == COUNT and [name for name, _ in ends(outcomes)] == [f"sub/{BAD}"]
    assert recorded(output.folder) == sorted(one.id for one in samples)
    found = masks(output.folder)
    for shard in output.folder.glob("*.tar"):
        with tarfile.open(shard) as tar:
            names = [name for name in tar.getnames() if name.endswith(".png")]
            assert not found.keys() & set(names)
            found |= {name: tar.extractfile(name).read() for name in names}
    assert found == masks(plain)


def test_every_gpu_is_lost(samples, tmp_path):
    signs = tmp_path / "signs"
    signs.mkdir()
    load = partial(faulty, signs, partial(lost, all_of_them=True), processes=1)
    one_by_one = torch.get_num_threads()  # all of them for an image: of two side by side, either may be the first
    with pytest.raises(DeviceLost, match=r"^CUDA error: unspecified launch failure$"):
        list(write_on_devices(load, Output(tmp_path / "m"), HEADER, samples, ["cpu"], threads=one_by_one))
    assert {"sub/0.png", "sub/1.png"} <= masks(tmp_path / "m").keys() and len(masks(tmp_path / "m")) < COUNT - 1


def test_a_full_disk_ends_the_run_and_what_was_done_is_kept(samples, tmp_path):
    signs = tmp_path / "signs"
    signs.mkdir()
    endless = (Sample(str(number), samples[0].image, ("cat",)) for number in itertools.count())
    seen = []
    with pytest.raises(OSError, match=r"No space left on device: '/m/a\.png'$") as caught:
        for one in write_on_devices(partial(faulty, signs, full), Output(tmp_path / "m"), HEADER, endless, TWO):
            seen.append(one.sample.id)
    assert caught.value.errno == errno.ENOSPC
    assert sorted(seen) == recorded(tmp_path / "m") == sorted(path[:-4] for path in masks(tmp_path / "m"))


def test_what_loading_raises_is_raised_here(samples, tmp_path):
    """And says where it was raised there."""
    with pytest.raises(ValueError, match=r"^no model for cpu$") as caught:
        list(write_on_devices(unknown, Output(tmp_path / "m"), HEADER, samples, ["cpu"]))
    assert "in unknown\n" in str(caught.value.__cause__)
    assert not (tmp_path / "m" / "records").exists()


@posix
def test_no_process_survives_the_model(samples, tmp_path, monkeypatch):
    monkeypatch.setattr(device_pool, "DEATHS", 2)
    wrong = r"^2 processes in a row died while they loaded the model on cpu \(killed by signal 9\); is there too little"
    with pytest.raises(ChildProcessError, match=wrong), pytest.warns(UserWarning, match="0 images are done again"):
        list(write_on_devices(deadly, Output(tmp_path / "m"), HEADER, samples, ["cpu"]))


@posix
def test_no_process_survives_an_image(samples, plain, tmp_path, monkeypatch):
    """Those before it are done, and it alone is named."""
    monkeypatch.setattr(device_pool, "DEATHS", 2)
    Image.new("RGB", (9, 9)).save(tmp_path / "poison.png")
    some = [*samples[:4], Sample("poison", tmp_path / "poison.png", ("cat",)), *samples[4:]]
    wrong = r"^2 processes died \(killed by signal 9\) with \S*poison\.png in hand; leave it out"
    with pytest.raises(ChildProcessError, match=wrong), pytest.warns(UserWarning, match="images are done again"):
        list(write_on_devices(poisoned, Output(tmp_path / "m"), HEADER, some, ["cpu"], threads=1))
    found, wanted = masks(tmp_path / "m"), masks(plain)
    assert found.items() <= wanted.items() and {f"sub/{number}.png" for number in range(4)} <= found.keys()


def test_samples_are_read_as_they_are_needed_and_a_stop_is_heard(samples, tmp_path):
    """Of endlessly many. Nobody's rows are lost."""
    taken, seen = itertools.count(), []
    endless = (Sample(str(next(taken)), samples[0].image, ("cat",)) for _ in itertools.count())
    outcomes = write_on_devices(
        partial(faulty, tmp_path, print, processes=1),
        Output(tmp_path / "m"),
        HEADER,
        endless,
        ["cpu"],
        stop=lambda: len(seen) > 40,
    )
    for one in outcomes:
        seen.append(one.sample.id)
        assert one.status == "ok"
    assert len(seen) <= next(taken) <= len(seen) + 4 * device_pool.BLOCK
    assert 40 < len(seen) < 60 and all(len(ids) > 2 for ids in rows(tmp_path / "m"))
    assert sorted(seen) == recorded(tmp_path / "m")


def test_no_images_need_no_process(tmp_path):
    """All are finished, say."""
    assert list(write_on_devices(print, Output(tmp_path / "m"), HEADER, [], TWO)) == []


def test_errors_that_cannot_travel() -> None:
    class Local(Exception):
        pass

    found = _portable(Local("wrong"))
    assert type(found) is RuntimeError and str(found) == "Local: wrong"
    assert type(_portable(RuntimeError("CUDA error: out of order"))) is DeviceLost
    full = OSError(errno.ENOSPC, "full", "a.png")
    assert _portable(full) is full


@posix
def test_signals_wait_until_a_process_has_started() -> None:
    both = {signal.SIGINT, signal.SIGTERM}
    with _signals_held():
        assert both <= signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert not both & signal.pthread_sigmask(signal.SIG_BLOCK, [])


# --- processes of their own


class Started:
    """A command in a session of its own, with what it says in a file."""

    def __init__(self, command: list[str], folder: Path):
        self.log = folder / "log"
        with open(self.log, "w") as log:
            path = os.pathsep.join((os.path.dirname(os.path.dirname(__file__)), *sys.path))
            environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=folder, stdout=log, stderr=log, env=environ, start_new_session=True
            )

    def until(self, happened: Callable[[], object], seconds: float = 60) -> None:
        """Wait for something."""
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)

    def signal(self, number: int) -> None:
        """To all its processes, as a terminal and schedulers do."""
        os.killpg(self.process.pid, number)

    def gone(self) -> bool:
        """Whether no process of it is left."""
        self.process.poll()
        try:
            self.signal(0)
        except ProcessLookupError:
            return True
        return False

    def processes(self) -> int:
        """How many have begun beside the first."""
        return len(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    started: list[Started] = []

    def start(*command: str) -> Started:
        started.append(Started(list(command), tmp_path))
        return started[-1]

    yield start
    for one in started:
        with suppress(ProcessLookupError):
            one.signal(signal.SIGKILL)
        one.process.wait()


STUCK = """
    import sys
    from functools import partial
    from pathlib import Path
    from clipes.commands.account import stopping
    from clipes.datasets import Sample
    from clipes.runs.device_pool import write_on_devices
    from clipes.store.output import Output
    from test_device_pool import faulty, stuck

    if __name__ == "__main__":
        found = [Sample(str(index), Path(sys.argv[1]), ("cat",)) for index in range(99)]
        with stopping() as stop:
            list(write_on_devices(
                partial(faulty, Path.cwd(), partial(stuck, seconds=float(sys.argv[2])), processes=1),
                Output(Path("m")), {"settings": "x"}, found, ["cpu"], stop=stop,
            ))
"""


@posix
@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGINT, 600), (signal.SIGKILL, 1.5), (signal.SIGKILL, 600)])
def test_all_end_at_once(start, samples, tmp_path, number, seconds):
    """At the second Ctrl-C, and when the first process is killed: nothing is left behind, and nothing done is lost.

    But for a file that is half written when nobody is left to clear up: the next start does.
    """
    run = start("-c", textwrap.dedent(STUCK), str(samples[0].image), str(seconds))
    run.until(lambda: list(tmp_path.glob("stuck-*")))
    if number == signal.SIGINT:
        run.signal(number)
        run.until(lambda: "stopping after the images in hand" in run.log.read_text())
        time.sleep(0.5)
        assert run.process.poll() is None and list((tmp_path / "m").glob(".clipes-*"))
        run.signal(number)
    else:
        run.process.send_signal(number)
    run.until(run.gone, 15)
    said = run.log.read_text()
    assert said.count("Traceback") == (number == signal.SIGINT), "the first's alone"
    assert len(list((tmp_path / "m").glob(".clipes-*"))) == (number == signal.SIGKILL and seconds == 600)
    assert {f"{one}.png" for one in recorded(tmp_path / "m")} <= masks(tmp_path / "m").keys()
    assert 2 <= len(recorded(tmp_path / "m")) < 99


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_the_command(start, tmp_path, monkeypatch, capsys):
    """Interrupted while the processes start, and gone on with: as one process does it."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    table = ["image,labels"]
    for number, scene in enumerate(draw_scenes(20, 3_000_900, (24, 32))):
        Image.fromarray(scene.image).save(f"photos/{number:02}.png")
        table.append(f"{number:02}.png,{';'.join(scene.labels)}")
    Path("labels.csv").write_text("\n".join(table) + "\n")
    generate = ["generate", "photos", "--labels", "labels.csv"]
    several = [*generate, "--out", "m", "--devices", "cpu,cpu"]
    run = start("-m", "clipes.cli", *several)
    run.until(lambda: run.processes() >= 3)  # multiprocessing's own among them
    run.signal(signal.SIGINT)
    run.until(run.gone)
    said = run.log.read_text()
    assert run.process.returncode == 130 and "0 of 20 masks" in said and "Traceback" not in said
    assert main(several) == main([*generate, "--out", "one"]) == 0
    assert masks(Path("m")) == masks(Path("one")) and len(rows(Path("m"))) == 2
    settings = [json.loads(Path(folder, "run.json").read_text())["settings"] for folder in ("m", "one")]
    assert settings[0] == settings[1]
    capsys.readouterr()
    assert main(["status", "m"]) == 0
    assert capsys.readouterr().out.split()[:10] == [
        *("images", "20", "ok", "20", "skipped", "0", "failed", "0", "left", "0")
    ]


# --- flags


@pytest.mark.parametrize(
    ("flags", "wrong"),
    [
        (["--devices", "cpu,tpu"], "unknown device 'tpu'; use 'cpu', 'cuda' or 'cuda:0'"),
        (["--devices", "cpu,"], "unknown device ''"),
        (["--devices", "cuda:0,cuda:7"], "device 'cuda:7' asked for, but torch sees 2 CUDA devices"),
        (["--devices", "cpu,cuda:1"], "devices are 'cpu,cuda:1', whose masks would differ by rounding; give CPUs or"),
        (["--devices", "cpu,cpu", "--device", "cpu"], "--devices cpu,cpu and --device cpu; give one of the two"),
        (["--devices", "all", "--engine", "ray"], "--devices all and --engine ray, whose actors have --gpus-per-actor"),
        (["--devices", "cpu,cpu", "--precision", "fp16"], "fp16 is about ten times slower than fp32 on a CPU"),
    ],
)
def test_what_is_none_or_does_not_fit_is_told_before_anything(photos, monkeypatch, capsys, flags, wrong):
    monkeypatch.chdir(photos.parent)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    if "ray" in flags:
        pytest.importorskip("ray")
    assert main(["generate", "photos", "--labels", "labels.csv", "--out", "m", *flags]) == 2
    assert wrong in capsys.readouterr().err and not Path("m").exists()


def test_all_are_the_gpus_that_torch_sees(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert device_list("all") == ["cuda:0", "cuda:1", "cuda:2"]
    assert device_list("cuda:2, cuda:2,cuda") == ["cuda:2", "cuda:2", "cuda"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"^devices are 'all', but torch sees no CUDA device; name them: cpu"):
        device_list("all")


def test_what_the_processes_are_told(photos, monkeypatch, capsys):
    """And this process needs no GPU, though `run.json` tells of theirs."""
    asked = []

    def write(load: Any, output: Any, header: Any, samples: Any, devices: Any, **options: Any) -> Iterator[Any]:
        asked.append((load.args[0]["model"], devices, options["workers"], options["threads"], options["skip"]))
        yield from ()

    monkeypatch.chdir(photos.parent)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr("os.cpu_count", lambda: 13)
    monkeypatch.setattr(device_pool, "write_on_devices", write)
    generate = ["generate", "photos", "--labels", "labels.csv", "--threads", "2", "--missing", "skip", "--out", "m"]
    assert main([*generate, "--devices", "cuda:1,cuda:3,cuda:0"]) == 3
    assert asked == [("tiny", ["cuda:1", "cuda:3", "cuda:0"], 4, 2, ["missing"])]
    assert json.loads(Path("m/run.json").read_text())["settings"]["dtype"] == "float16"
    assert main([*generate, "--devices", "cpu", "--overwrite"]) == 0, "one device is this process"
    assert len(asked) == 1 and len(list(read_records("m"))) == 1
    assert re.match("3 of 3 masks", capsys.readouterr().out.splitlines()[-1])
