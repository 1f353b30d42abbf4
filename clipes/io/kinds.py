"""Which kinds of images are read, by their formats and their suffixes, and which are known but not read."""

from __future__ import annotations

from collections.abc import Iterable

from PIL import features

from clipes._version import install_hint

try:
    from pillow_heif import register_heif_opener
except ImportError:
    HEIF = False
else:
    register_heif_opener()
    HEIF = True
"""Whether HEIC is read, by pillow-heif, the extra `heif`."""

FORMATS = (
    *("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"),
    *(("JPEG2000",) if features.check_codec("jpg_2000") else ()),  # not in every build of Pillow
    *(("AVIF",) if "avif" in features.modules and features.check_module("avif") else ()),
    *(("HEIF",) if HEIF else ()),
)
"""The formats that are read, whatever a file is called. EPS, PDF and the like run interpreters and are refused."""

_HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".gif"}
    | {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
    | {".avif", ".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"}
    | (_HEIF_SUFFIXES if HEIF else frozenset())
)
"""Suffixes, in lower case, that mark a file of a folder as an image, whether this Pillow reads its format or not."""

UNREAD_SUFFIXES = frozenset(
    {".jxl", ".jxr", ".svg", ".svgz", ".psd", ".psb", ".xcf", ".eps", ".ico", ".icns"}
    | {".tga", ".pcx", ".qoi", ".dds", ".exr", ".hdr", ".pfm", ".fits", ".dcm", ".dicom", ".wmf", ".emf"}
    | {".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw"}
    | {".x3f", ".3fr", ".iiq", ".rwl", ".erf", ".kdc", ".mrw"}
    | (frozenset() if HEIF else _HEIF_SUFFIXES)
)
"""Suffixes, in lower case, of images of kinds that are not read: they are counted and named, never passed over."""

READ_INSTEAD = "convert it to PNG or JPEG first"
"""The cure for an image of a kind that is not read."""


def read_instead(suffixes: Iterable[str]) -> str:
    """The cure for images of these suffixes, which are not read; HEIC is where its package is installed.

    >>> read_instead([".svg"])
    'convert it to PNG or JPEG first'
    """
    if HEIF or _HEIF_SUFFIXES.isdisjoint(suffix.lower() for suffix in suffixes):
        return READ_INSTEAD
    return f"{READ_INSTEAD}, or let HEIC be read: {install_hint('heif')}"


_HEIC = ("heic", "heix", "hevc", "hevx", "heim", "heis", "mif1", "msf1")
_STARTS = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "Photoshop",
    b"%!PS": "PostScript",
    b"%PDF": "PDF",
    b"FUJIFILM": "a camera's raw file",
    b"IIRO": "a camera's raw file",
    b"IIU\0": "a camera's raw file",
}


def kind_of(data: bytes) -> str:
    """The kind of a file that cannot be read, by its first bytes; empty for an unknown one."""
    if data[4:8] == b"ftyp":
        brand = data[8:12].decode("latin-1")
        return "HEIC" if brand in _HEIC else "AVIF" if brand in ("avif", "avis") else ""
    if b"<svg" in data[:1000]:
        return "SVG"
    return next((kind for start, kind in _STARTS.items() if data.startswith(start)), "")
