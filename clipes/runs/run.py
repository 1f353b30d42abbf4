"""A run over a data set: its folder, what earlier starts have finished, and the masks that are left to make."""

from __future__ import annotations

import shlex
import socket
import sys
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime, timezone
from typing import Any

import torch

from clipes._version import __version__, versions
from clipes.datasets import Sample
from clipes.generator import MaskGenerator
from clipes.ids import CLASSES, class_table
from clipes.io.atomic import HOST, is_alive, sweep, write_json
from clipes.store.history import History
from clipes.store.manifest import claim, read_manifest
from clipes.store.output import SHARD, FolderSink, Output

from .generation import MasksFromImages
from .local_engine import MaskWriter
from .outcome import Outcome
from .preflight import check_ours
from .shards import Shard

WHOLE = Shard(0, 1)


class Run:
    """A folder of masks, taken for these settings. Use it in a ``with``.

    Args:
        settings: what the masks depend on: :attr:`clipes.MaskGenerator.settings`.
        class_names: K names; ``classes.json`` holds them.
        output: what is saved, and where.
        about: what else ``run.json`` says: the model's name, the source.

    Attributes:
        header: what each record of this start says first.
        finished: images that :meth:`remaining` has left out so far, because earlier starts have finished them.

    Raises ValueError for a folder of other settings, with the differences, and for broken records; OSError where it
    cannot be written to.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        class_names: Iterable[str],
        output: Output,
        about: Mapping[str, Any] | None = None,
    ):
        self.output, self.finished = output, 0
        folder = output.folder
        folder.mkdir(parents=True, exist_ok=True)
        check_ours(folder)
        all_settings = {"clipes": __version__, **settings, "output": output.settings()}
        digest = claim(folder, all_settings, {**_start(), **(about or {})})
        if mixed := read_manifest(folder).get("mixed"):
            raise ValueError(f"{folder}: {mixed}, or begin anew with --overwrite")
        sweep(folder)
        write_json(folder / CLASSES, class_table(class_names))
        self.history = History(folder, digest)
        self.header = {"settings": digest, **_start()}
        self._sink = FolderSink(output) if output.format == "png" else None
        self._remove_unrecorded()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *raised: object) -> None:
        self.history.close()

    def remaining(
        self, samples: Iterable[Sample], shard: Shard = WHOLE, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Sample]:
        """The samples of ``shard`` that are not finished, one in memory at a time; none more once ``stop`` says so."""
        for sample in samples:
            if stop():
                return
            if shard.holds(sample.id):
                if self._finished(sample):
                    self.finished += 1
                else:
                    yield sample

    def _finished(self, sample: Sample) -> bool:
        return self.history.finished(sample.id, sample.labels) and (not self._sink or self._sink.whole(sample.id))

    def _remove_unrecorded(self) -> None:
        """Remove the .tar shards of dead processes of this machine whose rows were never written: their images are
        made again, and a training would see them twice.
        """
        for path in self.output.folder.glob("masks-*.tar") if not self.history.others else ():
            match = SHARD.fullmatch(path.name)
            dead = match and match["host"] == HOST and not is_alive(int(match["pid"]))
            if dead and path.name not in self.history.shards:
                path.unlink()


def write_masks(
    generator: MaskGenerator,
    samples: Iterable[Sample],
    output: Output,
    *,
    shard: Shard = WHOLE,
    batch_size: int | None = None,
    readers: int = 0,
    skip: Collection[str] = (),
    stop: Callable[[], bool] = lambda: False,
    about: Mapping[str, Any] | None = None,
) -> Generator[Outcome, None, None]:
    """Write the masks of ``samples`` that are not finished yet, lazily; yields how each ends.

    Arguments as in :class:`Run` and :class:`clipes.runs.local_engine.MaskWriter`; errors, too.

    >>> import clipes
    >>> from clipes.datasets import find_samples
    >>> from clipes.store.output import SHARD, FolderSink, Output
    >>> from clipes.runs.run import write_masks
    >>> samples = find_samples("photos", "labels.csv")  # doctest: +SKIP
    >>> for outcome in write_masks(clipes.load(), samples, Output("masks")):  # doctest: +SKIP
    ...     print(outcome.sample.id, outcome.status)
    """
    with ExitStack() as stack:
        run = stack.enter_context(Run(generator.settings, generator.class_names, output, about))
        header = {**run.header, "shard": str(shard)}
        source = MasksFromImages(generator)
        writer = MaskWriter(source, output, header, batch_size=batch_size, readers=readers, skip=skip, stop=stop)
        stack.enter_context(writer)
        yield from writer.write(run.remaining(samples, shard, stop))


def _start() -> dict[str, Any]:
    """This start: when, where, with what."""
    return {
        "command": shlex.join(sys.argv),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": socket.gethostname(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
