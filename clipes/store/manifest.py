"""``run.json``: the settings of the run that a folder belongs to, written once, by the first process that starts.

``records/run.json`` is a copy of it, because without the settings the records and masks of a folder are worth nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from clipes.ids import MANIFEST
from clipes.io.atomic import write_bytes, write_json
from clipes.io.create import write_new
from clipes.io.retry import retried

from .difference import differences
from .layout import MANIFEST_COPY, RECORDS
from .record import read_records, refuse_special

OVERWRITE = "remove what earlier runs wrote with --overwrite"

MIXED = "finalize was stopped: some masks are of other settings than config says; run it again"
"""What ``run.json`` says while masks are overwritten by those of other settings."""


class OtherSettings(ValueError):
    """A folder is of a run with other settings: ``differences`` tells which."""

    def __init__(self, folder: str, differences: str) -> None:
        cure = f"choose another folder, give the same settings, or {OVERWRITE}"
        super().__init__(f"{Path(folder, MANIFEST)} is of a run with other settings ({differences}); {cure}")
        self.folder, self.differences = folder, differences

    def __reduce__(self) -> tuple[type[OtherSettings], tuple[str, str]]:
        return OtherSettings, (self.folder, self.differences)


def settings_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 of ``settings`` as canonical JSON, 64 hexadecimal digits; 1 and 1.0 are the same.

    Raises ValueError for nan and infinities, TypeError for what JSON cannot hold.

    >>> settings_digest({"a": 1, "b": [2.0]}) == settings_digest({"b": (2,), "a": 1.0})
    True
    """
    text = json.dumps(_plain(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def create_or_verify_manifest(
    folder: str | os.PathLike[str], settings: Mapping[str, Any], about: Mapping[str, Any]
) -> str:
    """Make ``folder`` (created if need be) that of a run with ``settings``; returns their :func:`settings_digest`.

    The first process writes ``folder/run.json``: ``about`` (what may differ from one start to the next: versions,
    command, machine), ``settings`` and ``digest``. The others compare their settings with it.

    Where there is no ``run.json`` but records, it was lost: it is written again if the last of them is of the same
    settings.

    Raises :class:`OtherSettings` for a ``run.json`` of other settings, ValueError for one that is broken, and for
    records of other settings without one; TypeError or ValueError for what JSON cannot hold. Where the file system has
    no hard links, two processes with different settings that start at the same moment may both go on.
    """
    path, manifest = Path(folder, MANIFEST), _manifest(settings, about)
    if not os.path.lexists(path):
        if recorded_digest(folder) not in (None, manifest["digest"]):
            cure = f"{repair_command(folder)} may find it; else choose another folder, or {OVERWRITE}"
            raise ValueError(f"{folder} has no {MANIFEST}, and its records are of a run with other settings; {cure}")
        write_new(path, lambda temporary: write_json(temporary, manifest))
    existing = read_manifest(folder)
    if existing["digest"] != manifest["digest"]:
        raise OtherSettings(os.fspath(folder), differences(existing, manifest))
    return str(manifest["digest"])


def overwrite_manifest(folder: str | os.PathLike[str], settings: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write ``folder/run.json`` and its copy over existing ones, for settings that were changed on purpose."""
    write_json(Path(folder, MANIFEST), _manifest(settings, about))
    copy_manifest(folder)


def copy_manifest(folder: str | os.PathLike[str]) -> None:
    """Bring the copy of ``folder/run.json`` beside the records up to date.

    One of the same settings stays as it is: where the rest differs, ``run.json`` may be the one that is damaged.
    """
    path, copy = Path(folder, MANIFEST), Path(folder, MANIFEST_COPY)
    refuse_special(copy.parent)
    if not is_copied(folder):
        write_bytes(copy, retried(path.read_bytes))


def is_copied(folder: str | os.PathLike[str]) -> bool:
    """Whether the copy of ``folder/run.json`` can be read and is of the same settings; the rest may differ."""
    try:
        manifest, copy = parse_manifest(Path(folder, MANIFEST)), parse_manifest(Path(folder, MANIFEST_COPY))
    except (ValueError, RecursionError):
        return False
    return (manifest["digest"], manifest.get("mixed")) == (copy["digest"], copy.get("mixed"))


def recorded_digest(folder: str | os.PathLike[str]) -> str | None:
    """The digest of the settings of the latest start that has made a mask, as its record says; None without such."""
    made = [r.settings for r in read_records(folder) if not r.fault and any(row.status == "ok" for row in r.rows())]
    return made[-1] if made else None


def _manifest(settings: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    return {**about, "settings": _plain(settings), "digest": settings_digest(settings)}


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """All of ``folder/run.json``: ``settings``, their ``digest`` and what the run was started with.

    Raises FileNotFoundError where there is none, ValueError where it is broken, or its digest is not that of its
    settings.
    """
    path, repair = Path(folder, MANIFEST), f"{repair_command(folder)} mends it"
    if not os.path.lexists(path):
        lost = f", or, if it was lost, {repair}" if os.path.isdir(Path(folder, RECORDS)) else ""
        raise FileNotFoundError(f"{folder} has no {MANIFEST}; give the --out folder of a `clipes generate`{lost}")
    try:
        return parse_manifest(path)
    except (ValueError, RecursionError) as error:
        cure = f"{repair}, or {other_folder(Path(folder))}"
        raise ValueError(f"{path} is no record of a run: {error}; {cure}") from error


def repair_command(folder: str | os.PathLike[str]) -> str:
    """What to type to have ``folder`` mended."""
    return f"`clipes repair {shlex.quote(os.fspath(folder))}`"


def other_folder(folder: Path) -> str:
    """The last cure for a folder that cannot be gone on with; ``--overwrite`` takes only one that has records."""
    return "choose another folder" + (f", or {OVERWRITE}" if (folder / RECORDS).is_dir() else "")


def parse_manifest(path: Path) -> dict[str, Any]:
    """What a ``run.json``, or its copy, holds; ValueError or RecursionError for anything else."""
    if path.is_symlink() or not path.is_file():
        raise ValueError("it is a link or no file")
    manifest = json.loads(retried(partial(path.read_text, encoding="utf-8")), parse_constant=_no_number)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("settings"), dict):
        raise ValueError("it has no 'settings'")
    if manifest.get("digest") != settings_digest(manifest["settings"]):
        raise ValueError("its 'digest' is not that of its 'settings'; were they edited?")
    return manifest


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` as JSON gives them back, with whole numbers as integers."""

    def shortest(text: str) -> float | int:
        number = float(text)
        return int(number) if number.is_integer() else number

    plain: dict[str, Any] = json.loads(json.dumps(dict(settings), allow_nan=False), parse_float=shortest)
    return plain


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
