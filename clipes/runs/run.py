"""A run over a data set: its folder, what earlier starts have finished, and the masks that are left to make."""

from __future__ import annotations

import shlex
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

import torch

from clipes._version import __version__, versions
from clipes.datasets import Sample
from clipes.store.output import Output
from clipes.store.store import Store

from .shards import WHOLE, Shard


class Run:
    """One start of a run: its folder, and the images that still need work. Made by :meth:`open`. Use it in a ``with``.

    Attributes:
        store: the run's folder.
        output: what is saved.
        header: what each record of this start says first.
        finished: images that :meth:`remaining` has left out so far, because earlier starts have finished them.
    """

    def __init__(self, store: Store, output: Output):
        self.store, self.output, self.finished = store, output, 0
        self.header = {"settings": store.digest, **_start()}

    @classmethod
    def open(
        cls,
        settings: Mapping[str, Any],
        class_names: Iterable[str],
        output: Output,
        about: Mapping[str, Any] | None = None,
    ) -> Run:
        """Make or open the folder of ``output``, and remove what killed processes left there.

        Args:
            settings: what the masks depend on: :attr:`clipes.MaskGenerator.settings`.
            class_names: K names; ``classes.json`` holds them.
            output: what is saved, and where.
            about: what else ``run.json`` says: the model's name, the source.

        Raises ValueError for a folder of other settings, with the differences, and for broken records; OSError where
        it cannot be written to.
        """
        settings = {"clipes": __version__, **settings, "output": output.settings()}
        store = Store.create(output.folder, settings, class_names, {**_start(), **(about or {})})
        try:
            store.remove_stale()
        except BaseException:
            store.close()
            raise
        return cls(store, output)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *raised: object) -> None:
        self.store.close()

    def remaining(
        self, samples: Iterable[Sample], shard: Shard = WHOLE, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Sample]:
        """The samples of ``shard`` that are not finished, one in memory at a time; none more once ``stop`` says so."""
        for sample in samples:
            if stop():
                return
            if shard.holds(sample.id):
                if self.store.is_done(sample.id, sample.labels, self.output.saved):
                    self.finished += 1
                else:
                    yield sample


def _start() -> dict[str, Any]:
    """This start: when, where, with what."""
    return {
        "command": shlex.join(sys.argv),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": socket.gethostname(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
