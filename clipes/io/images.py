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
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from .kinds import FORMATS, HEIF, READ_INSTEAD, kind_of, read_instead
from .paths import as_spelled
from .png import impossible_chunk

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


def file_of(place: Path | TarMember) -> Path:
    """The file itself, or the .tar that it is in."""
    return place.tar if isinstance(place, TarMember) else place


def open_image(source: str | os.PathLike[str] | TarMember | Image.Image | NDArray[Any]) -> Image.Image:
    """Return `source` as an RGB picture, upright and fully loaded, independent of its file.

    `source` is a file, one inside a .tar, a PIL image (its current frame) or a uint8 array, (H, W, 3) RGB or (H, W)
    grey. The first frame of an animation counts; EXIF orientation is applied, and ignored with a warning where it is
    broken; transparency is laid over white; 16-bit levels are scaled to 8 bits, with a warning where that leaves an
    image nearly black, because it holds data of fewer bits.

    Raises FileNotFoundError for a missing file; ImageError for anything unreadable: not an image,
    truncated, a format outside FORMATS, a camera's raw file, more than MAX_PIXELS, float or 32-bit pixels; TypeError
    or ValueError for an unsuitable array.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _decode(source, str(getattr(source, "filename", "") or "image"))
    if not isinstance(source, str | os.PathLike | TarMember):
        raise TypeError(f"an image is a path, a PIL image or a numpy array, not {type(source).__name__}")
    file = source if isinstance(source, TarMember) else Path(as_spelled(os.fspath(source)))
    with _opened(file) as opened:
        return _decode(opened, str(file))


def _opened(file: Path | TarMember) -> Image.Image:
    _check_file(file)
    data = BytesIO(file.read()) if isinstance(file, TarMember) else file
    with _errors_named(str(file), "opened"):
        try:
            return Image.open(data, formats=FORMATS)
        except UnidentifiedImageError as error:
            kind = kind_of(file.read() if isinstance(file, TarMember) else file.read_bytes())
            if HEIF and kind == "HEIC":
                raise ImageError(
                    f"a HEIC file that is broken, or of a kind that is not read; {READ_INSTEAD}"
                ) from error
            cure = read_instead([".heic"] if kind == "HEIC" else [])
            raise ImageError(f"not a {', '.join(FORMATS)} image{f', but {kind}' if kind else ''}; {cure}") from error


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
    if array.max() == 1 and array.min() == 0:
        warnings.warn("the image array holds 0 and 1 alone, of 0..255; multiply levels in [0, 1] by 255", stacklevel=3)
    return Image.fromarray(array).convert("RGB")


def _check_file(file: Path | TarMember) -> None:
    """Raise an error for what is no file before it is opened: opening a named pipe would block for ever."""
    with _errors_named(str(file), "opened"):
        exists = isinstance(file, TarMember) or file.exists()
        if exists and isinstance(file, Path) and not file.is_file():
            raise ImageError("not a file")
        if exists and (file.size if isinstance(file, TarMember) else file.stat().st_size) == 0:
            raise ImageError("the file is empty")
        if exists and isinstance(file, Path) and (length := impossible_chunk(file)):
            raise ImageError(f"a damaged PNG: a chunk of {length} bytes in a file of {file.stat().st_size}")
    if not exists:
        raise FileNotFoundError(f"no such image: {file}")


def _decode(image: Image.Image, name: str) -> Image.Image:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name}: {width} x {height} pixels, more than {MAX_PIXELS}; make it smaller first")
    if width * height == 0:
        raise ImageError(f"{name}: {width} x {height} has no pixels")
    with _errors_named(name, "decoded"):  # a truncated file, for example
        _refuse_raw(image)
        bits = _sample_bits(image)
        image.load()
        rgb = _to_rgb(image, bits)
    if bits > 8 and (text := _dark(image, bits)):
        warnings.warn(f"{name}: {text}", stacklevel=3)
    turn = _UPRIGHT.get(exif_orientation(image, name))
    upright = rgb if turn is None else rgb.transpose(turn)
    upright.info = {}  # without the EXIF, which would turn it again
    return upright


_SUBFILE, _BITS, _DNG_VERSION = (
    254,
    258,
    50706,
)  # tags of TIFF; bit 0 of the first: a reduced version of another picture


def _refuse_raw(image: Image.Image) -> None:
    """Raise ImageError for a camera's raw file: Pillow takes it for a TIFF, and reads the small preview in it."""
    if image.format != "TIFF":
        return
    tags, file = getattr(image, "tag_v2", {}), getattr(image, "fp", None)
    subfile, is_cr2 = tags.get(_SUBFILE), False
    if file is not None:
        place = file.tell()
        file.seek(8)
        is_cr2 = file.read(2) == b"CR"
        file.seek(place)
    if _DNG_VERSION in tags or is_cr2 or (isinstance(subfile, int) and subfile & 1):
        raise ImageError(f"a camera's raw file, which is not read; {READ_INSTEAD}")


