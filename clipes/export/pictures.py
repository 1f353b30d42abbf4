"""The pictures beside exported masks: as they are where they can stay so, else upright and in a form that is read."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from PIL import Image

from clipes.io.images import FORMATS, IMAGE_SUFFIXES, ImageError, TarMember, exif_orientation, open_image
from clipes.io.masks import check_size

PictureMode = Literal["copy", "link", "none"]

JPEG_QUALITY = 95
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png"}
_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": JPEG_QUALITY, "subsampling": 0},
    "WEBP": {"lossless": True},
}


@dataclass(frozen=True)
class Picture:
    """A picture on its way.

    Attributes:
        suffix: of the file that is written.
        data: the bytes to write; None to write none.
        target: the file to link to instead.
        turned: whether it lies on its side or head but for its EXIF orientation. Masks are of the upright picture, so
            that such a one is never copied or linked as it is.
        converted: whether it is of a format that is not kept.
    """

    suffix: str
    data: bytes | None = None
    target: Path | None = None
    turned: bool = False
    converted: bool = False

    def write(self, path: Path) -> None:
        """Write it to ``path``, which has no suffix yet."""
        path = path.with_name(path.name + self.suffix)
        if self.target is not None or self.data is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        if self.target is not None:
            path.symlink_to(self.target)
        elif self.data is not None:
            path.write_bytes(self.data)


class PictureReader:
    """The pictures of a run, opened one at a time.

    Args:
        images: where they are, by id.
        how: ``"copy"``, ``"link"`` (symbolic) or ``"none"``.
        kept: the formats that the other tool reads; None for any, under the name that the file has.
        instead: the format that others are converted to.
    """

    def __init__(self, images: Mapping[str, Any], how: PictureMode, kept: frozenset[str] | None, instead: str) -> None:
        self._images, self._how, self._kept, self._instead = images, how, kept, instead

    def read(self, image_id: str, size: tuple[int, int]) -> Picture:
        """The picture of an image whose mask has ``size`` (H, W).

        With ``"none"``, only the file's head is read, unless it is turned. Raises ValueError for one that is not in
        the source, cannot be read or is of another size, OSError where the system cannot read it.
        """
        if image_id not in self._images:
            raise ValueError(f"{image_id!r}: no such image in the source; say where the images are (--source)")
        place: Path | TarMember = self._images[image_id]
        upright = open_image(place) if self._how != "none" else None
        if isinstance(place, Path) and place.exists() and not place.is_file():  # a named pipe would wait for ever
            raise ImageError(f"{place}: not a file")
        file = BytesIO(place.read()) if isinstance(place, TarMember) else place
        try:
            with Image.open(file, formats=FORMATS) as opened:
                found = "JPEG" if opened.format == "MPO" else str(opened.format)
                code = exif_orientation(opened)
                shape = (opened.height, opened.width)
        except FileNotFoundError as error:
            raise ImageError(f"no such image: {place}") from error
        except Exception as error:  # Pillow's parsers raise nearly anything on hostile bytes
            raise ImageError(f"{place}: {str(error) or type(error).__name__}") from error
        if upright is not None or code > 4:  # Pillow gives the sides of a TIFF upright, of others as they lie
            seen = upright or open_image(place)
            shape = (seen.height, seen.width)
        check_size(shape, place, size, "its mask")
        return self._picture(place, found, code != 1, upright)

    def _picture(self, place: Path | TarMember, found: str, turned: bool, upright: Image.Image | None) -> Picture:
        kept = self._kept is None or found in self._kept
        form = found if kept else self._instead
        suffix = _own_suffix(place) if self._kept is None else _SUFFIXES[form]
        if upright is None:
            return Picture(suffix, turned=turned, converted=not kept)
        if turned or not kept:
            return Picture(suffix, _saved(upright, form, place), turned=turned, converted=not kept)
        if isinstance(place, TarMember):
            return Picture(suffix, place.read())
        if self._how == "link":
            return Picture(suffix, target=Path(os.path.abspath(place)))
        return Picture(suffix, place.read_bytes())


def _saved(upright: Image.Image, form: str, place: Path | TarMember) -> bytes:
    longest = 65_500 if form == "JPEG" else math.inf  # libjpeg's limit
    if max(upright.size) > longest:
        width, height = upright.size
        raise ImageError(f"{place}: {height} x {width} pixels; a JPEG has at most {longest} on a side")
    buffer = BytesIO()
    upright.save(buffer, format=form, **_OPTIONS.get(form, {}))
    return buffer.getvalue()


def _own_suffix(place: Path | TarMember) -> str:
    suffix = PurePosixPath(place.name).suffix
    return suffix if suffix.lower() in IMAGE_SUFFIXES else ""
