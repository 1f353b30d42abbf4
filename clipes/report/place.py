"""Where a report goes: a folder that is there as a whole or not at all, and is never anything else's."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from clipes.preflight import finder
from clipes.writer import HOST, is_alive

MARKER = "clipes-report.json"
"""The file that says that a folder is a report."""

NAMES = frozenset({MARKER, "index.html", "style.css", "script.js", "data", "pictures"})
"""All that a report's folder holds."""

_TEMPORARY = re.compile(r"\.clipes-report-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{16}")


def check_place(out: Path, run: Path, taken: Sequence[str]) -> Path:
    """The absolute path of ``out``, the folder for the report on ``run``.

    Raises ValueError where it lies in the run's folder or among the images of a source that is ``taken``, and where
    something is there that is no report.
    """
    out = Path(os.path.abspath(out))
    if out.resolve().is_relative_to(run.resolve()):
        raise ValueError(f"{out} is in the folder of the masks; give the report another one (--out)")
    for source in taken:
        if finder(Path(source))(out.resolve() / "pictures" / "0.jpg"):
            raise ValueError(f"{out} is among the images of {source}; give the report another folder (--out)")
    if os.path.lexists(out) and not _is_ours(out):
        raise ValueError(f"{out} exists and is no report, or holds other files, too; choose another folder (--out)")
    return out


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``out``; it takes that name when the block ends well, else it vanishes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    _sweep(out.parent)
    temporary, old = (out.parent / f".clipes-report-{HOST}-{os.getpid()}-{secrets.token_hex(8)}" for _ in range(2))
    try:
        temporary.mkdir()
        yield temporary
        if out.exists():
            out.rename(old)
        temporary.rename(out)
    finally:
        for folder in (temporary, old):
            with suppress(FileNotFoundError):
                shutil.rmtree(folder)


def _is_ours(folder: Path) -> bool:
    """Whether it is a folder with a report and nothing else, or empty."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    names = set(os.listdir(folder))
    return not names or (MARKER in names and names <= NAMES)


def _sweep(folder: Path) -> None:
    """Remove what processes of this machine that were killed have left."""
    for path in folder.glob(".clipes-report-*"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and match["host"] == HOST and os.name == "posix" and not is_alive(int(match["process"])):
            shutil.rmtree(path, ignore_errors=True)
