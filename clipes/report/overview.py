"""What a report says of a run as a whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from clipes._version import __version__
from clipes.ids import voc_palette
from clipes.store.store import Store

from .counts import RunTotals, Throughput

REASONS = 50
MACHINES = 20


def overview(run: Store, source: str, totals: RunTotals, clock: Throughput) -> dict[str, Any]:
    """The data of the page above its gallery, as JSON holds it."""
    status = run.status(REASONS)
    counts = {name: getattr(status, name) for name in ("total", "ok", "skipped", "failed", "left", "rate")}
    return {
        "run": run.folder.name,
        "made": f"clipes {__version__}, {_minute(time.time())}",
        "counts": counts,
        "started": [_minute(worker.started) for worker in status.workers[:1]],
        "others": status.other_records,
        "machines": sorted({worker.machine for worker in status.workers})[:MACHINES],
        "reasons": [[reason.status, reason.text, reason.count, reason.first] for reason in status.reasons],
        "colours": [bytes(colour).hex() for colour in voc_palette()],
        "facts": list(_facts(run, source)),
        "clock": clock.as_dict(),
        **totals.as_dict(),
    }


def _facts(run: Store, source: str) -> Iterator[list[str]]:
    """The run's record, a name and a text each: what it was started with first, then its settings."""
    manifest = {**run.manifest, "source": source, "folder": str(run.folder)}
    settings, digest = manifest.pop("settings"), manifest.pop("digest")
    manifest.pop("category_ids", None)
    yield from _flat(manifest, "")
    yield from _flat(settings, "")
    yield ["digest", digest]


def _flat(value: Any, name: str) -> Iterator[list[str]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        yield [name, ", ".join(map(str, value)) or "none"]
    else:
        yield [name, "none" if value in (None, {}) else str(value)]


def _minute(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
