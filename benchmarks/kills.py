"""Processes of a run killed at random moments: ``python benchmarks/kills.py``. Writes a section of unattended.md.

The bundled model makes the masks of small scenes while SIGKILL ends, at random moments, a process that reads images,
one of torch's elastic launcher (`--devices cpu,cpu`), or one of Ray's. Where the command itself gives up, it is started
again. At the end the masks must be the bytes of an undisturbed run, and every image must have one.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from environment import describe, parse_options, write_section
from PIL import Image

from clipes.scenes import draw_scenes
from clipes.store.store import Store

SEED = 7_000_000
SIZE = (48, 64)
TITLE = "Processes killed at random moments"
PATIENCE = 600
"""Seconds without a further mask after which a command hangs."""


@dataclass(frozen=True)
class Way:
    """A way to run, and which of its processes are killed.

    Attributes:
        flags: of `clipes generate`.
        victims: the processes, by the command's number.
        pause: seconds between a mask that follows a kill and the next kill, at most.
    """

    flags: Sequence[str]
    victims: Callable[[int], list[int]]
    pause: float


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def below(pid: int) -> Iterator[int]:
    """All processes that a process and those below it have started."""
    for child in children(pid):
        yield child
        yield from below(child)


def command_of(pid: int) -> str:
    """The command of a process; empty where it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def ranks(pid: int) -> list[int]:
    """The processes of torch's launcher."""
    return [child for child in children(pid) if "spawn_main" in command_of(child)]


def actors(pid: int) -> list[int]:
    """Ray's processes that have work."""
    return [child for child in below(pid) if command_of(child).startswith("ray::Map")]


WAYS = {
    "processes that read": Way(("--workers", "2"), children, 0.3),
    "processes of `--devices cpu,cpu`": Way(("--devices", "cpu,cpu", "--workers", "0"), ranks, 2),
    "processes of `--engine ray`": Way(("--engine", "ray", "--actors", "2", "--workers", "1"), actors, 2),
}


def draw(folder: Path, count: int) -> Path:
    """Scenes and a table of them."""
    (folder / "in").mkdir(parents=True)
    rows = ["image,labels"]
    for number, scene in enumerate(draw_scenes(count, SEED, SIZE)):
        Image.fromarray(scene.image).save(folder / "in" / f"{number:04}.png")
        rows.append(f"{number:04}.png,{';'.join(scene.labels)}")
    table = folder / "in" / "labels.csv"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return table


def start(table: Path, out: Path, flags: Sequence[str]) -> subprocess.Popen[bytes]:
    """`clipes generate` in a process."""
    command = [sys.executable, "-m", "clipes.cli", "generate", str(table), "--out", str(out), "--threads", "1", *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def masks(out: Path) -> dict[str, bytes]:
    """The masks by name."""
    return {path.name: path.read_bytes() for path in out.glob("*.png")}


def wait_for_mask(process: subprocess.Popen[bytes], out: Path) -> None:
    """Wait until there is one more mask, or the command has ended: each kill follows progress, however long the start
    of a process takes on this machine.
    """
    before, end = count_masks(out), time.monotonic() + PATIENCE
    while process.poll() is None and count_masks(out) == before:
        if time.monotonic() > end:
            process.kill()
            raise SystemExit(f"{out}: hangs")
        time.sleep(0.02)


def count_masks(out: Path) -> int:
    """How many masks there are."""
    return sum(1 for _ in out.glob("*.png"))


def disturbed(table: Path, out: Path, way: Way, kills: int, dice: random.Random) -> tuple[int, int]:
    """Run ``way`` to its end, killing up to ``kills`` processes; returns how many were, and how many starts it took."""
    killed, starts = 0, 0
    while True:
        starts += 1
        process = start(table, out, way.flags)
        while process.poll() is None:
            wait_for_mask(process, out)
            with suppress(subprocess.TimeoutExpired):
                process.wait(dice.uniform(0, way.pause))
            living = way.victims(process.pid) if killed < kills and process.poll() is None else []
            if living:
                with suppress(ProcessLookupError):
                    os.kill(dice.choice(living), signal.SIGKILL)
                    killed += 1
        if process.returncode == 0:
            with Store.open(out) as store:
                if store.counts().keys() == {"ok"}:
                    return killed, starts
        if starts > 10 + kills:
            raise SystemExit(f"{out}: exit code {process.returncode} again and again")


def kill_many(folder: Path, count: int, kills: dict[str, int], seed: int = 1) -> list[tuple[str, int, int, int, float]]:
    """For each way: its name, processes killed, runs, starts, seconds. SystemExit where a run has other masks."""
    dice = random.Random(seed)
    table = draw(folder, count)
    if start(table, folder / "whole", ("--workers", "0")).wait(PATIENCE):
        raise SystemExit("the undisturbed run failed")
    whole, ended = masks(folder / "whole"), []
    if len(whole) != count:
        raise SystemExit(f"{len(whole)} masks of {count} images")
    for name, most in kills.items():
        killed = runs = starts = 0
        began = time.monotonic()
        while killed < most:
            out = folder / f"{len(ended)}-{runs}"
            here, times = disturbed(table, out, WAYS[name], most - killed, dice)
            if masks(out) != whole:
                raise SystemExit(f"{out}: the masks are not those of the undisturbed run")
            killed, runs, starts = killed + here, runs + 1, starts + times
            print(f"{name}: {killed} of {most}", file=sys.stderr)
        ended.append((name, killed, runs, starts, time.monotonic() - began))
    return ended


def main() -> None:
    """Kill, compare, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--kills", type=int, nargs=3, default=[140, 30, 30], metavar=("READERS", "RANKS", "RAY"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("unattended.md"))
    options = parse_options(parser, scenes=4, kills=[1, 0, 0])
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    try:
        ended = kill_many(folder, options.scenes, dict(zip(WAYS, options.kills, strict=True)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    lines = [
        f"`python benchmarks/kills.py --scenes {options.scenes} --kills {' '.join(map(str, options.kills))}`: "
        f"{describe()}",
        "",
        f"{sum(killed for _, killed, *_ in ended)} processes were killed by SIGKILL at random moments, each after a "
        f"further mask, while the bundled model made the masks of {options.scenes} scenes. Every run ended with a "
        "mask of every image, the "
        "same bytes as those of an undisturbed run. A command that gives up (the launcher does after four deaths) was "
        "started again.",
        "",
        "| killed | times | runs | starts of the command | seconds |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(f"| {name} | {killed} | {runs} | {starts} | {taken:.0f} |" for name, killed, runs, starts, taken in ended),
    ]
    write_section(options.out, TITLE, lines)


if __name__ == "__main__":
    main()
