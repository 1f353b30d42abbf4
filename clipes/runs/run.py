"""The start of a run: its folder is claimed, and the images that earlier starts have finished are left out."""

from __future__ import annotations

import shlex
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from itertools import islice
from typing import Any

import torch

from clipes._version import __version__, versions
from clipes.datasets import Sample
from clipes.datasets.sample import RegionPlace
from clipes.io.retry import LastingTrouble
from clipes.regions.files import regions_checksum
from clipes.store.output import Output
from clipes.store.rows import LatestRows
from clipes.store.store import Store

from .shards import WHOLE, Shard

_BLOCK = 5000  # samples that are looked up together


def claim_folder(
    settings: Mapping[str, Any],
    class_names: Iterable[str],
    output: Output,
    about: Mapping[str, Any] | None = None,
) -> Store:
    """Make or open the folder of ``output`` for masks with ``settings``, and remove what killed processes left there.

    ``settings`` are :attr:`clipes.MaskGenerator.settings`; ``about`` is what else ``run.json`` holds. Raises ValueError
    for a folder of other settings, with the differences, and for broken records; OSError where it cannot be written to.
    """
    class_names = list(class_names)
    settings = {"clipes": __version__, **settings, "class_names": class_names, "output": output.settings()}
    store = Store.create(output.folder, settings, class_names, {**_start(), **(about or {})})
    try:
        store.remove_stale()
    except BaseException:
        store.close()
        raise
    return store


def record_header(store: Store) -> dict[str, Any]:
    """What each record of this start says first."""
    return {"settings": store.digest, **_start()}


class Remaining:
    """The samples of ``shard`` that are not finished, one in memory at a time, until ``stop`` says so.

    A run that only finds labels leaves out the samples whose labels are known.

    A sample with a later row among ``others``, the rows of other settings, is not finished: its mask was overwritten.

    Attributes:
        finished: how many samples were left out so far, because earlier starts have finished them.
    """

    def __init__(
        self,
        samples: Iterable[Sample],
        store: Store,
        output: Output,
        shard: Shard = WHOLE,
        stop: Callable[[], bool] = lambda: False,
        others: Sequence[LatestRows] = (),
    ):
        self._samples, self._store, self._kinds = samples, store, output.saved
        self._shard, self._stop, self._others = shard, stop, others
        self._unlabelled_alone = output.format == "none"
        self.finished = 0

    def __iter__(self) -> Iterator[Sample]:
        wanted = (sample for sample in self._samples if self._is_wanted(sample))
        while block := list(islice(wanted, _BLOCK)):
            images = [(sample.id, None if sample.unlabelled else sample.labels) for sample in block]
            done = self._store.are_done(images, self._kinds)
            for sample, is_done in zip(block, done, strict=True):
                if self._stop():
                    return
                if is_done and self._has_its_regions(sample) and not self._is_overwritten(sample):
                    self.finished += 1
                else:
                    yield sample

    def _has_its_regions(self, sample: Sample) -> bool:
        """Whether the mask was made with the regions that the sample has now, if it has any."""
        if sample.regions is None:
            return True
        row = self._store.latest.get(sample.id)
        return row is not None and row.regions == _regions_sum(sample.regions)

    def _is_wanted(self, sample: Sample) -> bool:
        if not self._shard.holds(sample.id):
            return False
        known = self._unlabelled_alone and not sample.unlabelled
        self.finished += known
        return not known

    def _is_overwritten(self, sample: Sample) -> bool:
        if not self._others:
            return False
        own = self._store.latest.order(sample.id)
        others = (other for rows in self._others if (other := rows.order(sample.id)))
        return own is not None and any(other >= own for other in others)


def _regions_sum(place: RegionPlace) -> str | None:
    """The checksum of what regions are read from, as it is now; None where it cannot be read."""
    try:
        return regions_checksum(place)
    except LastingTrouble:
        raise
    except (ValueError, OSError):
        return None


def _start() -> dict[str, Any]:
    """This start: when, where, with what."""
    return {
        "command": shlex.join(sys.argv),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": socket.gethostname(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
