"""Output whose reader has gone: a broken pipe or a full disk behind it neither ends nor changes the run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast


class LossyStream:
    """A text stream whose errors are dropped: what is said is lost then, and so is all that follows.

    Everything but writing is the stream's own.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write ``text``, if it can be written."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # ValueError: the file was closed
            self._lose()
            return len(text)

    def flush(self) -> None:
        """Flush what was written, if that can be done."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._lose()

    def _lose(self) -> None:
        """Lead the descriptor to nowhere, so that the buffered rest and Python's flush at the end do not fail again."""
        with suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lossy_output(output_is_result: bool) -> Iterator[None]:
    """Drop the errors of stderr in the block, and those of stdout unless the output is what the command is for."""
    before = sys.stdout, sys.stderr
    if sys.stderr is not None:  # None where the caller closed it
        sys.stderr = cast(TextIO, LossyStream(sys.stderr))
    if sys.stdout is not None and not output_is_result:
        sys.stdout = cast(TextIO, LossyStream(sys.stdout))
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, LossyStream):
                stream.flush()
        sys.stdout, sys.stderr = before
