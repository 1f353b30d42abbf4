"""``run.json``: the settings of the run that a folder of masks belongs to, written once, by whoever comes first."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clipes.io.atomic import atomic, write_json

NAME = "run.json"
SHOWN = 10
"""How many differences of settings are told."""

_WIDEST = 60
_ABSENT = "absent"
_NO_LINKS = (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)


def digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 of ``settings`` as canonical JSON, 64 hexadecimal digits; 1 and 1.0 are the same.

    Raises ValueError for nan and infinities, TypeError for what JSON cannot hold.

    >>> digest({"a": 1, "b": [2.0]}) == digest({"b": (2,), "a": 1.0})
    True
    """
    text = json.dumps(_plain(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def claim(folder: str | os.PathLike[str], settings: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Make ``folder`` (made if need be) that of a run with ``settings``, and return their :func:`digest`.

    The first of all processes that ask writes ``folder/run.json``: ``about`` (what may differ from one start to the
    next: versions, command, machine), ``settings`` and ``digest``. For all others it stays as it is.

    Raises ValueError, with the differences, if it is there with other settings, or is no record of a run; TypeError
    or ValueError for what JSON cannot hold. Where the file system has no hard links, two processes with different
    settings that start at the same moment may both go on.
    """
    path, mine, record = Path(folder, NAME), digest(settings), _manifest(settings, about)
    if not os.path.lexists(path):
        _create(path, record)
    found = read_manifest(folder)
    if found["digest"] != mine:
        raise ValueError(_difference(path, found["settings"], record["settings"]))
    return mine


def renew(folder: str | os.PathLike[str], settings: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write ``folder/run.json`` as :func:`claim` does, over what is there: for settings changed on purpose."""
    write_json(Path(folder, NAME), _manifest(settings, about))


def _manifest(settings: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    return {**about, "settings": _plain(settings), "digest": digest(settings)}


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What ``folder/run.json`` holds: ``settings``, their ``digest`` and what the run was started with.

    Raises FileNotFoundError where there is none, ValueError where it is no record of a run, or its digest is not
    that of its settings.
    """
    path = Path(folder, NAME)
    if not os.path.lexists(path):
        raise FileNotFoundError(f"{folder} has no {NAME}; give the --out folder of a `clipes generate`")
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"{path} is a link or no file, not the record of a run; remove it or choose another folder")
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
        if not isinstance(found, dict) or not isinstance(found.get("settings"), dict):
            raise ValueError("it has no 'settings'")
        if found.get("digest") != digest(found["settings"]):
            raise ValueError("its 'digest' is not that of its 'settings'; were they edited?")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is no record of a run: {error}. Choose another folder, or begin anew with --overwrite"
        ) from error
    return found


def _create(path: Path, record: Mapping[str, Any]) -> None:
    """Write ``path`` whole, unless another process has come first."""
    try:
        with atomic(path) as temporary:
            write_json(temporary, record)
            try:
                os.link(temporary, path)  # unlike a rename, it never replaces what another process wrote
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
    except FileExistsError:
        pass


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` as JSON gives them back, with whole numbers as integers."""
    text = json.dumps(dict(settings), allow_nan=False)
    plain: dict[str, Any] = json.loads(text, parse_float=_shortest)
    return plain


def _shortest(text: str) -> float | int:
    number = float(text)
    return int(number) if number.is_integer() else number


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _difference(path: Path, found: Any, given: Any) -> str:
    old, new = dict(_flat(found)), dict(_flat(given))
    names = [name for name in {**old, **new} if old.get(name, _ABSENT) != new.get(name, _ABSENT)]
    lines = [f"{name}: {old.get(name, _ABSENT)} → {new.get(name, _ABSENT)}" for name in names]
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    shown = "; ".join((*lines[:SHOWN], *more))
    return (
        f"{path} is of a run with other settings ({shown}); "
        "choose another folder, give the same settings, or begin anew with --overwrite"
    )


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of nested settings as text, each with its place: ``config.image.mean[0]``."""
    if isinstance(value, dict) and (value or not name):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _flat(item, f"{name}[{index}]")
    else:
        text = json.dumps(value)
        yield name, text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
