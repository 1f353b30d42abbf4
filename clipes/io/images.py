"""Images: read from files, .tar members and arrays as upright RGB pictures; the patch grid of a size."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""The formats that are read, whatever a file is called. EPS, PDF and the like run interpreters and are refused."""

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif"}
    | {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
)
"""Suffixes, in lower case, that mark a file of a folder as an image."""

MAX_PIXELS = 178_956_970
"""Larger images are refused before they are decoded: Pillow's own error limit, about 179 megapixels."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """An image that cannot be read; the message names the file and the cause."""


@dataclass(frozen=True)
class TarMember:
    """A file inside an uncompressed .tar: `size` bytes from `offset`."""

    tar: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.tar}/{self.name}"

    def read(self) -> bytes:
        """The member's bytes. Raises OSError where the tar cannot be read, ImageError where it ends too early."""
        with open(self.tar, "rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise ImageError(f"{self}: {self.tar.name} ends {self.size - len(data)} bytes too early")
        return data


def open_image(source: str | os.PathLike[str] | TarMember | Image.Image | NDArray[Any]) -> Image.Image:
    """Return `source` as an RGB picture, upright and fully loaded, independent of its file.

    `source` is a file, one inside a .tar, a PIL image (its current frame) or a uint8 array, (H, W, 3) RGB or (H, W)
    grey. The first frame of an animation counts; EXIF orientation is applied, and ignored with a warning where it is
    broken; transparency is laid over white; 16-bit grey is scaled to 8 bits.

    Raises FileNotFoundError for a missing file; ImageError for anything unreadable: not an image,
    truncated, a format outside FORMATS, more than MAX_PIXELS, float or 32-bit pixels; TypeError or
    ValueError for an unsuitable array.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _decode(source, str(getattr(source, "filename", "") or "image"))
    if not isinstance(source, str | os.PathLike | TarMember):
        raise TypeError(f"an image is a path, a PIL image or a numpy array, not {type(source).__name__}")
    file = source if isinstance(source, TarMember) else Path(source)
    with _opened(file) as opened:
        return _decode(opened, str(file))


def _opened(file: Path | TarMember) -> Image.Image:
    _check_file(file)
    data = BytesIO(file.read()) if isinstance(file, TarMember) else file
    with _errors_named(str(file), "opened"):
        try:
            return Image.open(data, formats=FORMATS)
        except UnidentifiedImageError as error:
            raise ImageError(f"not a {', '.join(FORMATS)} image; convert it first") from error


@contextmanager
def _errors_named(name: str, what: str) -> Iterator[None]:
    """Raise any error but MemoryError as an ImageError that says that ``name`` cannot be ``what``."""
    try:
        yield
    except MemoryError:
        raise
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except Exception as error:  # Pillow's parsers raise nearly anything on hostile bytes
        raise ImageError(f"{name}: cannot be {what}: {_cause(error)}") from error


def patch_grid(size: tuple[int, int], patch: int, max_patches: int) -> tuple[int, int]:
    """Return the patch grid (h, w) of an image of `size` (H, W): both sides divided by `patch`, rounded up.

    A grid of more than `max_patches` is scaled down, both sides by one factor, to at most that many;
    neither side goes below 1. Raises ValueError for anything below 1.

    >>> patch_grid((281, 500), patch=16, max_patches=4096)
    (18, 32)
    >>> patch_grid((2000, 3000), patch=16, max_patches=4096)
    (52, 78)
    >>> patch_grid((1, 4000), patch=16, max_patches=100)
    (1, 100)
    """
    height, width = size
    if min(height, width, patch, max_patches) < 1:
        raise ValueError(f"size {size}, patch {patch} and max_patches {max_patches} must all be 1 or more")
    h, w = -(-height // patch), -(-width // patch)
    if h * w <= max_patches:
        return h, w
    # floor(h * sqrt(max_patches / (h * w))) without rounding errors
    scaled_h = max(1, math.isqrt(h * max_patches // w))
    scaled_w = max(1, math.isqrt(w * max_patches // h))
    return min(scaled_h, max_patches), min(scaled_w, max_patches)


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.dtype != np.uint8:
        raise TypeError(f"an image array is uint8 in 0..255, not {array.dtype}; scale and convert it")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or array.size == 0:
        raise ValueError(
            f"an image array is (H, W, 3) RGB or (H, W) grey, not {array.shape}; "
            "put the channels last and drop the alpha channel"
        )
    return Image.fromarray(array).convert("RGB")


def _check_file(file: Path | TarMember) -> None:
    """Raise an error for what is no file before it is opened: opening a named pipe would block for ever."""
    with _errors_named(str(file), "opened"):
        exists = isinstance(file, TarMember) or file.exists()
        if exists and isinstance(file, Path) and not file.is_file():
            raise ImageError("not a file")
        if exists and (file.size if isinstance(file, TarMember) else file.stat().st_size) == 0:
            raise ImageError("the file is empty")
    if not exists:
        raise FileNotFoundError(f"no such image: {file}")


def _decode(image: Image.Image, name: str) -> Image.Image:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name}: {width} x {height} pixels, more than {MAX_PIXELS}; make it smaller first")
    if width * height == 0:
        raise ImageError(f"{name}: {width} x {height} has no pixels")
    with _errors_named(name, "decoded"):  # a truncated file, for example
        image.load()
        rgb = _to_rgb(image)
    turn = _UPRIGHT.get(exif_orientation(image, name))
    upright = rgb if turn is None else rgb.transpose(turn)
    upright.info = {}  # without the EXIF, which would turn it again
    return upright


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return a new RGB image; every mode of Pillow is converted or refused."""
    sixteen_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if sixteen_bit:  # Pillow's own conversion clips at 255 instead of scaling
        levels = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        kind = "32-bit" if image.mode == "I" else "float"
        raise ImageError(f"{kind} pixels have no known range; scale them to 0..255 and save 8 bits")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def exif_orientation(image: Image.Image, name: str = "") -> int:
    """Return the EXIF orientation, 1..8; 1 (upright) where there is none, or it is broken or unknown.

    A broken one gives a warning, if the image has a `name`.
    """
    try:
        if "exif" in image.info:  # getexif() hides an error that occurred while the file was opened
            Image.Exif().load(image.info["exif"])
        code = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:  # as above
        if name:
            warnings.warn(f"{name}: broken EXIF ignored: {_cause(error)}", stacklevel=4)
        return 1
    return code if code == 1 or code in _UPRIGHT else 1


def _cause(error: BaseException) -> str:
    return str(error) or type(error).__name__
