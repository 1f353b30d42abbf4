"""The last stages of a run: which images get no mask, files written, and a row of the record for each image."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

from clipes.datasets import Sample
from clipes.device.process_memory import memory_limit
from clipes.result import Result
from clipes.store.in_hand import InHand
from clipes.store.output import Output
from clipes.store.record import Recorder
from clipes.store.row import Row, Status
from clipes.store.writer import Writer, new_writer

from .decoding import Loaded, SavedSample
from .outcome import Outcome

_ERRORS_OF_NAMES = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR)


def refuse(loaded: Loaded, class_names: Collection[str], skip: Collection[str], writer: Writer) -> Row | None:
    """The row of an image of which no mask can be made; None where one can.

    ``skip`` names what is skipped and does not fail: ``"unknown"`` (a label that is no class), ``"missing"`` (no file).
    """
    sample = loaded.sample
    if "unknown" in skip:
        unknown = [name for name in sample.labels if name not in class_names]
        if unknown:
            return row_without_mask(sample, "skipped", f"unknown class {unknown[0]!r}")
    try:
        writer.check(sample)
    except (ValueError, OSError) as error:  # OSError: a name that is too long, for example
        return row_without_mask(sample, "failed", str(error))
    if not loaded.reason:
        return None
    status: Status = "skipped" if loaded.missing and "missing" in skip else "failed"
    return row_without_mask(sample, status, loaded.reason)


def row_without_mask(sample: Sample, status: Status, reason: str) -> Row:
    """The row of an image that ended without a mask."""
    return Row(sample.id, status, reason, sample.labels)


def with_checksums(row: Row, files: Mapping[str, bytes]) -> Row:
    """The row of an image with what its files are recognised by. What it says of files that are not given stays."""
    if not files:
        return row
    sums = {kind: (len(data), hashlib.sha256(data).hexdigest()) for kind, data in files.items()}
    _, checksum = sums.pop("mask", (0, None))
    return replace(row, checksum=checksum, saved={**(row.saved or {}), **sums} or None)


class Publisher:
    """Puts files into the output folder, and rows into a record that it opens. Call :meth:`close` at the end.

    Args:
        output: what is saved, and where.
        header: what the record says of this process, see :class:`clipes.store.record.Recorder`.
        threads: that encode and write files; results wait for them, each with maps at the image's size.
        keep_masks: whether an image that now has no mask keeps that of an earlier run.
    """

    def __init__(self, output: Output, header: Mapping[str, Any], threads: int, keep_masks: bool = False):
        self._output, self._keep_masks = output, keep_masks
        self._threads = ThreadPoolExecutor(threads, "clipes-write")
        self._recorder = Recorder(output.folder, header)
        self.writer = new_writer(output, f"masks-{self._recorder.path.stem}")
        self.deadly: list[Sample] = []
        self.in_hand = InHand(self._recorder.path, header["settings"], memory_limit())

    def without_deadly(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The samples without those at which earlier processes died, which are added to :attr:`deadly`.

        A row says that these have failed, before they are tried again.
        """
        for sample in samples:
            if reason := self.in_hand.suspicion(sample.id):
                self.deadly.append(sample)
                self._recorder.add(row_without_mask(sample, "failed", reason))
            else:
                yield sample

    def stage(self, image_id: str, files: Result | dict[str, bytes]) -> Future[dict[str, bytes]]:
        """Let a thread do what can be done out of order with an image's files, or with the files of its result."""
        return self._threads.submit(self._stage, image_id, files)

    def _stage(self, image_id: str, files: Result | dict[str, bytes]) -> dict[str, bytes]:
        contents = files if isinstance(files, dict) else self._output.encode(files)
        self.writer.write_files(image_id, contents)
        return contents

    def publish(self, sample: Sample, row: Row, files: Future[dict[str, bytes]] | None) -> Outcome:
        """Wait for an image's staged files, if it has any, and write down how it ended. For one thread.

        Raises OSError where the folder or the record cannot be written to; an impossible file name, or too
        little memory, fails the image alone.
        """
        if files is not None:
            try:
                contents = files.result()
            except (OSError, MemoryError) as error:
                if not isinstance(error, MemoryError) and not self._is_of_the_name(error):
                    raise
                row = Row(row.id, "failed", str(error) or "out of memory", row.labels)
            else:
                earlier = sample.row if self._keep_masks and isinstance(sample, SavedSample) else None
                row = with_checksums(replace(row, saved=earlier.saved if earlier else None), contents)
                self._recorder.add(*self.writer.append(row, contents))
        if row.status != "ok":
            if not self._keep_masks:
                self._discard(sample)
            self._recorder.add(row)
        return Outcome(sample, row.status, row.reason, row.suspect, row.nothing_found)

    def record(self, row: Row) -> None:
        """Append a row as it is, without files."""
        self._recorder.add(row)

    def flush(self) -> None:
        """Close a .tar that is not full, and bring the record to the disk."""
        self._recorder.add(*self.writer.flush())
        self._recorder.sync()

    def close(self) -> None:
        """Bring everything to the disk and end the record."""
        self._threads.shutdown(cancel_futures=True)
        try:
            self.flush()
        finally:
            self._recorder.close()
            self.in_hand.close()

    def _discard(self, sample: Sample) -> None:
        with suppress(ValueError, OSError):  # nothing to delete, or the file is not ours
            self.writer.check(sample)
            self.writer.discard(sample.id)

    def _is_of_the_name(self, error: OSError) -> bool:
        of_name = isinstance(error, FileExistsError) or error.errno in _ERRORS_OF_NAMES
        return of_name and self._output.folder.is_dir()
