"""The images of a run's source and their labels, as the run found them."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from clipes.datasets import DatasetError, TableFormat, find_images, find_samples
from clipes.datasets.sample import AnySource
from clipes.io.images import TarMember


def run_images(manifest: Mapping[str, Any], source: AnySource) -> Mapping[str, Path | TarMember]:
    """The images of a source by their ids; errors as of :func:`clipes.datasets.find_images`.

    ``manifest`` is that of the run. A table is read in the run's format. Where two images differ in their suffix alone,
    the run's labels file says which is meant, as long as it is there.
    """
    labels, table = _labels_and_format(manifest)
    try:
        return find_images(source, None, table)
    except DatasetError:
        if not isinstance(labels, str) or labels.lower().endswith(".npy") or not os.path.isfile(labels):
            raise
        return find_images(source, labels, table)


def run_labels(manifest: Mapping[str, Any], ids: Container[str]) -> dict[str, tuple[str, ...]]:
    """The labels of those images of the run's source that have one of ``ids``, as the run would read them now.

    Raises ValueError where the run does not say where its images are, and as :func:`clipes.datasets.find_samples`.
    """
    source = manifest.get("source")
    if not source:
        raise ValueError("run.json does not say where the images are")
    labels, table = _labels_and_format(manifest)
    names, class_set = manifest["settings"].get("class_names", ()), manifest.get("class_set")
    counted = isinstance(class_set, dict) and class_set.get("numbers_from")
    numbered = ("background", *names) if counted else names
    samples = find_samples(source, labels, class_names=numbered, missing="skip", unlabelled="skip", table=table)
    return {sample.id: sample.labels for sample in samples if sample.id in ids}


def _labels_and_format(manifest: Mapping[str, Any]) -> tuple[Any, TableFormat]:
    """The labels that the run was given, None for the source's own, and how its tables are written."""
    plan = manifest.get("plan")
    plan = plan if isinstance(plan, dict) else {}
    values = plan.get("table")
    return plan.get("labels"), TableFormat(**values) if isinstance(values, dict) else TableFormat()
