"""Passing troubles: what is tried again, for how long, what is said, and what ends the wait."""

from __future__ import annotations

import errno
import os
import pickle
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from clipes.io import retry
from clipes.io.images import ImageError
from clipes.io.retry import PASSING, LastingTrouble, Patience, Retry, answers, check_answers, check_there


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now, self.sleeps = 1000.0, 0
        self.at_sleep: Callable[[], object] = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 0.2
        self.now, self.sleeps = self.now + seconds, self.sleeps + 1
        self.at_sleep()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def trying(clock: Clock, said: list[str]) -> Retry:
    return Retry(Patience, clock.sleep, clock, said.append)


class Faulty:
    """Raises an error the first times it is called."""

    def __init__(self, times: float, error: Exception) -> None:
        self.times, self.error, self.calls = times, error, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "done"


def _error(number: int, name: str | None = "out/a.png") -> OSError:
    return OSError(number, os.strerror(number), name)


@pytest.mark.parametrize("name", ["EIO", "EAGAIN", "ESTALE", "ENOSPC", "EDQUOT", "ENOTCONN", "EHOSTDOWN", "ETIMEDOUT"])
def test_what_passes_is_done_and_told_twice(trying: Retry, said: list[str], name: str) -> None:
    number = getattr(errno, name)
    action = Faulty(3, _error(number))
    assert trying(action) == "done" and action.calls == 4
    begun, over = said
    assert begun == f"[Errno {number}] {os.strerror(number)}: 'out/a.png'; it is tried again for up to 90 s"
    assert over == "the trouble with files is over after 0.7 s"


def test_the_pauses_grow_up_to_a_limit() -> None:
    pauses = Patience(first=1, factor=3, longest=10).pauses()
    assert [next(pauses) for _ in range(5)] == [1, 3, 9, 10, 10]


def test_what_does_not_pass_ends_after_its_patience(trying: Retry, clock: Clock, said: list[str]) -> None:
    action = Faulty(1e9, OSError(errno.EIO, "no answer", "a.tmp", None, "a.png"))
    with pytest.raises(LastingTrouble, match=r"no answer: 'a.tmp' -> 'a.png'") as caught:
        trying(action)
    assert caught.value.errno == errno.EIO and caught.value.filename2 == "a.png"
    assert clock.now == pytest.approx(1090) and action.calls < 20 and len(said) == 1
    back = pickle.loads(pickle.dumps(caught.value))
    assert type(back) is LastingTrouble and str(back) == str(caught.value)


def test_the_next_trouble_is_not_waited_for_in_vain_again(trying: Retry, clock: Clock) -> None:
    """Each of many threads and files would wait for its own minute; after a while, there is patience again."""
    with pytest.raises(LastingTrouble):
        trying(Faulty(1e9, _error(errno.EIO)))
    before = clock.now
    action = Faulty(1, _error(errno.EIO))
    with pytest.raises(LastingTrouble):
        trying(action)
    assert clock.now == before and action.calls == 1
    clock.now += 90
    assert trying(Faulty(1, _error(errno.EIO))) == "done"


@pytest.mark.parametrize("error", [_error(errno.EROFS), _error(errno.EACCES), _error(errno.ENOENT), ValueError("no")])
def test_other_errors_are_raised_at_once(trying: Retry, clock: Clock, said: list[str], error: Exception) -> None:
    action = Faulty(1, error)
    with pytest.raises(type(error)) as caught:
        trying(action)
    assert caught.value is error and (action.calls, clock.sleeps, said) == (1, 0, [])


def test_another_error_ends_the_wait(trying: Retry) -> None:
    errors: list[Exception] = [_error(errno.EIO), ValueError("half a file")]

    def action() -> None:
        raise errors.pop(0)

    with pytest.raises(ValueError, match="half a file"):
        trying(action)


