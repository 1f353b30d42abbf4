"""The pictures of an export: copied or linked unchanged if possible, otherwise saved upright or in another format."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from PIL import Image

from clipes.io.images import ImageError, TarMember, exif_orientation, file_of, open_image
from clipes.io.kinds import FORMATS, IMAGE_SUFFIXES
from clipes.io.masks import check_size
from clipes.io.retry import read_retried

PictureMode = Literal["copy", "link", "none"]

JPEG_QUALITY = 95
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png"}
_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": JPEG_QUALITY, "subsampling": 0},
    "WEBP": {"lossless": True},
}


@dataclass(frozen=True)
class Picture:
    """A picture to be written.

    Attributes:
        suffix: suffix of the file that is written.
        data: the bytes to write; None to write none.
        target: the file to link to instead of writing ``data``.
        turned: whether its EXIF orientation is not upright. Such a picture is never copied or linked unchanged, because
            masks are those of the upright picture.
        converted: whether its format is one that is not kept.
    """

    suffix: str
    data: bytes | None = None
    target: Path | None = None
    turned: bool = False
    converted: bool = False

    def write(self, path: Path) -> None:
        """Write the picture to ``path`` with :attr:`suffix` appended."""
        path = path.with_name(path.name + self.suffix)
        if self.target is not None or self.data is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        if self.target is not None:
            path.symlink_to(self.target)
        elif self.data is not None:
            path.write_bytes(self.data)


class PictureReader:
    """Reads the pictures of a run, one at a time.

    Args:
        images: the images' files, by id.
        how: ``"copy"``, ``"link"`` (symbolic) or ``"none"``.
        kept: the formats that the other tool reads. None: all formats are kept, with the suffix of the image's file.
        instead: the format that the others are converted to.
        folders: the absolute folders of the source. A picture is waited for while its folder is gone.
    """

    def __init__(
        self,
        images: Mapping[str, Any],
        how: PictureMode,
        kept: frozenset[str] | None,
        instead: str,
        folders: Collection[Path] = (),
    ) -> None:
        self._images, self._how, self._kept, self._instead = images, how, kept, instead
        self._folders = folders

    def read(self, image_id: str, size: tuple[int, int]) -> Picture:
        """The picture of an image whose mask has ``size`` (H, W).

        With ``"none"``, only the file's header is read, unless the picture must be turned. Raises ValueError for a
        picture that is not in the source, is broken or has another size; OSError if the file cannot be read.
        """
        if image_id not in self._images:
            raise ValueError(f"{image_id!r}: no such image in the source; say where the images are (--source)")
        place: Path | TarMember = self._images[image_id]
        return read_retried(partial(self._read, place, size), file_of(place), self._folders)

    def _read(self, place: Path | TarMember, size: tuple[int, int]) -> Picture:
        upright = open_image(place) if self._how != "none" else None
        if isinstance(place, Path) and place.exists() and not place.is_file():  # a named pipe would block forever
            raise ImageError(f"{place}: not a file")
        file = BytesIO(place.read()) if isinstance(place, TarMember) else place
        try:
            with Image.open(file, formats=FORMATS) as opened:
                found = "JPEG" if opened.format == "MPO" else str(opened.format)
                code = exif_orientation(opened)
                shape = (opened.height, opened.width)
        except FileNotFoundError as error:
            raise ImageError(f"no such image: {place}") from error
        except Exception as error:  # Pillow's parsers raise many types of errors on broken files
            raise ImageError(f"{place}: {str(error) or type(error).__name__}") from error
        if upright is not None or code > 4:  # Pillow applies the orientation to the size of a TIFF, but not of others
            turned = upright or open_image(place)
            shape = (turned.height, turned.width)
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
