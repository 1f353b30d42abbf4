"""Masks as PNG files of ids, written and read."""

from __future__ import annotations

import os
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from clipes.ids import ignore_index, valid_mask, voc_palette

from .atomic import write_bytes
from .images import MAX_PIXELS, TarMember

_MODES = ("P", "L", "1", "I;16", "I;16B", "I")  # of a PNG; older Pillow opens 16-bit grey as I


class SizeError(ValueError):
    """Files of one name whose sizes differ; the message names both."""


def read_ids(path: Path | TarMember, classes: int) -> NDArray[Any]:
    """Return the ids of one mask file; ValueError, naming the file, for anything else."""
    ids = read_png(path, _MODES, "holds colours, not class ids; save palette indices, 8-bit or 16-bit grey")
    valid_mask(ids, str(path), classes)
    return ids


def read_png(path: Path | TarMember, modes: tuple[str, ...], otherwise: str) -> NDArray[Any]:
    """Return the pixel values (H, W) of a PNG file, as integers; ValueError with ``otherwise`` for another mode."""
    try:
        if isinstance(path, Path) and not path.is_file():  # a named pipe would wait for ever
            raise ValueError("no such file" if not path.exists() else "not a file")
        with Image.open(path if isinstance(path, Path) else BytesIO(path.read()), formats=("PNG",)) as image:
            if image.mode not in modes:
                raise ValueError(f"mode {image.mode} {otherwise}")
            if image.mode == "L" and image.tile and image.tile[0][3] in ("L;2", "L;4"):
                raise ValueError("grey of 2 or 4 bits, whose values Pillow scales; save it in 8 bits")
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.height} x {image.width} pixels, more than the {MAX_PIXELS} of a picture")
            pixels = np.asarray(image)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: not a PNG file") from error
    except Exception as error:  # Pillow's parsers raise nearly anything on hostile bytes
        raise ValueError(f"{path}: {str(error) or type(error).__name__}") from error
    return pixels.astype(np.uint8) if pixels.dtype == np.bool_ else pixels


def check_size(size: tuple[int, ...], name: object, expected: tuple[int, ...], other: object) -> None:
    """Raise SizeError if the size (H, W) of ``name`` is not that of ``other``."""
    if tuple(size) != tuple(expected):
        ours, theirs = (" x ".join(map(str, shape)) for shape in (size, expected))
        raise SizeError(f"{name}: {ours} pixels (height x width), but {other} has {theirs}; was one of them replaced?")


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
    0..num_classes nor the ignore value.
    """
    image, info = _mask_image(mask, class_count), PngInfo()
    if software:
        info.add_text("Software", software)
    return _png(image, pnginfo=info, compress_type=zlib.Z_RLE)  # half the time: benchmarks/RESULTS.md


def confidence_png(confidence: NDArray[np.float32]) -> bytes:
    """A grey PNG file of confidences (H, W) in [0, 1], 255 for 1."""
    return _png(Image.fromarray((255 * confidence).round().astype(np.uint8)))


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
