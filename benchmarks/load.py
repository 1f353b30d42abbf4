"""What a run costs beside its masks: ``python benchmarks/load.py``. Writes a section of benchmarks/unattended.md.

A table of many rows, of which each is an image in memory-backed files (/dev/shm): 1,000 links to the folder itself
times hard links of one picture, so that a million images take few inodes. The masks come from a source that returns at
once: neither the model nor the decoding is measured, but the catalogue, the engine, the store and its readers: rows per
second, the memory as the run goes on, `clipes status`, `clipes export`, `clipes report` and a restart.
"""

import argparse
import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from environment import describe, parse_options, write_section
from PIL import Image

from clipes.config import SCENES
from clipes.datasets import Sample, find_samples
from clipes.io.atomic import write_bytes
from clipes.result import PseudoMask
from clipes.runs.decoding import Loaded
from clipes.runs.generation import MaskSource
from clipes.runs.local_engine import MaskWriter
from clipes.runs.publishing import with_checksums
from clipes.runs.run import Remaining, claim_folder, record_header
from clipes.scenes import THINGS
from clipes.store.output import Output
from clipes.store.record import Recorder
from clipes.store.row import Row
from clipes.store.store import Store

SIDE = 8
MARKS = 10
PARTS = 1000  # links to the folder itself
PIXELS = np.full((SIDE, SIDE, 3), 128, np.uint8)
TITLE = "A catalogue of many rows"


def known_pixels(sample: Sample) -> Loaded:
    """The picture of any sample, which is not read."""
    return Loaded(sample, PIXELS)


class KnownMasks:
    """The same mask for every image, at once: a :class:`clipes.runs.generation.MaskSource`."""

    class_names, device, batch_size = tuple(THINGS), torch.device("cpu"), 1
    decode = staticmethod(known_pixels)

    def __init__(self) -> None:
        ones = np.ones((SIDE, SIDE), np.float32)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[2:6, 2:6] = 1
        scores = np.stack([1 - mask, mask]).astype(np.float32)
        self._result = PseudoMask(
            (THINGS[0],), np.array([1]), ones[None, :1, :1], ones[None], scores, mask, ones, ones,
            Image.fromarray(PIXELS), len(THINGS),
        )  # fmt: skip

    def estimate_memory(self, batch: Sequence[Loaded]) -> int:
        """None that counts."""
        return 0

    def make(self, batch: Sequence[Loaded]) -> list[PseudoMask]:
        """The mask, for each."""
        return [self._result] * len(batch)

    def in_float32(self) -> None:
        """None: there is nothing to compute."""


