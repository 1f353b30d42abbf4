"""Whether memory grows with the number of images: ``python benchmarks/memory.py``. Writes benchmarks/memory.md.

Two things: the catalogue of a table of 10^5 and of 10^6 rows, and a run over 20,000 tiny pictures (each of them one of
100 files, so that the disk is not what is measured). Linux only.
"""

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import torch
from environment import describe, parse_options
from PIL import Image

import clipes
from clipes.datasets import Sample, find_samples
from clipes.runs.generation import MasksFromImages
from clipes.runs.local_engine import MaskWriter
from clipes.runs.run import Remaining, claim_folder, record_header
from clipes.scenes import draw_scenes
from clipes.store.output import Output

SIZE = (32, 32)
MARKS = (0.05, 0.1, 0.25, 0.5, 0.75, 1)  # shares of the images
AFTER = 200
"""Images after the last mark, so that the reading processes are still at work there."""


def resident() -> float:
    """MB that belong to this process, and that those it has started have to themselves; no shared libraries."""
    own = _kilobytes(Path("/proc/self/status"), "RssAnon:")
    others = (Path(f"/proc/{child.pid}/smaps_rollup") for child in multiprocessing.active_children())
    return (own + sum(_kilobytes(path, "Private_Dirty:") for path in others)) / 1e3


def _kilobytes(file: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith(name))


def catalogue(rows: int, folder: Path) -> tuple[float, float, float]:
    """Seconds, MB more than before, bytes of the table for each row."""
    table = folder / f"{rows}.csv"
    with open(table, "w") as file:
        file.write("image,labels\n")
        for index in range(rows):
            file.write(f"some/folder/{index % 1000:03}/image_{index:08}.jpg,cat;tree\n")
    before, started = resident(), time.monotonic()
    samples = find_samples(table, class_names=clipes.scenes.THINGS, missing="skip")
    taken, grown = time.monotonic() - started, resident() - before
    assert len(samples) == rows
    return taken, grown, table.stat().st_size / rows


def draw(folder: Path, images: int) -> list[Sample]:
    """100 pictures, and ``images`` samples of them."""
    folder.mkdir()
    pictures = []
    for number, scene in enumerate(draw_scenes(100, 7_000_000, SIZE)):
        path = folder / f"{number:03}.png"
        Image.fromarray(scene.image).save(path)
        pictures.append((path, tuple(scene.labels)))
    return [Sample(f"{n // 1000:03}/{n:06}", *pictures[n % 100]) for n in range(images)]


def run(samples: list[Sample], folder: Path, workers: int) -> list[tuple[int, float]]:
    """Images done and MB then, of all processes together."""
    generator, output = clipes.load(device="cpu"), Output(folder)
    found = []
    marks = {round((len(samples) - AFTER) * share) for share in MARKS}
    with (
        claim_folder(generator.settings, generator.class_names, output) as store,
        MaskWriter(MasksFromImages(generator), output, record_header(store), batch_size=8, readers=workers) as writer,
    ):
        for done, _ in enumerate(writer.write(Remaining(samples, store, output)), start=1):
            if done in marks:
                found.append((done, resident()))
    return found


def main() -> None:
    """Measure both, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parse_options(parser, images=20, rows=[100, 200], workers=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        catalogues = {rows: catalogue(rows, folder) for rows in options.rows}
        marks = run(draw(folder / "photos", options.images + AFTER), folder / "masks", options.workers)
    base = marks[0][1]
    lines = [
        "# Memory and the number of images",
        "",
        f"`python benchmarks/memory.py`: {describe()}",
        "",
        f"A table as the source (`find_samples`, {catalogues[options.rows[0]][2]:.0f} bytes a row):",
        "",
        "| rows | seconds | MB more |",
        "| --- | --- | --- |",
        *(f"| {rows:,} | {taken:.1f} | {grown:.1f} |" for rows, (taken, grown, _) in catalogues.items()),
        "",
        f"A run over tiny pictures of {SIZE[0]} x {SIZE[1]}, batches of 8, {options.workers} reading processes, all "
        f"processes together ({torch.get_num_threads()} thread):",
        "",
        "| images done | MB | to the first |",
        "| --- | --- | --- |",
        *(f"| {done:,} | {used:.0f} | {used / base - 1:+.1%} |" for done, used in marks),
    ]
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