def test_one_file_is_waited_for_less_than_a_share(trying: Retry, clock: Clock, said: list[str], tmp_path: Path) -> None:
    """Its folder answers: the error is its own, and nothing is said."""
    (tmp_path / "b.png").touch()
    error = ImageError("a.png: cannot be read")
    error.__cause__ = _error(errno.EIO)
    with pytest.raises(ImageError) as caught:
        trying(Faulty(1e9, error), tmp_path / "a.png")
    assert caught.value is error and clock.now == pytest.approx(1003) and not said
    (tmp_path / "b.png").unlink()
    with pytest.raises(LastingTrouble):
        trying(Faulty(1e9, error), tmp_path / "a.png")
    assert clock.now == pytest.approx(1093)


def test_retried_within_retried_waits_once(trying: Retry, clock: Clock) -> None:
    with pytest.raises(LastingTrouble):
        trying(lambda: trying(Faulty(1e9, _error(errno.EIO))))
    assert clock.now == pytest.approx(1090)


def test_a_stop_ends_the_wait_at_once(trying: Retry, clock: Clock) -> None:
    stopped: list[bool] = []
    clock.at_sleep = lambda: stopped.append(True) if clock.now > 1030 else None
    with pytest.raises(LastingTrouble), trying.until(lambda: bool(stopped)):
        trying(Faulty(1e9, _error(errno.EIO)))
    assert clock.now < 1030.3
    with trying.until(lambda: clock.now > 2000):
        clock.at_sleep = lambda: setattr(clock, "now", 2001.0)
        with pytest.raises(LastingTrouble):
            trying(Faulty(1e9, _error(errno.EIO)))
    clock.at_sleep = lambda: None
    assert trying(Faulty(1, _error(errno.EIO))) == "done", "the stop is over with its block"


def test_several_threads_say_it_once(said: list[str]) -> None:
    """All wait until the last has begun to."""
    barrier, now = threading.Barrier(4), [0.0]

    def sleep(seconds: float) -> None:
        barrier.wait(60)
        now[0] += 0.01

    trying = Retry(lambda: Patience(first=0.001), sleep, lambda: now[0], said.append)
    threads = [threading.Thread(target=trying, args=(Faulty(1, _error(errno.EIO)),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len([text for text in said if "tried again" in text]) == 1
    assert len([text for text in said if "over" in text]) == 1


def test_each_trouble_is_warned_of(clock: Clock) -> None:
    """Also a second one with the same words, which Python's registry of warnings would drop."""
    trying = Retry(Patience, clock.sleep, clock)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            trying(Faulty(1, _error(errno.EIO)))
    assert ["tried again" in str(one.message) for one in caught] == [True, False, True, False]


def test_the_environment_says_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(retry.SECONDS, raising=False)
    assert Patience.of_environment() == Patience()
    monkeypatch.setenv(retry.SECONDS, "600")
    assert (Patience.of_environment().total, Patience.of_environment().alone) == (600, 3)
    monkeypatch.setenv(retry.SECONDS, "0")
    assert Patience.of_environment().alone == 0
    for wrong in ("soon", "-1", "inf", "nan"):
        monkeypatch.setenv(retry.SECONDS, wrong)
        with pytest.raises(ValueError, match=f"CLIPES_RETRY_SECONDS is '{wrong}'; give a number of seconds"):
            Patience.of_environment()


def test_no_patience_is_one_try(clock: Clock, said: list[str]) -> None:
    trying = Retry(lambda: Patience(0, 0), clock.sleep, clock, said.append)
    action = Faulty(1, _error(errno.ENOSPC))
    with pytest.raises(LastingTrouble):
        trying(action)
    assert (action.calls, clock.sleeps, said) == (1, 0, [])
    trying._patience = Patience
    assert trying(Faulty(1, _error(errno.EIO))) == "done", "nothing was waited for in vain"


def test_whether_a_folder_answers(tmp_path: Path) -> None:
    """An empty one is that to which a share is mounted."""
    assert not answers(tmp_path) and not answers(tmp_path / "no")
    for check in (check_answers, check_there):
        with pytest.raises(OSError, match="the folder is not there any more") as caught:
            check(tmp_path / "no")
        assert caught.value.errno in PASSING
    check_there(tmp_path)
    (tmp_path / "a").touch()
    assert answers(tmp_path)
    check_answers(tmp_path)
