"""The progress bar, the summary and the exit code of a run, and how it is stopped by a signal."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from clipes.io import retry

from .terminal import (
    DONE,
    FAILED,
    FAILURES_SHOWN,
    INTERRUPTED,
    TERMINATED,
    is_verbose,
    print_note,
    printable,
    progress_bar,
    report_failures,
)

if TYPE_CHECKING:  # they load torch
    from clipes.runs.outcome import Outcome
    from clipes.store.status import Reasons

REASONS_SHOWN = 10

GRACE_SECONDS = 10.0
"""How long a process has to end by itself after a second signal: a thread may hang in a file system."""

_LOOK_SECONDS = 0.2


class Stop:
    """Whether a signal has asked the run to stop; ``code`` is the exit code for that signal.

    ``deadline`` is when the process ends in any case, by the monotonic clock: after a second signal.
    """

    code = DONE
    deadline = math.inf

    def __call__(self) -> bool:
        return self.code != DONE


@contextmanager
def signal_handlers(handle: Callable[[int, object], None], *numbers: int) -> Iterator[None]:
    """Handle these signals in the block by ``handle``. Does nothing outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stopping() -> Iterator[Stop]:
    """The first Ctrl-C or SIGTERM asks to stop after the images in progress, the second stops immediately.

    While a trouble of the file system is waited for (:mod:`clipes.io.retry`), the first stops, too. What is still
    running :data:`GRACE_SECONDS` after the second is left: whole files and rows stay whole.
    """
    stop = Stop()

    def handle(number: int, frame: object) -> None:
        if stop():
            stop.deadline = time.monotonic() + GRACE_SECONDS  # no lock is taken here
            raise KeyboardInterrupt(*(["terminated"] if number == signal.SIGTERM else []))
        stop.code = TERMINATED if number == signal.SIGTERM else INTERRUPTED
        with suppress(OSError):  # not print(): the signal may have interrupted one, and print() is not reentrant
            os.write(2, b"\nstopping after the images in progress; a second signal stops immediately\n")

    handled = signal_handlers(handle, signal.SIGINT, signal.SIGTERM)
    with _ended_at_deadline(stop), handled, retry.of_process.until(stop):
        try:
            yield stop
        except retry.LastingTrouble as error:
            if not stop():
                raise
            raise KeyboardInterrupt(*(["terminated"] if stop.code == TERMINATED else [])) from error


@contextmanager
def _ended_at_deadline(stop: Stop) -> Iterator[None]:
    """End the process at the deadline, if the block has not ended before."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS):
            if time.monotonic() > stop.deadline:
                os._exit(stop.code)

    threading.Thread(target=watch, name="clipes-stop", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


class RunSummary:
    """Counts the outcomes of the images. Prints a summary when :meth:`consume` ends or is interrupted.

    Args:
        total: how many images the run has.
        done: what was done to each image, for the summary: ``"masks written to out"``.
        finished: returns how many images were finished before this run, which are not among the outcomes.
        product: what an image has that is done, for the summary: ``"mask"``.
    """

    def __init__(self, total: int, done: str, finished: Callable[[], int] = lambda: 0, product: str = "mask"):
        self.total, self.done, self.finished, self.product = total, done, finished, product
        self.written = self.skipped = self.failed = self.suspect = self.nothing_found = 0
        self._first_errors: list[str] = []
        self._reasons: Reasons | None = None

    def consume(self, outcomes: Iterator[Outcome], strict: bool = False) -> None:
        """Iterate over the outcomes with a progress bar; with ``strict``, stop at the first failure."""
        started, before = time.monotonic(), 0
        progress = progress_bar(None, self.total, "images")
        try:
            for outcome in outcomes:
                self._add(outcome)
                if is_verbose():
                    print_note(f"{outcome.sample.id}: {outcome.status}{f', {outcome.reason}' * bool(outcome.reason)}")
                now = self.finished()
                progress.update(1 + now - before)
                before = now
                if outcome.status != "ok":
                    progress.set_postfix(failed=self.failed, skipped=self.skipped, refresh=False)
                if strict and outcome.status == "failed":
                    break
        finally:  # also when interrupted
            progress.close()
            self._print(time.monotonic() - started)

    def code(self, allowed: float) -> int:
        """FAILED if more than the share ``allowed`` of all images failed, or if no image has a mask."""
        no_masks = self.total > 0 and not self.written and not self.finished()
        # Divided instead of multiplied, because 0.29 * 100 is less than 29.
        return FAILED if self.failed / max(self.total, 1) > allowed or no_masks else DONE

    def _add(self, outcome: Outcome) -> None:
        from clipes.store.row import Row
        from clipes.store.status import Reasons

        self.written += outcome.status == "ok"
        self.skipped += outcome.status == "skipped"
        self.failed += outcome.status == "failed"
        self.suspect += outcome.suspect
        self.nothing_found += outcome.nothing_found
        if outcome.status == "ok":
            return
        self._reasons = self._reasons or Reasons()
        self._reasons.add(Row(outcome.sample.id, outcome.status, outcome.reason))
        if outcome.status == "failed" and len(self._first_errors) < FAILURES_SHOWN:
            self._first_errors.append(outcome.error)

    def _print(self, seconds: float) -> None:
        others = {"finished before": self.finished(), "skipped": self.skipped, "failed": self.failed}
        rest = "".join(f", {count} {what}" for what, count in others.items() if count)
        ended = self.written + self.skipped + self.failed
        rate = f"; {ended / seconds:.3g} images/s" if ended and seconds else ""
        print(f"{self.written} of {self.total} {self.done}{rest}{rate}")
        if self.nothing_found:
            print(f"{self.nothing_found} of them show nothing of the list of classes: all background")
        if self.suspect:
            print(f"{self.suspect} of them do not fit the labels of their image: `clipes status` says why")
        report_failures(self._first_errors, self.failed)
        if self._reasons and self.failed + self.skipped > 1:
            print(f"reasons why images have no {self.product}:")
            for reason in self._reasons.common(REASONS_SHOWN):
                print(f"  {reason.count:6} {reason.status:8} {printable(reason.text)}")
