"""A whole data set in one call: :func:`run` by a generator, :func:`run_plan` by a plan."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from clipes.config import GivenRegionsConfig
from clipes.datasets import TableFormat
from clipes.datasets.piped import read_pipe
from clipes.datasets.sample import TAG, AnySource
from clipes.datasets.table_format import DEFAULT_FORMAT
from clipes.generator import MaskGenerator, load
from clipes.io.paths import list_sources
from clipes.io.processes import check_main_guard
from clipes.store.output import Output
from clipes.store.status import RunStatus
from clipes.store.store import Store

from .execute import start_run, write_masks
from .outcome import Outcome
from .plan import Faults, LocalEngine, Names, Placement, Plan
from .prepare import PreparedRun, prepare


def run(
    source: AnySource,
    out: str | os.PathLike[str],
    labels: str | os.PathLike[str] | Iterable[str] | None = None,
    *,
    regions: str | os.PathLike[str] | None = None,
    generator: MaskGenerator | None = None,
    confidence: bool = False,
    cams: Literal["patch", "full"] | None = None,
    format: Literal["png", "tar"] = "png",
    table: TableFormat = DEFAULT_FORMAT,
    placement: Placement | None = None,
    faults: Faults | None = None,
    progress: Callable[[Outcome], object] | None = None,
) -> RunStatus:
    """Write the masks of a data set to the folder ``out``, and return how its images ended: counts and reasons.

    An image that cannot be read has failed, with its reason, and the others are done. Warnings say what is left out:
    files of kinds that are not read, rows without an image, images with unknown labels. The same call again goes on
    where it was stopped. The folder is as ``clipes generate`` writes it.

    >>> import clipes
    >>> status = clipes.run("photos", "masks", "labels.csv")  # doctest: +SKIP
    >>> status.ok, status.failed, status.reasons  # doctest: +SKIP
    (3, 0, ())

    Args:
        source: an image, a folder, a table, ``voc:ROOT``, ...; see :func:`clipes.datasets.find_samples`.
        out: the folder of the masks, made if need be.
        labels: a labels file, the names that every image has, ``"tag"``: CLIP finds them, or None: the source's own.
        regions: a folder or JSON of them (:func:`clipes.regions.folder.find_regions`), in place of the generator's own.
        generator: makes the masks in this process; by default :func:`clipes.load`, the bundled model.
        confidence, cams, format: what else is saved, and how; see :class:`clipes.store.output.Output`.
        table: the columns of tables of labels, and what separates the labels of an image.
        placement: shard, batch size, readers and threads; see :class:`clipes.runs.plan.Placement`.
        faults: which faults are allowed; ``max_failure_rate`` is for the command line's exit code alone.
        progress: called with the outcome of each image.

    Raises:
        ValueError: unknown labels, images with one id, a folder of another run's settings or of other files.
        FileNotFoundError: a missing source, labels file or folder of regions.
        RuntimeError: a script calls it outside of ``if __name__ == "__main__":``, and a process of another run runs it.
        OSError: the folder cannot be written to. DeviceLost: the GPU does not work any more.
    """
    check_main_guard()
    generator = _taking(regions, generator or load())
    plan = Plan(
        sources[0] if len(sources := list_sources(source)) == 1 else sources,
        Output(Path(out), confidence, cams, format),
        labels=_labels(labels),
        table=table,
        regions=None if regions is None else os.fspath(regions),
        model=None,
        vocabulary=None,
        config=generator.config,
        preset=generator.vocabulary.preset,
        placement=_in_this_process(placement or Placement()),
        faults=faults or Faults(),
    )
    return _execute(prepare(plan, generator.vocabulary), generator, progress)


def _in_this_process(placement: Placement) -> Placement:
    if not isinstance(placement.engine, LocalEngine) or placement.engine.devices:
        raise ValueError("a generator works in this process; give its plan to clipes.runs.api.run_plan for engines")
    return placement


def _taking(regions: object, generator: MaskGenerator) -> MaskGenerator:
    """The generator; one of its model and settings that takes regions with each picture, if there are ``regions``."""
    if regions is None or isinstance(generator.config.regions, GivenRegionsConfig):
        return generator
    return MaskGenerator(generator.clip, generator.vocabulary, replace(generator.config, regions=GivenRegionsConfig()))


def run_plan(plan: Plan, progress: Callable[[Outcome], object] | None = None) -> RunStatus:
    """Write the masks of a plan that names its model, by any engine; returns how its images ended.

    Raises as :func:`run`, and ValueError for a plan whose images have yet to choose the background words.
    """
    check_main_guard()
    if plan.vocabulary and plan.vocabulary.background == "auto":
        raise ValueError("background='auto': choose the words first, by clipes.prompting.suggest_background")
    return _execute(prepare(plan), None, progress)


def _execute(
    prepared: PreparedRun, generator: MaskGenerator | None, progress: Callable[[Outcome], object] | None
) -> RunStatus:
    for note in prepared.notes:
        warnings.warn(note, stacklevel=3)
    with start_run(prepared, generator) as run, closing(write_masks(run)) as outcomes:
        for outcome in outcomes:
            if progress:
                progress(outcome)
            if run.plan.faults.strict and outcome.status == "failed":
                break
    with Store.open(prepared.plan.output.folder) as store:
        return store.status()


def _labels(labels: Any) -> Names | None:
    if labels is None or labels == TAG:
        return None if labels is None else TAG
    if isinstance(labels, str | os.PathLike):
        return read_pipe(labels)
    return tuple(labels)
