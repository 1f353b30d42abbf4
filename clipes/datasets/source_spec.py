"""Sources of the form `NAME:ROOT[:SPLIT]` and `NAME:FILE[:REST]`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .sample import DatasetError


def split_file(spec: str) -> tuple[Path, str | None] | None:
    """The file and what follows the colon of `FILE[:REST]`; None where no file is named."""
    colons = [match.start() for match in re.finditer(":", spec)]
    place = next((end for end in (len(spec), *reversed(colons)) if os.path.isfile(spec[:end])), None)
    if place is None:
        return None
    return Path(spec[:place]), spec[place + 1 :].strip() or None


def split_root(kind: str, spec: str) -> tuple[Path, str | None]:
    """The folder and the split of `ROOT[:SPLIT]`; colons within either are kept, a drive's (`C:\\x`) among them.

    Raises FileNotFoundError for a ROOT that is not a folder, DatasetError for an empty SPLIT.
    """
    if os.path.isdir(spec):
        return Path(spec), None
    for colon in reversed([match.start() for match in re.finditer(":", spec)]):
        root, split = spec[:colon], spec[colon + 1 :]
        if os.path.isdir(root) and not (os.name == "nt" and re.fullmatch("[A-Za-z]", root)):
            if not split.strip():
                raise DatasetError(
                    f"{kind}:{spec}: there is no split after the colon; write one, or leave the colon out"
                )
            return Path(root), split
    root = re.sub(r"(?<=..):[^:/\\]*$", "", spec)
    raise FileNotFoundError(f"{kind}: no such folder: {root!r}; write {kind}:ROOT or {kind}:ROOT:SPLIT")
