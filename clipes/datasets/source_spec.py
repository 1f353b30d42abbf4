"""Sources of the form `NAME:ROOT[:SPLIT]`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .sample import DatasetError


def split_root(kind: str, given: str) -> tuple[Path, str | None]:
    """The folder and the split of `ROOT[:SPLIT]`; colons within either are kept, a drive's (`C:\\x`) among them.

    Raises FileNotFoundError for a ROOT that is no folder, DatasetError for an empty SPLIT.
    """
    if os.path.isdir(given):
        return Path(given), None
    for colon in reversed([match.start() for match in re.finditer(":", given)]):
        root, split = given[:colon], given[colon + 1 :]
        if os.path.isdir(root) and not (os.name == "nt" and re.fullmatch("[A-Za-z]", root)):
            if not split.strip():
                raise DatasetError(
                    f"{kind}:{given}: there is no split after the colon; write one, or leave the colon out"
                )
            return Path(root), split
    shown = re.sub(r"(?<=..):[^:/\\]*$", "", given)
    raise FileNotFoundError(f"{kind}: no such folder: {shown!r}; write {kind}:ROOT or {kind}:ROOT:SPLIT")