def lay_out(folder: Path, rows: int) -> Path:
    """A table of ``rows`` images, all of which exist."""
    (folder / "in").mkdir()
    Image.fromarray(PIXELS).save(folder / "in" / "0.jpg")
    parts, files = min(PARTS, rows), -(-rows // min(PARTS, rows))
    for part in range(parts):
        (folder / "in" / f"{part:03}").symlink_to(".")
    for number in range(files):
        (folder / "in" / f"image_{number:05}.jpg").hardlink_to(folder / "in" / "0.jpg")
    table = folder / "in" / "labels.csv"
    names = (f"{row % parts:03}/image_{row // parts:05}.jpg" for row in range(rows))
    with open(table, "w") as file:
        file.write("image,labels\n")
        file.writelines(f"{name},{THINGS[0]}\n" for name in names)
    return table


class Watch:
    """Measures from when it is made, the processes that end meanwhile, too."""

    def __init__(self) -> None:
        self._began = self._now()

    def text(self) -> str:
        """``12.3 s (4.5 s)``: seconds of the clock, and of the processor."""
        clock, processor = self._passed()
        return f"{clock:.1f} s ({processor:.1f} s)"

    def rates(self, rows: int) -> str:
        """Rows per second of the clock, and of the processor."""
        clock, processor = self._passed()
        return f"{rows / clock:.0f}; {rows / processor:.0f}"

    def _passed(self) -> tuple[float, float]:
        clock, processor = (now - before for now, before in zip(self._now(), self._began, strict=True))
        return clock, processor

    def _now(self) -> tuple[float, float]:
        used = os.times()
        return used.elapsed, used.user + used.system + used.children_user + used.children_system


def resident() -> float:
    """MB of memory that this process has."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def write(samples: Iterable[Sample], count: int, output: Output, source: Path, masks: MaskSource) -> list[float]:
    """MB of memory at each tenth of a run over ``count`` samples."""
    settings = {"config": SCENES.to_dict()}
    about = {"source": str(source), "class_set": None}
    marks = {round(count * (mark + 1) / MARKS) for mark in range(MARKS)}
    found = []
    with claim_folder(settings, THINGS, output, about) as store:
        header = {**record_header(store), "total": count}
        with MaskWriter(masks, output, header, jobs=1) as writer:
            for done, outcome in enumerate(writer.write(Remaining(samples, store, output)), start=1):
                if outcome.status != "ok":
                    raise SystemExit(outcome.error)
                if done in marks:
                    found.append(resident())
    return found


def restart(samples: Sequence[Sample], output: Output) -> str:
    """Seconds until a second start knows that all images but the last, whose mask is removed, are finished."""
    with Store.open(output.folder) as store:
        last = samples[len(samples) - 1]
        settings = {"config": store.config}
        (output.folder / f"{last.id}.png").unlink()
    watch = Watch()
    with claim_folder(settings, THINGS, output) as store:
        remaining = Remaining(samples, store, output)
        todo = [sample.id for sample in remaining]
    if todo != [last.id]:
        raise SystemExit(f"{len(todo)} images are not finished")
    return watch.text()


def command(*arguments: object) -> tuple[str, float]:
    """Seconds and the most MB of a command."""
    code = (
        "import sys; from clipes.cli import main; code = main(sys.argv[1:]); "
        "print(*(line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line), file=sys.stderr); "
        "sys.exit(code)"
    )
    watch = Watch()
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(f"{arguments}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return watch.text(), int(done.stderr.split()[-1]) / 1e3


def copy_run(samples: Sequence[Sample], output: Output, source: Path) -> None:
    """The folder that a run over ``samples`` leaves: links to one mask, and a thousand rows at a time."""
    files = output.encode(KnownMasks().make([Loaded(samples[0])])[0])
    with claim_folder({"config": SCENES.to_dict()}, THINGS, output, {"source": str(source)}) as store:
        first = output.folder / f"{samples[0].id}.png"
        write_bytes(first, files["mask"])
        with Recorder(output.folder, {**record_header(store), "total": len(samples)}) as recorder:
            for part in batched(samples, 1000):
                for sample in part:
                    path = output.folder / f"{sample.id}.png"
                    if path != first:
                        path.parent.mkdir(exist_ok=True)
                        path.hardlink_to(first)
                rows = (Row(one.id, "ok", "", one.labels, (SIDE, SIDE), 0.0, confidence=1.0) for one in part)
                recorder.add(*(with_checksums(row, files) for row in rows))


def batched(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """Lists of ``size``."""
    rest = iter(samples)
    return iter(lambda: list(islice(rest, size)), [])


def measure_run(rows: int, folder: Path) -> Iterator[tuple[str, str]]:
    """A whole run, and what reads every mask of it."""
    table, output = lay_out(folder, rows), Output(folder / "m")
    samples = find_samples(table)
    watch = Watch()
    memory = write(samples, len(samples), output, table, KnownMasks())
    yield "all rows written", watch.text()
    yield "rows per second; of the processor", watch.rates(rows)
    yield "MB at 10 %", f"{memory[0]:.0f}"
    yield "MB at 100 %", f"{memory[-1]:.0f} ({memory[-1] / memory[0] - 1:+.1%})"
    for name, arguments in (
        ("report", ("report", output.folder, "--out", folder / "report")),
        ("export --to coco", ("export", output.folder, "--to", "coco", "--images", "none", "--out", folder / "coco")),
    ):
        seconds, most = command(*arguments)
        yield f"`clipes {name}`", seconds
        yield f"`clipes {name}`, MB at most", f"{most:.0f}"


def measure_folder(rows: int, folder: Path) -> Iterator[tuple[str, str]]:
    """What reads the catalogue and the records of a run that is nearly done."""
    table, output = lay_out(folder, rows), Output(folder / "m")
    watch = Watch()
    samples = find_samples(table)
    yield "reading the table, looking for its files", watch.text()
    copy_run(samples, output, table)
    seconds, most = command("status", output.folder)
    yield "`clipes status`", seconds
    yield "`clipes status`, MB at most", f"{most:.0f}"
    before = resident()
    yield "restart: until the last image is found undone", restart(samples, output)
    yield "restart, MB more than before", f"{resident() - before:.0f}"


def table_of(measure: Callable[[int, Path], Iterator[tuple[str, str]]], counts: Sequence[int]) -> list[str]:
    """What is measured, a column for each count of rows."""
    columns: list[dict[str, str]] = []
    for rows in counts:
        folder = Path(tempfile.mkdtemp(prefix="load-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        try:
            columns.append(dict(measure(rows, folder)))
        finally:
            shutil.rmtree(folder)
    return [
        f"| rows | {' | '.join(f'{rows:,}' for rows in counts)} |",
        "| --- |" + " ---: |" * len(counts),
        *(f"| {name} | {' | '.join(column[name] for column in columns)} |" for name in columns[0]),
        "",
    ]


def main() -> None:
    """Measure every count of rows, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-rows", type=int, nargs="+", default=[100_000, 200_000])
    parser.add_argument("--rows", type=int, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("unattended.md"))
    options = parse_options(parser, run_rows=[300], rows=[300])
    run_rows, rows = options.run_rows, options.rows
    flags = f"--run-rows {' '.join(map(str, run_rows))} --rows {' '.join(map(str, rows))}"
    lines = [
        f"`python benchmarks/load.py {flags}`: {describe()}",
        "",
        f"Masks of {SIDE} x {SIDE} pixels that cost nothing to make, in memory-backed files. Seconds are those of the "
        "clock and, in brackets, of the processor, which other work on the machine changes less.",
        "",
        "The folder of a run that is nearly done, laid out without the run:",
        "",
        *table_of(measure_folder, rows),
        "A whole run, by the engine and the store of `clipes generate`:",
        "",
        *table_of(measure_run, run_rows),
    ]
    write_section(options.out, TITLE, lines[:-1])


if __name__ == "__main__":
    main()
