"""``clipes report``: one static folder that shows a run: its numbers, its pictures, its failures."""

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
        folder: the run's, masks as files or in .tar shards; it stays as it is.
        out: the report's folder; None: ``folder`` with ``-report`` behind its name. An older report is replaced.
        source: where the images are; None: where the run found them.
        truth: a folder of PNG files of ids named as the masks; the worst come first then.
        limit: how many images the gallery shows, spread evenly; the numbers are always those of all.
        progress: wraps the images in a progress bar; called with an iterable, its length and a unit.

    Every image shown takes a few small picture files; memory does not grow with their number. An image that cannot be
    read any more is shown with the reason. Stopped half-way, nothing is written.

    Raises FileNotFoundError where there is no run, no source or no truth; ValueError for a broken record, masks of
    mixed settings, a limit below 1, an ``out`` that is not a report's or lies among the masks, images or truth.
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
