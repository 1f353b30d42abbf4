"""Passing troubles of a file system: the one rule of what is tried again, for how long, and what is said of it.

A network share that is gone for a minute, a device that answers with EIO, a disk that is full until someone makes room:
what failed is tried again with growing pauses. It is said once when that begins and once when it is over. What does not
pass raises :class:`LastingTrouble`.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The errors of a disk without room, or of a user's quota."""

PASSING = FULL | frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "EAGAIN", "ESTALE", "EREMOTEIO", "ENOTCONN", "ECONNABORTED", "ECONNRESET", "ESHUTDOWN", "ETIMEDOUT"),
        *("EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENETRESET", "ENONET", "ENOLINK", "ECOMM"),
    )
    if hasattr(errno, name)
)
"""The errors that may pass. A read-only file system does not become writable by itself, and is not among them."""

SECONDS = "CLIPES_RETRY_SECONDS"
"""The environment variable that says how long a trouble is waited for; 0: nothing is tried again."""


class LastingTrouble(OSError):
    """A trouble of a file system that did not pass in time; number, text and file are those of its last error."""


@dataclass(frozen=True)
class Patience:
    """How long a trouble is waited for.

    Attributes:
        total: seconds in all.
        alone: seconds in all where only one file is in trouble, while its folder answers.
        first, factor, longest: the pauses in seconds: the first, how much longer each is than the one before, the most.
    """

    total: float = 90.0
    alone: float = 3.0
    first: float = 0.1
    factor: float = 2.0
    longest: float = 10.0

    def pauses(self) -> Iterator[float]:
        """The pauses between the tries, without an end."""
        pause = self.first
        while True:
            yield pause
            pause = min(pause * self.factor, self.longest)

    @classmethod
    def of_environment(cls) -> Patience:
        """The default, with the ``total`` of $CLIPES_RETRY_SECONDS. ValueError for what is no number of seconds."""
        text = os.environ.get(SECONDS) or str(cls.total)
        try:
            total = float(text)
        except ValueError:
            total = -1.0
        if not 0 <= total < float("inf"):
            raise ValueError(f"{SECONDS} is {text!r}; give a number of seconds, such as 90, or 0 for no second try")
        return cls(total, min(cls.alone, total))


def warn(text: str) -> None:
    """Warn each time: the registry of warnings, which would drop a repeated text, is left out."""
    warnings.warn_explicit(text, UserWarning, __file__, 1)


class Retry:
    """Tries again what a passing trouble has stopped. A process has one, :data:`of_process`; any thread may use it.

    ``sleep`` and ``clock`` are those of :mod:`time`, ``say`` receives what is said.
    """

    def __init__(
        self,
        patience: Callable[[], Patience] = Patience.of_environment,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], object] = warn,
    ):
        self.say = say
        self._patience, self._sleep, self._clock = patience, sleep, clock
        self._lock = threading.Lock()
        self._stops: list[Callable[[], bool]] = []
        self._waiting = 0
        self._given_up: float | None = None

    @contextmanager
    def until(self, stop: Callable[[], bool]) -> Iterator[None]:
        """End the waits that begin in the block, in all threads, at once when ``stop`` says so, also after it."""
        self._stops.append(stop)
        try:
            yield
        finally:
            self._stops.remove(stop)

    def __call__(self, action: Callable[[], Result], file: str | os.PathLike[str] | None = None) -> Result:
        """What ``action`` returns, which can be called again after an error.

        ``file`` is the one that the action reads. As long as its folder answers, only the file is in trouble: its
        error is raised after a short wait. Any other trouble that lasts raises :class:`LastingTrouble`; where one
        has just been waited for in vain, at once. Errors that do not pass are raised as they are.
        """
        try:
            return action()
        except Exception as error:
            if passing_cause(error) is None:
                raise
            failed = error
        return self._again(action, failed, None if file is None else os.path.dirname(file) or os.curdir)

    def _again(self, action: Callable[[], Result], failed: Exception, folder: str | None) -> Result:
        patience, began, announced, stops = self._patience(), self._clock(), False, tuple(self._stops)
        try:
            for pause in patience.pauses():
                alone = folder is not None and answers(folder)
                left = (patience.alone if alone else patience.total) - (self._clock() - began)
                if _any(stops) or self._is_given_up(patience.total):
                    break
                if left <= 0:
                    self._given_up = self._given_up if alone or not patience.total else self._clock()
                    break
                if not (alone or announced):
                    announced = self._begin(failed, patience.total)
                self._pause(min(pause, left), stops)
                try:
                    result = action()
                except Exception as error:
                    if passing_cause(error) is None:
                        raise
                    failed = error
                else:
                    self._announce_end(announced, began)
                    return result
        finally:
            if announced:
                with self._lock:
                    self._waiting -= 1
        if alone:
            raise failed
        raise _lasting(failed) from failed

    def _begin(self, error: Exception, total: float) -> bool:
        with self._lock:
            self._waiting += 1
            first = self._waiting == 1
        if first:
            self.say(f"{passing_cause(error)}; it is tried again for up to {total:g} s")
        return True

    def _announce_end(self, announced: bool, began: float) -> None:
        if announced and self._waiting == 1:
            self.say(f"the trouble with files is over after {self._clock() - began:.1f} s")

    def _pause(self, seconds: float, stops: Iterable[Callable[[], bool]]) -> None:
        """Sleep, in pieces so short that a stop seems to be at once."""
        end = self._clock() + seconds
        while (left := end - self._clock()) > 0 and not _any(stops):
            self._sleep(min(left, 0.2))

    def _is_given_up(self, total: float) -> bool:
        """Whether another trouble has lasted just now: each thread's next file would be waited for in vain, too."""
        return self._given_up is not None and self._clock() - self._given_up < total


