"""A file that the first of several processes writes, and the others find."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from .atomic import atomic
from .retry import retried

_NO_LINKS = (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)


def write_new(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    """Let ``write`` write a file, whole or not at all, unless it is there or another process has written it meanwhile.

    Where the file system has no hard links, the last of processes that write at the same moment wins.
    """
    path = Path(path)
    if os.path.lexists(path):
        return
    with suppress(FileExistsError), atomic(path) as temporary:
        retried(partial(write, temporary))
        try:
            retried(partial(os.link, temporary, path))  # unlike a rename, it never replaces what another process wrote
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
