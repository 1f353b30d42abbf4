"""The images of a run's source, as the run found them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipes.datasets import DatasetError, TableFormat, find_images
from clipes.datasets.sample import AnySource
from clipes.io.images import TarMember


def run_images(manifest: Mapping[str, Any], source: AnySource) -> Mapping[str, Path | TarMember]:
    """The images of a source by their ids; errors as of :func:`clipes.datasets.find_images`.

    ``manifest`` is that of the run. A table is read in the run's format. Where two images differ in their suffix alone,
    the run's labels file says which is meant, as long as it is there.
    """
    plan = manifest.get("plan")
    plan = plan if isinstance(plan, dict) else {}
    labels, values = plan.get("labels"), plan.get("table")
    table = TableFormat(**values) if isinstance(values, dict) else TableFormat()
    try:
        return find_images(source, None, table)
    except DatasetError:
        if not isinstance(labels, str) or labels.lower().endswith(".npy") or not os.path.isfile(labels):
            raise
        return find_images(source, labels, table)
