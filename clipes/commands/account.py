"""What is said of a run while it goes on and when it ends, and the exit code that follows."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from .terminal import DONE, FAILED, FAILURES_SHOWN, INTERRUPTED, TERMINATED, bar, complain, printable

if TYPE_CHECKING:  # they load torch
    from clipes.runs.outcome import Outcome
    from clipes.store.status import Reasons

REASONS_SHOWN = 10


class Stop:
    """Whether a signal has asked to end; ``code`` is the exit code that says so."""

    code = DONE

    def __call__(self) -> bool:
        return self.code != DONE


@contextmanager
def stopping() -> Iterator[Stop]:
    """The first Ctrl-C or SIGTERM asks to stop after the images in hand, the second stops at once."""
    stop = Stop()

    def ask(number: int, frame: object) -> None:
        if stop():
            raise KeyboardInterrupt(*(["terminated"] if number == signal.SIGTERM else []))
        stop.code = TERMINATED if number == signal.SIGTERM else INTERRUPTED
        with suppress(OSError):  # not print: the signal may have come in the middle of one
            os.write(2, b"\nstopping after the images in hand; once more stops at once\n")

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Account:
    """Counts how images end. Prints what came of them when :meth:`follow` is through, or is stopped."""

    def __init__(self, total: int, done: str, finished: Callable[[], int] = lambda: 0):
        self.total, self.done, self.finished = total, done, finished
        self.written = self.skipped = self.failed = 0
        self._first: list[str] = []
        self._reasons: Reasons | None = None

    def follow(self, outcomes: Iterator[Outcome], strict: bool = False) -> None:
        """Go through the outcomes behind a progress bar; with ``strict`` as far as the first that failed."""
        started, before = time.monotonic(), 0
        progress = bar(None, self.total, "images")
        try:
            for outcome in outcomes:
                self._add(outcome)
                now = self.finished()
                progress.update(1 + now - before)
                before = now
                if outcome.status != "ok":
                    progress.set_postfix(failed=self.failed, skipped=self.skipped, refresh=False)
                if strict and outcome.status == "failed":
                    break
        finally:  # stopped half-way, too
            progress.close()
            self._say(time.monotonic() - started)

    def code(self, allowed: float) -> int:
        """FAILED if more than the ``allowed`` share of all images failed, or if there is not one mask."""
        none = self.total > 0 and not self.written and not self.finished()
        # not allowed * total: 0.29 * 100 is less than 29
        return FAILED if self.failed / max(self.total, 1) > allowed or none else DONE

    def _add(self, outcome: Outcome) -> None:
        from clipes.store.record import Row
        from clipes.store.status import Reasons

        self.written += outcome.status == "ok"
        self.skipped += outcome.status == "skipped"
        self.failed += outcome.status == "failed"
        if outcome.status == "ok":
            return
        self._reasons = self._reasons or Reasons()
        self._reasons.add(Row(outcome.sample.id, outcome.status, outcome.reason))
        if outcome.status == "failed" and len(self._first) < FAILURES_SHOWN:
            self._first.append(outcome.error)

    def _say(self, seconds: float) -> None:
        others = {"finished before": self.finished(), "skipped": self.skipped, "failed": self.failed}
        rest = "".join(f", {count} {what}" for what, count in others.items() if count)
        ended = self.written + self.skipped + self.failed
        rate = f"; {ended / seconds:.3g} images/s" if ended and seconds else ""
        print(f"{self.written} of {self.total} {self.done}{rest}{rate}")
        for line in self._first:
            complain(line)
        if self.failed > len(self._first):
            complain(f"and {self.failed - len(self._first)} more failed")
        if self._reasons and self.failed + self.skipped > 1:
            print("why images have no mask:")
            for reason in self._reasons.common(REASONS_SHOWN):
                print(f"  {reason.count:6} {reason.status:8} {printable(reason.text)}")
