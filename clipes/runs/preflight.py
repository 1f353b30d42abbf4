"""What is checked before the first image: labels, ids, and that nothing foreign in the output folder is touched."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from clipes.datasets import Sample
from clipes.io.paths import source_would_match
from clipes.store.cleanup import check_output_folder
from clipes.store.output import Output
from clipes.store.writer import new_writer

_EXAMPLE_NAME = "masks-20261122T000000.000000-00000000-1-00000000"


def check_folder(
    source: str | os.PathLike[str], samples: Iterable[Sample], output: Output, overwrite: bool = False
) -> None:
    """Raise ValueError if masks in the folder would replace what no run wrote, or later be taken for images of
    ``source``, or if two of them cannot be there together; NotADirectoryError if the folder is a file. With
    ``overwrite``, what a run wrote there may be broken, but none may be writing now.
    """
    folder = output.folder
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise NotADirectoryError(f"{folder} is a file; give a folder for the masks")
    check_output_folder(folder, overwrite)
    root, would_match = folder.resolve(), source_would_match(Path(source))
    writer = new_writer(output, _EXAMPLE_NAME)
    inner: set[str] = set()  # ids of masks in whose place a folder is needed: of a.png/b that is a
    for sample in samples:
        if would_match(root / (f"{sample.id}.png" if output.format == "png" else f"{_EXAMPLE_NAME}-000000.tar")):
            raise ValueError(
                f"the output folder {folder} lies in the source {source}, so that the next run would take "
                "the masks for images; choose a folder outside it"
            )
        try:
            writer.check(sample)
        except (ValueError, OSError) as error:
            raise ValueError(f"{sample.image}: {error}") from error
        if ".png/" in sample.id and output.format == "png":
            inner.update(sample.id[: match.start()] for match in re.finditer(r"\.png/", sample.id))
    clash = next((sample for sample in samples if sample.id in inner), None) if inner else None
    if clash:
        raise ValueError(f"{clash.image}: its mask {clash.id}.png would have to be a folder, too; rename it")
