"""A data set with planted faults, unattended: ``python benchmarks/unattended.py``. Writes a section of its .md.

Draws 2,000 scenes as JPEGs, spoils 40 of them in 15 ways, and makes the masks of the rest by ``clipes generate``:
stopped once and started again; in four shards at a time; by the actors of Ray; as .tar shards. Every way must give the
same bytes, the same 40 images without a mask, and a reason for each.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from environment import describe, parse_options, write_section
from PIL import Image

from clipes.io.masks import write_mask
from clipes.scenes import THINGS, draw_scenes
from clipes.store.manifest import read_manifest
from clipes.store.rows import LatestRows

SEED = 7_000_000  # the scenes that the README's numbers are of
SIZE = (112, 112)
COMMAND = [sys.executable, "-m", "clipes.cli"]
FLAGS = ["--unknown", "skip", "--missing", "skip", "--max-failure-rate", "0.5"]


def cut(path: Path) -> None:
    """Half of a JPEG."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replaced(data: bytes) -> Callable[[Path], object]:
    """Something else under the image's name."""
    return lambda path: path.write_bytes(data)


def saved(name: str, image: Image.Image) -> Callable[[Path], None]:
    """A picture of another kind under the image's name."""
    return lambda path: image.save(path, format=name)


def bomb(path: Path) -> None:
    """A PNG whose header promises 60,000 x 60,000 pixels."""
    Image.new("L", (8, 8)).save(path, format="PNG")
    data = bytearray(path.read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)


def noise(path: Path) -> None:
    """The middle of a JPEG's header overwritten."""
    data = bytearray(path.read_bytes())
    data[2:400] = np.random.default_rng(0).bytes(398)
    path.write_bytes(data)


def pipe(path: Path) -> None:
    """A named pipe, which would wait for ever."""
    path.unlink()
    os.mkfifo(path)


def broken_png(path: Path) -> None:
    """A PNG with a hole in its pixels."""
    with Image.open(path) as image:
        image.save(path, format="PNG")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    path.write_bytes(data)


FAULTS: dict[str, Callable[[Path], object]] = {
    "empty": replaced(b""),
    "text": replaced(b"<html>not found</html>"),
    "cut": cut,
    "overwritten header": noise,
    "EPS": replaced(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"),
    "FITS": replaced(b"SIMPLE  =                    T".ljust(2880)),
    "PDF": replaced(b"%PDF-1.4\n"),
    "bomb": bomb,
    "float pixels": saved("TIFF", Image.fromarray(np.ones((9, 9), np.float32))),
    "32-bit pixels": saved("TIFF", Image.fromarray(np.full((9, 9), 70_000, np.int32))),
    "PNG with a hole": broken_png,
    "named pipe": pipe,
    "link to nothing": lambda path: (path.unlink(), path.symlink_to("nowhere.jpg")),
    "not there": lambda path: path.unlink(),
    "unknown class": lambda path: None,
}


def draw(folder: Path, count: int, faults: int) -> dict[str, str]:
    """Scenes, truth and a table under ``folder``; returns the fault of each image that has one, by its id."""
    chosen = np.random.default_rng(SEED).choice(count, faults, replace=False)
    planted = {f"images/{index:05}": list(FAULTS)[place % len(FAULTS)] for place, index in enumerate(chosen)}
    rows = []
    for index, scene in enumerate(draw_scenes(count, SEED, SIZE)):
        name = f"images/{index:05}"
        path = folder / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.image).save(path, quality=95, subsampling=0)
        labels = list(scene.labels)
        if name in planted:
            FAULTS[planted[name]](path)
            labels += ["unicorn"] * (planted[name] == "unknown class")
        else:
            write_mask(folder / "truth" / f"{name}.png", scene.mask, len(THINGS))
        rows.append(f"{name}.jpg,{';'.join(labels)}\n")
    (folder / "labels.csv").write_text("image,labels\n" + "".join(rows))
    return planted