of_process = Retry()
"""The one of this process."""


def retried(action: Callable[[], Result], file: str | os.PathLike[str] | None = None) -> Result:
    """What ``action`` returns, tried again while a passing trouble stops it: :class:`Retry` has the rule."""
    return of_process(action, file)


def read_retried(
    action: Callable[[], Result], file: str | os.PathLike[str], folders: Collection[str | os.PathLike[str]]
) -> Result:
    """What ``action`` returns, which reads ``file`` and can be called again after an error; tried again as by
    :func:`retried`, and also while one of the ``folders`` that had the file is gone: see :func:`check_folders`.
    """

    def read() -> Result:
        try:
            return action()
        except (ValueError, OSError) as error:
            if passing_cause(error) is None:
                check_folders(file, folders)
            raise

    return retried(read, file)


def passing_cause(error: BaseException | None) -> OSError | None:
    """The error of the file system, which may pass, that is ``error`` or caused it; None where there is none."""
    while error is not None and not isinstance(error, LastingTrouble):
        if isinstance(error, OSError) and error.errno in PASSING:
            return error
        error = error.__cause__
    return None


def answers(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder can be listed and is not empty, as that is to which a share is mounted without it."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except PermissionError:
        return True
    except OSError:
        return False


def check_there(folder: Path) -> None:
    """Raise OSError, one that may pass, if a folder that was there is not: a share that is gone must not be replaced
    by a folder under its name.
    """
    if not folder.is_dir():
        raise OSError(errno.ESTALE, "the folder is not there any more", str(folder))


def check_answers(folder: Path) -> None:
    """Raise OSError, one that may pass, if a folder that held files does not answer; see :func:`answers`."""
    if not answers(folder):
        raise OSError(errno.ESTALE, "the folder is not there any more, or empty", str(folder))


def check_folders(file: str | os.PathLike[str], folders: Collection[str | os.PathLike[str]]) -> None:
    """Raise OSError, one that may pass, if one of the ``folders``, absolute, in which the file was does not answer: a
    share that is not mounted.
    """
    for folder in folders:
        if Path(os.path.abspath(file)).is_relative_to(folder):
            check_answers(Path(folder))


def _any(stops: Iterable[Callable[[], bool]]) -> bool:
    return any(stop() for stop in stops)


def _lasting(failed: Exception) -> LastingTrouble:
    cause = passing_cause(failed) or OSError(errno.EIO, str(failed))
    names = [cause.filename] if cause.filename2 is None else [cause.filename, None, cause.filename2]
    return LastingTrouble(cause.errno, cause.strerror, *(names if cause.filename is not None else []))
