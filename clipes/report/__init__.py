"""``clipes report``: a static HTML page about a run, with its numbers, its pictures and its failures.

It reads the run's files and never imports torch. Nothing here computes or changes a mask.
"""

from __future__ import annotations

import os
from pathlib import Path

from clipes.evaluation.accumulate import Progress
from clipes.io.atomic import check_target, publish, staging_folder, target_path
from clipes.store.store import open_run

from .build import Builder, Report

__all__ = ["LIMIT", "Report", "write_report"]

AnyPath = str | os.PathLike[str]

LIMIT = 10_000
"""How many images the gallery shows by default."""


def write_report(
    folder: AnyPath,
    out: AnyPath | None = None,
    *,
    source: AnyPath | None = None,
    truth: AnyPath | None = None,
    limit: int = LIMIT,
    progress: Progress = lambda items, total, unit: items,
) -> Report:
    """Write a page about the run of ``folder``, to be opened in any browser, without a server or a network.

    Args:
        folder: the run's folder, with masks as files or in .tar shards. It is only read.
        out: the report's folder. None: the name of ``folder`` with ``-report`` appended. An older report is replaced.
        source: where the images are. None: the source that the run was started with.
        truth: a folder of PNG masks of class ids, named like the run's masks. The gallery then begins with the images
            of the lowest mIoU.
        limit: how many images the gallery shows, chosen at equal distances. The numbers always cover all images.
        progress: wraps the images in a progress bar; called with an iterable, its length and a unit.

    Each image in the gallery takes a few small picture files. Memory does not grow with the number of images. An image
    that cannot be read any more is shown with the reason. If the call is interrupted, nothing is written.

    Raises FileNotFoundError if the run, its source or the folder of truth does not exist; ValueError for a broken
    record, for masks of mixed settings, for a limit below 1, and for an ``out`` that is not a report or lies inside the
    folder of the masks, images or truth.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; show at least 1 image")
    folder = Path(os.path.abspath(folder))
    truth = None if truth is None else Path(truth)
    if truth and not truth.is_dir():
        raise FileNotFoundError(f"no such folder of truth: {truth}")
    target = target_path(out, folder, "report")
    with open_run(folder) as run:
        place = run.source(source)
        check_target(target, "report", folder, [place] if truth is None else [place, str(truth)], overwrite=True)
        with staging_folder(target) as root:
            report = Builder(run, run.images(place), place, truth, limit, root).write(target, progress)
            run.check_unchanged()
            publish(root, target, "report", {"run": run.digest}, overwrite=True)
    return report
