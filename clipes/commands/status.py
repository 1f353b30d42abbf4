"""``clipes status``: the counts, speed and failures of a run, or of all shards of it."""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .terminal import DONE, EXIT_CODES, nonempty, positive_int, print_error, short

if TYPE_CHECKING:
    from clipes.store.status import RunStatus, Worker

MAX_NAME_WIDTH, MAX_REASON_WIDTH = 40, 100


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "what a run, or all shards of it, has done: counts, speed, reasons, what is left"
    status = commands.add_parser("status", help=help, description=help, epilog=EXIT_CODES, allow_abbrev=False)
    status.add_argument("folder", type=lambda text: Path(nonempty(text)), help="the --out of a `clipes generate`")
    status.add_argument("--json", type=lambda text: Path(nonempty(text)), metavar="FILE", help="write everything here")
    reasons = "how many of the commonest reasons to show (default: %(default)s)"
    status.add_argument("--reasons", type=positive_int, default=10, metavar="N", help=reasons)
    status.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read the records and print the status; write it to a JSON file if asked for."""
    from clipes.io.atomic import write_json
    from clipes.store.status import read_status

    if options.json and options.json.suffix != ".json":
        raise ValueError(f"--json writes a .json file, not {options.json}; end its name in .json")
    if options.json and options.json.name in ("run.json", "classes.json"):
        raise ValueError(f"{options.json} would replace what a run wrote; choose another name")
    status = read_status(options.folder, options.reasons)
    if options.json:
        write_json(options.json, status.as_dict())
    _print_counts(status)
    _print_reasons(status)
    _print_workers(status)
    if status.other_records:
        print_error(f"{status.other_records} record(s) of other settings are left out")
    return DONE


def _print_counts(status: RunStatus) -> None:
    unknown = "unknown: no worker was told the number of images"
    rows: list[tuple[str, object]] = [
        ("images", unknown if status.total is None else status.total),
        ("ok", status.ok),
        ("skipped", status.skipped),
        ("failed", status.failed),
        ("left", "unknown" if status.left is None else status.left),
        ("images/s", f"{_rate(status.rate)}  while any worker was at work"),
    ]
    for name, value in rows:
        print(f"{name:10}{value}")


def _print_reasons(status: RunStatus) -> None:
    if not status.reasons:
        return
    width = max(len(str(reason.count)) for reason in status.reasons)
    print("\nreasons, the commonest first, as told of the first image")
    for reason in status.reasons:
        text, name = short(reason.text, MAX_REASON_WIDTH), short(reason.first, MAX_NAME_WIDTH)
        print(f"  {reason.count:{width}}  {reason.status:7}  {text}  ({name})")


def _print_workers(status: RunStatus) -> None:
    if not status.workers:
        print("\nno worker has begun")
        return
    machines = [short(worker.machine, MAX_NAME_WIDTH) for worker in status.workers]
    width = max(map(len, ("machine", *machines)))
    columns = f"{'started':19}  {'last image':19}  {'ok':>8}  {'skipped':>8}  {'failed':>8}  {'images/s':>8}"
    print(f"\n{'shard':>9}  {'machine':{width}}  {columns}  record")
    for worker, machine in zip(status.workers, machines, strict=True):
        shard = short(worker.shard or "-", 9)
        figures = f"{worker.ok:8}  {worker.skipped:8}  {worker.failed:8}  {_rate(worker.rate):>8}"
        print(f"{shard:>9}  {machine:{width}}  {_times(worker)}  {figures}  {short(worker.file, 80)}")


def _times(worker: Worker) -> str:
    """The times of the worker's start and of its last row, in local time; a dash if it has no row yet."""
    rows = worker.ok + worker.skipped + worker.failed
    return f"{_time(worker.started)}  {_time(worker.last) if rows else '-':19}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.2f}"
