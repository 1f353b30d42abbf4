"""Paths: whether a source of images would find a file."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path


def source_would_match(source: Path) -> Callable[[Path], bool]:
    """Return a function that says whether a resolved path would be among the images of a folder or a pattern."""
    if source.is_dir():
        root = source.resolve()
        return lambda path: path.is_relative_to(root)
    if source.exists() or not glob.has_magic(str(source)):
        return lambda path: False
    fixed = list(takewhile(lambda part: not glob.has_magic(part), source.parts))
    base, rest = Path(*fixed).resolve(), source.parts[len(fixed) :]
    if "**" in rest:
        return lambda path: path.is_relative_to(base) and path.match(rest[-1])
    pattern = os.sep.join((glob.escape(str(base)), *rest))
    return lambda path: path.match(pattern)
