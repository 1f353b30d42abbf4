"""What an image costs in a run over a data set: ``python benchmarks/scale.py --vit FILE``. Writes benchmarks/scale.md.

Seconds of the model and the refinement, end to end (JPEG files in, PNG masks out, one process that reads ahead); and
what grows with the number of images: the catalogue, the record, reading them at a start, checking masks at a restart.
``--vit`` is a weights file of a ViT-B/16, random ones for example: what it costs does not depend on them.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from environment import describe, parse_options
from PIL import Image

import clipes
from clipes.datasets import find_samples
from clipes.runs.generation import MasksFromImages
from clipes.runs.local_engine import MaskWriter
from clipes.runs.run import Remaining, claim_folder, record_header
from clipes.scenes import THINGS, draw_scenes
from clipes.store.output import Output
from clipes.store.record import Recorder
from clipes.store.row import Row
from clipes.store.rows import LatestRows

SEED = 7_000_000


def draw(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """JPEGs of scenes and a table of them."""
    folder.mkdir()
    rows = []
    for number, scene in enumerate(draw_scenes(count, SEED, size)):
        Image.fromarray(scene.image).save(folder / f"{number:05}.jpg", quality=95)
        rows.append(f"{number:05}.jpg,{';'.join(scene.labels)}\n")
    table = folder / "labels.csv"
    table.write_text("image,labels\n" + "".join(rows))
    return table


def rate(generator: clipes.MaskGenerator, table: Path, out: Path) -> tuple[float, float, float]:
    """Images/s end to end, the model loaded; bytes of a mask; seconds to find one finished at a restart."""
    samples, output = find_samples(table), Output(out)
    with claim_folder(generator.settings, generator.class_names, output) as store:
        started = time.monotonic()
        with MaskWriter(MasksFromImages(generator), output, record_header(store), readers=1) as writer:
            ends = [outcome.status for outcome in writer.write(Remaining(samples, store, output))]
        taken = time.monotonic() - started
    if set(ends) != {"ok"}:
        raise SystemExit(f"{out}: {ends}")
    size = sum(path.stat().st_size for path in out.glob("*.png")) / len(samples)
    with claim_folder(generator.settings, generator.class_names, output) as store:
        started = time.monotonic()
        if list(Remaining(samples, store, output)):
            raise SystemExit("not all are finished")
        again = (time.monotonic() - started) / len(samples)
    return len(samples) / taken, size, again


def catalogue(folder: Path, rows: int) -> tuple[float, float]:
    """Bytes on disk and seconds for each row of a table as the source, its files looked for as well."""
    (folder / "one").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "one" / "a.jpg")
    for number in range(1000):
        (folder / "one" / f"{number:03}").symlink_to(".")
    for number in range(rows // 1000):
        (folder / "one" / f"image_{number:05}.jpg").hardlink_to(folder / "one" / "a.jpg")
    table = folder / "one" / "labels.csv"
    names = (f"{row % 1000:03}/image_{row // 1000:05}.jpg" for row in range(rows))
    table.write_text("image,labels\n" + "".join(f"{name},cat;tree\n" for name in names))
    started = time.monotonic()
    samples = find_samples(table)
    taken = time.monotonic() - started
    database = samples._database
    pages = database.execute("PRAGMA page_count").fetchone()[0] * database.execute("PRAGMA page_size").fetchone()[0]
    return pages / len(samples), taken / len(samples)


def records(folder: Path, rows: int) -> tuple[float, float]:
    """Bytes of a row of the record, and seconds to read it at a start."""
    with Recorder(folder, {"settings": "0"}) as recorder:
        for number in range(rows):
            row = Row(f"some/folder/image_{number:08}", "ok", "", ("cat", "tree"), (375, 500), 0.1234, "0" * 64)
            recorder.add(row)
    started = time.monotonic()
    with LatestRows(folder, "0"):
        taken = time.monotonic() - started
    return recorder.path.stat().st_size / rows, taken / rows


def main() -> None:
    """Measure, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vit", type=Path, help="weights of a ViT-B/16")
    parser.add_argument("--count", type=int, default=400, help="scenes for the bundled model; a twentieth for the ViT")
    parser.add_argument("--rows", type=int, default=200_000, help="of a table and of a record")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parse_options(parser, count=4, rows=2000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = draw(folder / "small", options.count, (112, 112))
        large = draw(folder / "large", max(options.count // 20, 2), (375, 500))
        plain = replace(clipes.config.CLIP_ES_SCENES, refine=None)
        jobs = {
            "bundled, 112 x 112, no refinement": ({"config": plain}, small),
            "bundled, 112 x 112, CRF": ({}, small),
        }
        if options.vit:
            vit = {"model": "ViT-B-16", "pretrained": options.vit, "classes": THINGS, "background": "scenes"}
            jobs["ViT-B/16, 375 x 500, no refinement"] = ({**vit, "config": replace(clipes.VOC12, refine=None)}, large)
            jobs["ViT-B/16, 375 x 500, CRF"] = ({**vit, "config": clipes.VOC12}, large)
        lines = []
        for number, (job, (given, table)) in enumerate(jobs.items()):
            speed, size, again = rate(clipes.load(device="cpu", **given), table, folder / str(number))
            hours = 1e6 / speed / 3600
            lines.append(f"| {job} | {speed:.2f} | {hours:,.0f} h | {size:,.0f} | {again * 1e3:.2f} |")
        row, read = catalogue(folder, options.rows)
        line, told = records(folder, options.rows)
    text = [
        "# What an image costs",
        "",
        f"`python benchmarks/scale.py --vit FILE`: {describe()}",
        "",
        f"End to end with {torch.get_num_threads()} thread and a process that reads ahead; a million is extrapolated:",
        "",
        "| model, size | images/s | 1,000,000 images | bytes of a mask | ms to find it finished |",
        "| --- | --- | --- | --- | --- |",
        *lines,
        "",
        f"What grows with the number of images, by {options.rows:,} rows:",
        "",
        "| | for each image |",
        "| --- | --- |",
        f"| catalogue of a table, on disk | {row:.0f} bytes |",
        f"| reading the table, looking for its files | {read * 1e3:.3f} ms |",
        f"| row of the record | {line:.0f} bytes |",
        f"| reading the record at a start | {told * 1e3:.3f} ms |",
    ]
    options.out.write_text("\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
