"""`clipes` commands in processes that are there at once: forked from one that has imported and warmed up everything.

Importing torch takes seconds, and a run that is to be killed fifty times would do little else. As a program this is
that process: it reads orders, a line of JSON each, and answers with a process number or an exit code.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

PATIENCE = 120
"""Seconds after which a process hangs."""


class Server:
    """The process from which all are forked: of one thread, so that nothing is lost in a fork."""

    def __init__(self) -> None:
        single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        path = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **single, "PYTHONPATH": path},
        )
        self.answer(PATIENCE)

    def ask(self, **order: object) -> None:
        """Send an order."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self, seconds: float) -> int | None:
        """The answer to it; None if there is none in time."""
        assert self.process.stdout
        ready = select.select([self.process.stdout], [], [], seconds)[0]
        return int(self.process.stdout.readline()) if ready else None

    def close(self) -> None:
        """End it; it has no children then."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def served() -> Iterator[Server]:
    """A server, for a fixture."""
    server = Server()
    try:
        yield server
    finally:
        server.close()


class Command:
    """A running command, first of a session of its own; dead at the end of a ``with``.

    ``limit`` is the size in bytes beyond which no file of it grows; from the ``slow``-th image on each takes minutes;
    from the ``hang``-th on no file is ever written, as on a share that is gone;
    with ``die="row 2"`` it kills itself at the third call of what ``WINDOWS`` says of "row".
    """

    def __init__(self, server: Server, arguments: Sequence[object], log: Path, **prepare: int | str):
        self.server, self.log, self._code = server, log, None
        log.touch()  # it may be read before the command has begun
        texts = [str(argument) for argument in arguments]
        server.ask(arguments=texts, log=str(log.absolute()), folder=os.getcwd(), **prepare)
        pid = server.answer(PATIENCE)
        assert pid
        self.pid = pid

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *raised: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End it and its children."""
        if self._code is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.code()

    def code(self, seconds: float = PATIENCE) -> int | None:
        """Its exit code, minus the signal's number if one killed it; None if it still runs after ``seconds``."""
        if self._code is None:
            self.server.ask(wait=self.pid, seconds=seconds)
            found = self.server.answer(seconds + PATIENCE)
            self._code = None if found == RUNNING else found
        return self._code

    def until(self, happened: Callable[[], object]) -> None:
        """Wait for something that it does."""
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < deadline, self.said
            assert self.code(0.01) is None or happened(), self.said

    @property
    def said(self) -> str:
        """What it has printed so far, to both outputs."""
        return self.log.read_text(errors="replace")


RUNNING = 999


def _serve() -> None:
    from clipes.generator import load

    load()(np.zeros((32, 32, 3), np.uint8), ["cat", "tree"])
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page that holds an object of this process
    print(0, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(_wait(order) if "wait" in order else _fork(order), flush=True)


def _wait(order: dict[str, Any]) -> int:
    deadline = time.monotonic() + order["seconds"]
    while True:
        pid, status = os.waitpid(order["wait"], os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return RUNNING
        time.sleep(0.003)


def _fork(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        sys.exit(_run(order))  # all that happens at the end of a process happens
    while os.getpgid(pid) != pid and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        time.sleep(0.001)
    return pid


def _run(order: dict[str, Any]) -> int:
    from clipes.cli import entry

    os.setsid()
    os.chdir(order["folder"])
    log = os.open(order["log"], os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND, 0o666)
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
        os.dup2(file, number)
    if "limit" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], order["limit"]))
    if "slow" in order:
        _slow(order["slow"])
    if "hang" in order:
        _hang(order["hang"])
    if "die" in order:
        window, number = order["die"].split()
        _die(window, int(number))
    try:
        entry(order["arguments"])
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    finally:
        sys.stdout.flush()


def _slow(after: int) -> None:
    from clipes.generator import MaskGenerator

    generate, images = MaskGenerator.generate, count()

    def slow(*arguments: Any) -> Any:
        if next(images) >= after:
            print("slow", flush=True)
            for _ in range(6000):
                time.sleep(0.05)
        return generate(*arguments)

    MaskGenerator.generate = slow  # type: ignore[method-assign]


def _hang(after: int) -> None:
    from clipes.store import writer

    real, calls = writer.write_bytes, count()

    def hang(*arguments: Any) -> None:
        if next(calls) >= after:
            print("hangs", flush=True)
            threading.Event().wait()
        real(*arguments)

    writer.write_bytes = hang


WINDOWS = {
    "start": ("clipes.store.store", "create_or_verify_manifest"),
    "record": ("clipes.store.record", "Recorder.__init__"),
    "file": ("clipes.store.writer", "write_bytes"),
    "name": ("os", "replace"),
    "row": ("clipes.store.record", "Recorder.add"),
    "member": ("clipes.store.writer", "_write_all"),
}
"""The functions before whose calls a process may kill itself; before a file has its name, before a row, and so on."""


def _die(window: str, number: int) -> None:
    module, path = WINDOWS[window]
    *owners, name = path.split(".")
    owner = reduce(getattr, owners, import_module(module))
    real, calls = getattr(owner, name), count()

    def deadly(*arguments: Any, **named: Any) -> Any:
        if next(calls) == number:
            if window == "member":
                file, data = arguments
                file.write(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)

    setattr(owner, name, deadly)


if __name__ == "__main__":
    _serve()