def run(folder: Path, out: str, *flags: str, stop_after: int = 0, code: int = 0) -> tuple[float, str]:
    """``clipes generate`` over the table; stopped by SIGTERM after so many masks. Returns seconds and what it said."""
    started = time.monotonic()
    command = [*COMMAND, "generate", str(folder / "labels.csv"), "--out", str(folder / out), *FLAGS, *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if stop_after:
        while process.poll() is None and len(list((folder / out).rglob("*.png"))) < stop_after:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
    said = process.communicate()[0]
    if process.returncode != code:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode} instead of {code}\n{said}")
    line = next(line for line in said.splitlines() if " masks written to " in line)
    return time.monotonic() - started, re.sub(r"written to \S+?(,|;|$)", r"written\1", line)


def shards(folder: Path, out: str, count: int) -> tuple[float, str]:
    """So many processes at a time, a shard each."""
    started = time.monotonic()
    command = [*COMMAND, "generate", str(folder / "labels.csv"), "--out", str(folder / out), *FLAGS]
    command += ["--max-failure-rate", "1"]
    many = [
        subprocess.Popen([*command, "--shard", f"{index}/{count}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for index in range(count)
    ]
    if any(process.wait() for process in many):
        raise SystemExit("a shard failed")
    return time.monotonic() - started, f"{count} processes"


def masks(folder: Path) -> dict[str, str]:
    """The checksum of each mask, by id."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in contents(folder)}


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The masks in a folder of files or of .tar shards."""
    for path in folder.rglob("*.png"):
        yield path.relative_to(folder).with_suffix("").as_posix(), path.read_bytes()
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file and member.name.endswith(".png"):
                    yield member.name.removesuffix(".png"), file.read()


def without(folder: Path) -> dict[str, tuple[str, str]]:
    """How the images without a mask ended, and why, by id."""
    with LatestRows(folder, read_manifest(folder)["digest"]) as rows:
        return {row.id: (row.status, row.reason) for row in rows.not_done()}


def main() -> None:
    """Run all ways, compare them, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parse_options(parser, count=30, faults=10)
    folder = Path(tempfile.mkdtemp(prefix="unattended-"))
    planted = draw(folder, options.count, options.faults)
    ways = {
        "one command, stopped by SIGTERM": run(folder, "one", stop_after=options.count // 3, code=143),
        "the same command again": run(folder, "one"),
        "and again": run(folder, "one"),
        "four shards at a time": shards(folder, "shards", 4),
        "`--engine ray --actors 2`": run(folder, "ray", "--engine", "ray", "--actors", "2"),
        "`--out-format tar`": run(folder, "tar", "--out-format", "tar", "--tar-size", "500"),
    }
    first, ends = masks(folder / "one"), without(folder / "one")
    if set(ends) != set(planted) or len(first) != options.count - options.faults:
        raise SystemExit(f"{len(first)} masks; not as planted: {sorted(set(ends) ^ set(planted))}")
    for out in ("shards", "ray", "tar"):
        if masks(folder / out) != first or set(without(folder / out)) != set(planted):
            raise SystemExit(f"{out}: other masks or other faults than those of one command")
    judged = folder / "miou.json"
    command = [*COMMAND, "evaluate", str(folder / "one"), str(folder / "truth"), "--json", str(judged)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    write(options, planted, ends, ways, len(first), json.loads(judged.read_text()))
    shutil.rmtree(folder)


def write(options, planted, ends, ways, made: int, judged) -> None:
    """The tables."""
    lines = [
        f"`python benchmarks/unattended.py --count {options.count} --faults {options.faults}`: {describe()}",
        "",
        f"{options.count} scenes, {options.faults} of them spoilt in {len(FAULTS)} ways: {made} masks, {len(ends)} "
        "reasons.",
        "Every way gives the same bytes and the same images without a mask. mIoU of the masks "
        f"{judged['miou_decided']:.3f} on the decided pixels, {judged['miou']:.3f} with the ignored ones as missed "
        f"({judged['ignored_share']:.1%} of all).",
        "",
        "| way | seconds | what it said |",
        "| --- | --- | --- |",
        *(f"| {way} | {seconds:.0f} | {said} |" for way, (seconds, said) in ways.items()),
        "",
        "| planted | images | ended | reason of the first |",
        "| --- | --- | --- | --- |",
    ]
    for fault in FAULTS:
        names = [name for name, kind in planted.items() if kind == fault]
        if names:
            status, reason = ends[names[0]]
            lines.append(f"| {fault} | {len(names)} | {status} | {reason} |")
    write_section(options.out, "A data set with planted faults, unattended", lines)


if __name__ == "__main__":
    main()
