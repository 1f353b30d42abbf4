"""The flags of a run over a data set: what is written, which part of it, by how many, and which faults are allowed."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress

from .arguments import nonempty, path, positive_int


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of :class:`clipes.runs.plan.Plan`; those that are not given are None. The model's stand apart."""
    _add_output(parser.add_argument_group("output"))
    add_work_flags(parser)


def add_work_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which part of the work is done, by how many, and which faults are allowed."""
    _add_faults(parser.add_argument_group("faults"))
    _add_work(parser.add_argument_group("work"))
    _add_ray(parser.add_argument_group("work on a cluster"))


def _add_output(group: argparse._ArgumentGroup) -> None:
    like = "take what no flag says from the plan of an earlier run: its run.json, or its folder"
    group.add_argument("--like", type=path, metavar="FILE", help=like)
    dry_run = "check everything that needs no model, print the plan, and end"
    group.add_argument("--dry-run", action="store_true", help=dry_run)
    out = "folder for the masks, named as the images are; finished masks of an earlier start are kept"
    group.add_argument("--out", type=path, help=out)
    overwrite = "remove the masks that earlier runs wrote there, and start from the beginning"
    group.add_argument("--overwrite", action="store_true", default=None, help=overwrite)
    confidence = "write OUT/confidence/*.png: the winning scores after the CRF, 255 for 1, as a loss takes them"
    group.add_argument("--save-confidence", action="store_true", default=None, help=confidence)
    cams = (
        "write OUT/cams/*.npz, for `clipes finalize`: the maps on the patch grid and, as CLIP-ES saves them, at"
        " the image's size"
    )
    group.add_argument("--save-cams", action="store_const", const="full", help=cams)
    patch = "write OUT/cams/*.npz on the patch grid alone: all that `clipes finalize` needs, and far smaller"
    group.add_argument("--save-patch-cams", dest="save_cams", action="store_const", const="patch", help=patch)
    kinds = "a PNG for each image, or .tar shards in WebDataset layout (default: png)"
    group.add_argument("--out-format", choices=("png", "tar"), help=kinds)
    size = "images in a .tar; a run that is killed repeats those of the one it was writing (default: 1000)"
    group.add_argument("--tar-size", type=positive_int, metavar="N", help=size)


def _add_faults(group: argparse._ArgumentGroup) -> None:
    unknown = "images with a label that is no class: refuse to start, or skip them (default: refuse)"
    group.add_argument("--unknown", choices=("refuse", "skip"), help=unknown)
    missing = "images that are named but not there: refuse to start, or skip them (default: refuse)"
    group.add_argument("--missing", choices=("refuse", "skip"), help=missing)
    rate = "share of the images that may fail before the exit code is 3 (default: 0.01)"
    group.add_argument("--max-failure-rate", type=_share, metavar="X", help=rate)
    group.add_argument(
        "--strict", action="store_true", default=None, help="end at the first image that fails, with exit code 3"
    )


def _add_work(group: argparse._ArgumentGroup) -> None:
    shard = "do part I of N, from 0/N (default: what torchrun or Slurm say, else all)"
    group.add_argument("--shard", metavar="I/N", help=shard)
    devices = "a process for each of several devices: all (GPUs), or cuda:0,cuda:1 (default: this process, on --device)"
    group.add_argument("--devices", type=nonempty, metavar="LIST", help=devices)
    workers = "processes that read images, for each device (default: 1 on a CPU, else up to 8)"
    group.add_argument("--workers", type=count, metavar="N", help=workers)
    threads = "threads for an image on a CPU, beside others (default: 1); masks may differ in single pixels with it"
    group.add_argument("--threads", type=positive_int, metavar="N", help=threads)


def _add_ray(group: argparse._ArgumentGroup) -> None:
    engine = "who makes the masks: this process, or the actors of Ray, an extra of the installation (default: here)"
    group.add_argument("--engine", choices=("here", "ray"), help=engine)
    actors = "actors, each with the model: a number, or the least and the most (default: 1, and as many as fit)"
    group.add_argument("--actors", type=_range, metavar="N[-N]", help=actors)
    gpus = "GPUs for each actor; a fraction shares one (default: 0)"
    group.add_argument("--gpus-per-actor", type=_amount, metavar="X", help=gpus)
    cpus = "CPUs for each actor (default: 1 beside a GPU, else as many as threads)"
    group.add_argument("--cpus-per-actor", type=_amount, metavar="X", help=cpus)
    address = "a Ray cluster, auto or HOST:PORT (default: $RAY_ADDRESS, else this machine)"
    group.add_argument("--ray-address", type=nonempty, metavar="ADDRESS", help=address)


def count(text: str) -> int:
    """argparse type: a whole number of at least 0."""
    return 0 if text == "0" else positive_int(text)


def _range(text: str) -> tuple[int, int | None]:
    """argparse type: ``4`` as (4, 4), ``2-8`` as (2, 8)."""
    least, _, most = text.partition("-")
    found = positive_int(least), positive_int(most or least)
    if found[0] > found[1]:
        raise argparse.ArgumentTypeError(f"{text!r}: the least is more than the most")
    return found


def _amount(text: str, most: float = sys.float_info.max, what: str = "a number of at least 0") -> float:
    """argparse type: a number in 0..``most``."""
    with suppress(ValueError):
        if 0 <= (value := float(text)) <= most:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not {what}")


def _share(text: str) -> float:
    """argparse type: a number in 0..1."""
    return _amount(text, 1, "a number between 0 and 1, such as 0.01")
