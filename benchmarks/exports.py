"""Masks in the forms of other tools, read back: ``python benchmarks/exports.py``. Writes benchmarks/exports.md.

2,000 scenes become masks by ``clipes generate``, those become all four forms by ``clipes export``, and each is read by
a reader of its own: pycocotools, torchvision's VOCSegmentation, polygons filled by pycocotools, datasets. Every pixel
is compared. Then the peak memory of ``clipes export`` over 1,000 and over 10,000 tiny pictures. Needs the extra
``test``; the memory is read on Linux only.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from environment import describe, parse_options
from numpy.typing import NDArray
from PIL import Image

from clipes.commands.demo_run import write_scenes
from clipes.scenes import draw_scenes
from clipes.store.store import open_run

TINY, TINY_SEED = (32, 32), 11_000_000
FORMS = ("coco", "voc", "yolo", "huggingface")
_MAIN = """
import re, sys
from clipes.cli import main
code = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
raise SystemExit(code)
"""
COMMAND = [sys.executable, "-c", _MAIN]
"""The command, and at the end its peak memory in kB: what the system tells the parent would be the parent's own."""

Named = Iterator[tuple[str, NDArray[np.integer]]]


def clipes(*arguments: object) -> float:
    """Run a command; returns its peak memory in MB."""
    done = subprocess.run([*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1e3


def read_coco(folder: Path) -> Named:
    """By pycocotools; ignored pixels are annotations that say so."""
    from pycocotools.coco import COCO

    coco = COCO(str(folder / "annotations/instances_train.json"))
    for image in coco.imgs.values():
        mask = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            mask[coco.annToMask(annotation) > 0] = 255 if annotation.get("ignored") else annotation["category_id"]
        yield Path(image["file_name"]).stem, mask


def read_voc(folder: Path) -> Named:
    """By torchvision's VOCSegmentation, which wants the folders of the devkit around it."""
    from torchvision.datasets import VOCSegmentation

    devkit = folder.with_name("devkit")
    (devkit / "VOCdevkit").mkdir(parents=True)
    (devkit / "VOCdevkit/VOC2012").symlink_to(folder.resolve())
    found = VOCSegmentation(str(devkit), year="2012", image_set="train")
    for path, (picture, mask) in zip(found.masks, found, strict=True):
        assert picture.size == mask.size
        yield Path(path).stem, np.asarray(mask)


def read_yolo(folder: Path) -> Named:
    """Each line's polygon filled by pycocotools; ignored pixels have none."""
    from pycocotools import mask as code

    for path in sorted((folder / "labels/train").glob("*.txt")):
        (picture,) = (folder / "images/train").glob(f"{path.stem}.*")
        with Image.open(picture) as image:
            width, height = image.size
        mask = np.zeros((height, width), np.uint8)
        for line in path.read_text().splitlines():
            number, *values = line.split()
            points = (np.array(values, float).reshape(-1, 2) * (width, height)).ravel().tolist()
            mask[code.decode(code.merge(code.frPyObjects([points], height, width))) > 0] = int(number) + 1
        yield path.stem, mask


def read_huggingface(folder: Path) -> Named:
    """By datasets' imagefolder."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    found = load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(folder.with_name("cache")), split="train")
    for row in found:
        yield row["id"], np.asarray(row["mask"])


READERS: dict[str, Callable[[Path], Named]] = {
    "coco": read_coco,
    "voc": read_voc,
    "yolo": read_yolo,
    "huggingface": read_huggingface,
}
NAMES = {
    "coco": "pycocotools",
    "voc": "torchvision's VOCSegmentation",
    "yolo": "polygons filled by pycocotools",
    "huggingface": "datasets' imagefolder",
}


def compare(run: Path, form: str, folder: Path) -> tuple[int, int, int, int]:
    """Images read back, their pixels, those that differ, and those whose ignoring the form cannot hold."""
    with open_run(run) as masks:
        rows = {row.id: row for row in masks.rows("ok")}
        images = pixels = wrong = lost = 0
        for name, found in READERS[form](folder):
            mask = masks.mask(rows.pop(name))
            expected = np.where(mask == 255, 0, mask) if form == "yolo" else mask
            images, pixels = images + 1, pixels + mask.size
            wrong += int((found != expected).sum())
            lost += int((expected != mask).sum())
        if rows:
            raise SystemExit(f"{form}: {len(rows)} images did not come back, {min(rows)!r} among them")
    return images, pixels, wrong, lost


def size_of(folder: Path) -> float:
    """MB of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def back(folder: Path, count: int, forms: Sequence[str]) -> Iterator[str]:
    """The rows of the first table."""
    write_scenes(folder, count)
    clipes("generate", folder / "images", "--labels", folder / "labels.csv", "--out", folder / "m", "--save-confidence")
    for form in forms:
        out = folder / form / "export"
        clipes("export", folder / "m", "--to", form, "--out", out)
        images, pixels, wrong, lost = compare(folder / "m", form, out)
        yield (f"| {form} | {NAMES[form]} | {images:,} | {pixels:,} | {wrong} | {lost:,} | {size_of(out):.1f} |")


def tiny_run(folder: Path, count: int) -> Path:
    """Masks of ``count`` pictures, each of them one of 100 files."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    for number, scene in enumerate(draw_scenes(min(100, count), TINY_SEED, TINY)):
        Image.fromarray(scene.image).save(pictures / f"{number:06}.png")
    for number in range(100, count):
        os.link(pictures / f"{number % 100:06}.png", pictures / f"{number:06}.png")
    clipes("generate", pictures, "--labels", "cat,tree", "--out", folder / "m", "--refine", "none")
    return folder / "m"


def memory(folder: Path, counts: Sequence[int], forms: Sequence[str]) -> Iterator[str]:
    """The rows of the second table."""
    runs = [tiny_run(folder / str(count), count) for count in counts]
    for form in forms:
        outs = [folder / f"{form}-{count}" for count in counts]
        few, many = (clipes("export", run, "--to", form, "--out", out) for run, out in zip(runs, outs, strict=True))
        yield f"| {form} | {few:.0f} | {many:.0f} | {many / few - 1:+.1%} |"


def main() -> None:
    """Measure, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=2_000)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--counts", type=int, nargs=2, default=[1_000, 10_000], help="tiny pictures, for the memory")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parse_options(parser, scenes=4, counts=[4, 8], forms=["voc"])
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = list(back(folder / "scenes", options.scenes, options.forms))
        peaks = list(memory(folder / "tiny", options.counts, options.forms))
    lines = [
        "# Masks in other tools' forms, read back",
        "",
        f"`python benchmarks/exports.py`: {describe()}",
        "",
        f"The masks of {options.scenes:,} scenes of 112 x 112, by `clipes generate` and `clipes export`, read back and"
        " compared pixel by pixel with the masks of the run. YOLO's polygons know no ignored pixels: they are"
        " background there, as the command says.",
        "",
        "| form | read by | images | pixels | other than in the run | ignored, now background | MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *table,
        "",
        f"Peak memory of `clipes export` over pictures of {TINY[0]} x {TINY[1]}, MB; what is more are the lists of"
        " images and rows on disk, which keep up to 16 MB each in memory:",
        "",
        f"| form | {options.counts[0]:,} images | {options.counts[1]:,} images | more |",
        "| --- | --- | --- | --- |",
        *peaks,
    ]
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
