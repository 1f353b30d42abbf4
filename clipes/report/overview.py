"""The data of the report's page above its gallery: counts, settings, speed, failures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from clipes._version import __version__
from clipes.drawing.colours import clear_palette
from clipes.io.paths import source_text
from clipes.store.difference import flatten
from clipes.store.store import Store

from .counts import RunTotals, Throughput

REASONS = 50
"""How many of the most frequent reasons of failures are listed."""

MACHINES = 20
"""How many names of machines are listed."""


def overview(run: Store, source: str | tuple[str, ...], totals: RunTotals, clock: Throughput) -> dict[str, Any]:
    """The data of the page above its gallery: dicts, lists, strings and numbers that JSON can hold."""
    status = run.status(REASONS)
    count_names = ("total", "ok", "skipped", "failed", "left", "rate")
    return {
        "run": run.folder.name,
        "made": f"clipes {__version__}, {_minute(time.time())}",
        "counts": {name: getattr(status, name) for name in count_names},
        "started": [_minute(worker.started) for worker in status.workers[:1]],  # the first worker's, or none
        "others": status.other_records,
        "machines": sorted({worker.machine for worker in status.workers})[:MACHINES],
        "reasons": [[reason.status, reason.text, reason.count, reason.first] for reason in status.reasons],
        "colours": [bytes(colour).hex() for colour in clear_palette()],
        "facts": list(_facts(run, source)),
        "clock": clock.as_dict(),
        **totals.as_dict(),
    }


def _facts(run: Store, source: str | tuple[str, ...]) -> Iterator[list[str]]:
    """Yield [name, text] for each entry of the run's manifest: how the run was started first, then its settings."""
    manifest = {**run.manifest, "source": source_text(source), "folder": str(run.folder)}
    settings, digest = manifest.pop("settings"), manifest.pop("digest")
    manifest.pop("category_ids", None)
    for name, value in (*flatten(manifest, lists=False), *flatten(settings, lists=False)):
        yield [name, _text(value)]
    yield ["digest", digest]


def _text(value: Any) -> str:
    """A leaf of the manifest as text: the items of a list with commas; "none" for None and for an empty container."""
    if value in (None, {}, []):
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _minute(seconds: float) -> str:
    """Seconds since 1970 as a date and a time in UTC, to the minute."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
