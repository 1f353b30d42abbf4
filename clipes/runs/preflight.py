"""Checks before the first image: whether the masks of all samples can be written to the output folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from clipes.datasets import Sample
from clipes.datasets.sample import AnySource
from clipes.ids import MANIFEST
from clipes.io.paths import resolved, source_text, source_would_match
from clipes.store.cleanup import check_output_folder
from clipes.store.output import Output
from clipes.store.writer import NotOurs, new_writer

_EXAMPLE_NAME = "masks-20261122T000000.000000-00000000-1-00000000"


def check_folder(source: AnySource, samples: Iterable[Sample], output: Output, overwrite: bool = False) -> None:
    """Check that the masks of ``samples`` can be written to the output folder.

    With ``overwrite``, the files of an earlier run may be broken, but no run may be writing to the folder now.

    Raises ValueError if a mask would replace a file that no run wrote, if the next run would take masks for images of
    ``source``, and if the file of one mask would have the name of another's folder; NotADirectoryError if the folder
    is a file.
    """
    folder = output.folder
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise NotADirectoryError(f"{folder} is a file; give another name, or move it away")
    check_output_folder(folder, overwrite)
    root, would_match = resolved(folder), source_would_match(source)
    writer = new_writer(output, _EXAMPLE_NAME)
    blocked: set[str] = set()  # ids whose mask file has the name of a folder: for the sample a.png/b this is a (a.png)
    for sample in samples:
        if output.format != "none" and would_match(
            root / (f"{sample.id}.png" if output.format == "png" else f"{_EXAMPLE_NAME}-000000.tar")
        ):
            raise ValueError(
                f"the output folder {folder} lies in the source {source_text(source)}, so that the next run would take "
                "the masks for images; choose a folder outside it"
            )
        try:
            writer.check(sample)
        except NotOurs as error:
            # In a run's own folder it may be an edited mask, and concerns no other image.
            if overwrite or not os.path.lexists(folder / MANIFEST):
                raise ValueError(f"{sample.image}: {error}") from error
        except (ValueError, OSError) as error:
            raise ValueError(f"{sample.image}: {error}") from error
        if ".png/" in sample.id and output.format == "png":
            blocked.update(sample.id[: match.start()] for match in re.finditer(r"\.png/", sample.id))
    clash = next((sample for sample in samples if sample.id in blocked), None) if blocked else None
    if clash:
        raise ValueError(f"{clash.image}: its mask {clash.id}.png would have to be a folder, too; rename it")