def _sample_bits(image: Image.Image) -> int:
    """Return how many bits a file has for a level of an image that is not loaded yet; 8 where that is unknown."""
    tag = getattr(image, "tag_v2", {}).get(_BITS) if image.format == "TIFF" else None
    if isinstance(tag, tuple) and tag:
        return int(max(tag))
    if image.format == "JPEG2000":
        return 16 if _jpeg_2000_bits(image) > 8 else 8  # Pillow spreads the levels over 8 or 16
    parts = [part for tile in getattr(image, "tile", ()) for part in (tile[3] if isinstance(tile[3], tuple) else tile)]
    scaled = image.format == "PPM" and any(isinstance(part, int) and part > 255 for part in parts)
    return 16 if _is_grey_16(image) or scaled or any(";16" in str(part) for part in parts) else 8


def _jpeg_2000_bits(image: Image.Image) -> int:
    """The bits of the first component, from the marker SIZ of ISO/IEC 15444-1, A.5.1; 8 where it is not found."""
    file = getattr(image, "fp", None)
    if file is None:
        return 16 if _is_grey_16(image) else 8
    place = file.tell()
    file.seek(0)
    head = file.read(4096)
    file.seek(place)
    start = head.find(b"\xff\x4f\xff\x51")  # SOC and SIZ; 38 bytes of SIZ come before the first component's
    return (head[start + 42] & 0x7F) + 1 if start >= 0 and len(head) > start + 42 else 8


def _is_grey_16(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _to_rgb(image: Image.Image, bits: int) -> Image.Image:
    """Return a new RGB image; every mode of Pillow is converted or refused."""
    if _is_grey_16(image):  # Pillow's own conversion clips at 255 instead of scaling
        most = (1 << min(max(bits, 9), 16)) - 1  # 4095 of a TIFF of 12 bits
        levels = np.asarray(image).astype(np.int64).clip(0, most)
        return Image.fromarray(((levels * 255 + most // 2) // most).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        kind = "32-bit" if image.mode == "I" else "float"
        raise ImageError(f"{kind} pixels have no known range; scale them to 0..255 and save 8 bits")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def _dark(image: Image.Image, bits: int) -> str:
    """What to say of a loaded image whose levels use so few of the file's `bits` that it is nearly black; else empty.

    A quarter of the range is the limit: data of 14 bits in a file of 16.
    """
    grey = _is_grey_16(image)
    if grey:
        most = int(np.asarray(image).max())
    elif image.mode.upper() in ("L", "LA", "RGB", "RGBA", "RGBX"):  # in CMYK, little is white
        bands = zip(image.split(), image.getbands(), strict=True)
        most = max(int(cast(Any, band.getextrema())[1]) for band, name in bands if name not in "AaX")
    else:
        return ""
    if most > ((1 << bits) - 1 if grey else 255) >> 2 or (grey and most == 0):
        return ""
    if not grey:  # Pillow keeps the upper 8 bits of each level alone
        most = (most + 1 << bits - 8) - 1
    used = next(one for one in (8, 10, 12, 14) if most < 1 << one)
    return (
        f"the image is read as nearly black: the brightest of its {bits}-bit levels is {most} of {(1 << bits) - 1}; if "
        f"it holds data of {used} bits, multiply its levels by {1 << bits - used} and save it again"
    )


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
