"""Files that are whole or absent: masks and JSON, written beside their place and moved into it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import socket
import stat
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from clipes.metrics import ignore_index


def _place() -> str:
    """What tells processes of one number apart: the machine, and on Linux the container on it."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return socket.gethostname() + space


HOST = hashlib.sha256(_place().encode("utf-8", "surrogateescape")).hexdigest()[:8]
"""In the names of files that belong to a process: where it runs."""

_TEMPORARY = re.compile(r"\.clipes-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{16}\.tmp(\..*)?")
_STALE_SECONDS = 24 * 3600


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes `path` when the block ends well, else it vanishes.

    The temporary file lies in the same folder (made if need be), is hidden, and has the suffix of `path`.
    It is synced to disk before it takes the final name, so `path` is never half a file, and two writers
    never mix. Raises FileNotFoundError when the block wrote nothing, FileExistsError when `path` is there and
    no ordinary file.
    """
    path = Path(path)
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise FileExistsError(f"{path} is a folder, a link or a device, which is not written over; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".clipes-{HOST}-{os.getpid()}-{secrets.token_hex(8)}.tmp{path.suffix}"
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def sweep(folder: str | os.PathLike[str]) -> int:
    """Remove the temporary files that dead runs left under `folder`; return how many.

    A file goes when its process on this machine has ended, or when it is a day old; files of a run that
    is still alive, here or on another machine, stay. Links to folders are not followed.
    """
    removed = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            match = _TEMPORARY.fullmatch(name)
            file = Path(parent, name)
            with suppress(FileNotFoundError, PermissionError):  # another run may be sweeping; another user's stay
                if match and _is_left_over(file, match["host"], int(match["process"])):
                    file.unlink()
                    removed += 1
    return removed


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`, atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def write_mask(path: str | os.PathLike[str], mask: NDArray[Any], class_count: int) -> None:
    """Write `mask` (H, W) to the PNG `path`, atomically, as :func:`mask_png` makes it.

    Raises ValueError for a name that does not end in .png, and as that does.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"a mask is a PNG file, not {path.name!r}; end its name in .png")
    write_bytes(path, mask_png(mask, class_count))


def mask_png(mask: NDArray[Any], class_count: int, software: str = "") -> bytes:
    """A PNG file of `mask` (H, W); the pixel values are the ids as they are. `software` is what its text says made it.

    Up to 254 classes: `mask` is uint8, the file mode P with :func:`voc_palette`. More: uint16, 16-bit grey.
    Raises ValueError for a shape that is not (H, W), the wrong dtype for `class_count`, or a value that is neither
    0..class_count nor the ignore value.
    """
    image, info = _mask_image(mask, class_count), PngInfo()
    if software:
        info.add_text("Software", software)
    return _png(image, pnginfo=info, compress_type=zlib.Z_RLE)  # half the time: benchmarks/RESULTS.md


def confidence_png(confidence: NDArray[np.float32]) -> bytes:
    """A grey PNG file of confidences (H, W) in [0, 1], 255 for 1."""
    return _png(Image.fromarray((255 * confidence).round().astype(np.uint8)))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` to `path` as indented JSON, atomically; text outside ASCII is escaped.

    Raises ValueError for nan and infinities, which JSON lacks (use None), TypeError for what JSON cannot
    hold.
    """
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="ascii", newline="\n")


def voc_palette() -> NDArray[np.uint8]:
    """Return the colours of PASCAL VOC, (256, 3) uint8 RGB: 0 black for background, 255 ivory for ignore.

    >>> voc_palette()[[0, 1, 15, 255]].tolist()
    [[0, 0, 0], [128, 0, 0], [192, 128, 128], [224, 224, 192]]
    """
    index = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for level in range(8):  # three bits of the index at a time give the next lower bit of red, green and blue
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * level + channel)) & 1) << (7 - level)).astype(np.uint8)
    return palette


def _png(image: Image.Image, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, format="PNG", **options)
    return file.getvalue()


def _mask_image(mask: NDArray[Any], class_count: int) -> Image.Image:
    ignore = ignore_index(class_count)
    mask = np.asarray(mask)
    dtype = np.dtype(np.uint8 if ignore == 255 else np.uint16)
    if mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"a mask is (H, W), not {mask.shape}; write one image's mask at a time")
    if mask.dtype.newbyteorder("=") != dtype:
        raise ValueError(f"a mask of {class_count} classes is {dtype}, not {mask.dtype}; convert it")
    wrong = (mask > class_count) & (mask != ignore)
    if wrong.any():
        raise ValueError(
            f"the mask holds {mask[wrong][0]}, but {class_count} classes allow "
            f"0..{class_count} and {ignore} (ignore); map its values or pass the right number of classes"
        )
    image = Image.fromarray(np.ascontiguousarray(mask, dtype=dtype))
    if ignore == 255:
        image.putpalette(voc_palette().tobytes())
    return image


def _is_left_over(file: Path, host: str, process: int) -> bool:
    if time.time() - file.lstat().st_mtime > _STALE_SECONDS:
        return True
    return host == HOST and os.name == "posix" and not is_alive(process)


def is_alive(process: int) -> bool:
    """Whether a process of this machine is there (on POSIX)."""
    try:
        os.kill(process, 0)  # signal 0 only asks whether the process is there
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
