"""The arguments that say which images there are, and which labels they have."""

from __future__ import annotations

import argparse
import os

from .terminal import nonempty


def add_source_flags(parser: argparse.ArgumentParser, needed: bool = True) -> None:
    """Add ``source``, which may be left out unless ``needed``, and ``--labels``: see `clipes.datasets.find_samples`."""
    source = (
        "an image, a folder, a quoted glob pattern, a .txt list of images, a .csv or .jsonl table of images and labels,"
        " voc:ROOT[:SPLIT], coco:ROOT[:SPLIT], or .tar shards (shards-{000..012}.tar)"
    )
    parser.add_argument("source", type=nonempty, nargs=None if needed else "?", help=source)
    labels = (
        "a .csv or .jsonl file, a cls_labels.npy, or names for all images: dog,person; default: the source's own, which"
        " a table, voc:, coco:, shards and a folder with a metadata.jsonl have"
    )
    parser.add_argument("--labels", type=nonempty, help=labels)


def labels_argument(given: str | None) -> str | tuple[str, ...] | None:
    """A labels file's path as it is, else names: ``dog,person``; None for the source's own."""
    if given is None:
        return None
    suffix = os.path.splitext(given)[1].lower()
    is_file = suffix in (".csv", ".jsonl", ".npy", ".json", ".txt", ".tsv") or (suffix and os.path.isfile(given))
    return given if is_file else tuple(given.split(","))
