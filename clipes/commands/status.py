"""``clipes status``: the counts, speed and failures of a run, or of all shards of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import add_command, add_run_folder, csv_path, json_path, positive_int
from .terminal import DONE, print_error, print_table, short

if TYPE_CHECKING:
    from clipes.store.row import Row
    from clipes.store.status import RunStatus

MAX_NAME_WIDTH, MAX_REASON_WIDTH = 40, 100


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "what a run, or all shards of it, has done: counts, speed, reasons, what is left"
    status = add_command(commands, "status", run, help)
    add_run_folder(status)
    status.add_argument("--json", type=json_path, metavar="FILE", help="write everything here")
    suspects = "write a table of the images whose masks do not fit their labels here"
    status.add_argument("--suspects", type=csv_path, metavar="FILE", help=suspects)
    reasons = "how many of the most common reasons to show (default: %(default)s)"
    status.add_argument("--reasons", type=positive_int, default=10, metavar="N", help=reasons)


def run(options: argparse.Namespace) -> int:
    """Read the records and print the status; write it to a JSON file if asked for."""
    from clipes.io.atomic import write_json
    from clipes.store.store import Store

    if options.json and options.json.name in ("run.json", "classes.json"):
        raise ValueError(f"{options.json} would replace what a run wrote; choose another name")
    with Store.open(options.folder) as store:
        status = store.status(options.reasons)
        if options.suspects:
            _write_suspects(options.suspects, store.latest.suspects())
    if options.json:
        write_json(options.json, status.as_dict())
    _print_counts(status)
    if status.nothing_found:
        print(f"\nnothing of the list found in {status.nothing_found} image(s): all background")
    _print_suspects(status)
    _print_reasons(status)
    _print_workers(status)
    if status.other_records:
        print_error(f"{status.other_records} record(s) of other settings are left out")
    return DONE


def _print_counts(status: RunStatus) -> None:
    unknown = "unknown: no worker was given the number of images"
    print(f"images    {unknown if status.total is None else status.total}")
    for name in ("ok", "skipped", "failed"):
        print(f"{name:10}{getattr(status, name)}")
    print(f"left      {'unknown' if status.left is None else status.left}")
    print(f"images/s  {_rate(status.rate)}  while at least one worker was running")


def _print_suspects(status: RunStatus) -> None:
    counts = status.suspect
    if not counts.images:
        return
    print(f"\n{counts.images} of the masks do not fit the labels of their image (--suspects FILE lists them)")
    width = len(str(counts.images))
    print(f"  {counts.missing_label:{width}}  have no pixel of a label")
    print(f"  {counts.little_foreground:{width}}  show classes at less than 1 % of their pixels")


def _write_suspects(path: Path, rows: Iterable[Row]) -> None:
    """Write a table of images and their labels, as ``clipes generate --labels`` reads it, and what does not fit."""
    from clipes.io.csv_file import write_csv

    header = ("image", "labels", "missing", "foreground", "confidence")
    cells = ((row.id, ";".join(row.labels), ";".join(row.missing), row.foreground, row.confidence) for row in rows)
    write_csv(path, header, cells)


def _print_reasons(status: RunStatus) -> None:
    if not status.reasons:
        return
    width = max(len(str(reason.count)) for reason in status.reasons)
    print("\nmost common reasons, each with the first image it was given for")
    for reason in status.reasons:
        text, name = short(reason.text, MAX_REASON_WIDTH), short(reason.first, MAX_NAME_WIDTH)
        print(f"  {reason.count:{width}}  {reason.status:7}  {text}  ({name})")


def _print_workers(status: RunStatus) -> None:
    if not status.workers:
        print("\nno worker has started")
        return
    rows = [
        (
            short(worker.shard or "-", 9),
            short(worker.machine, MAX_NAME_WIDTH),
            _local_time(worker.started),
            _local_time(worker.last) if worker.rows else "-",
            *map(str, (worker.ok, worker.skipped, worker.failed)),
            _rate(worker.rate),
            short(worker.file, 80),
        )
        for worker in status.workers
    ]
    titles = ("shard", "machine", "started", "last image", "ok", "skipped", "failed", "images/s", "record")
    print()
    print_table(titles, rows, left=("machine", "started", "last image", "record"))


def _local_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.2f}"
