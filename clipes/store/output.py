"""What a run saves for every image, and in which form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from clipes.io.atomic import SOFTWARE
from clipes.io.cams_npz import PatchCams, cams_npz_bytes
from clipes.io.masks import confidence_png, mask_png
from clipes.io.patches_npz import patches_npz_bytes
from clipes.result import ImagePatches, PseudoMask, Result, TaggedImage

from .layout import SAVED, Kind

CamsKind = Literal["patch", "full"]
Format = Literal["png", "tar", "none", "patches"]


@dataclass(frozen=True)
class Output:
    """What a run saves for every image.

    Attributes:
        folder: of the run.
        confidence: also save the winning scores after the CRF or PAR, as grey PNGs, 255 for 1.
        cams: also save the maps (:mod:`clipes.io.cams_npz`): ``"patch"`` on the patch grid only, ``"full"`` at the
            image's size, too.
        format: ``"png"``, a file each; ``"tar"``, .tar files in the layout of WebDataset; ``"none"``: no file, and the
            scores of all classes in the record (`clipes tag`); or ``"patches"``: no masks, .tar files of patches for a
            bank.
        tar_size: images in a .tar; a run that is killed repeats those of the .tar that it was writing.
    """

    folder: Path
    confidence: bool = False
    cams: CamsKind | None = None
    format: Format = "png"
    tar_size: int = 1000

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        if self.cams not in (None, "patch", "full"):
            raise ValueError(f"cams is {self.cams!r}; it is 'patch', 'full' or None")
        if self.format not in get_args(Format):
            raise ValueError(f"format is {self.format!r}; it is 'png', 'tar', 'none' or 'patches'")
        if not self.has_masks and (self.confidence or self.cams):
            raise ValueError(f"format is {self.format!r}, which saves no mask; leave out confidence and cams")
        if self.tar_size < 1:
            raise ValueError(f"tar_size is {self.tar_size}; it must be at least 1")

    @property
    def has_masks(self) -> bool:
        """Whether masks are saved."""
        return self.format in ("png", "tar")

    @property
    def in_tars(self) -> bool:
        """Whether files are members of .tar files."""
        return self.format in ("tar", "patches")

    @property
    def saved(self) -> tuple[Kind, ...]:
        """The kinds of files that are saved beside the masks, or without them."""
        return ("patches",) if self.format == "patches" else tuple(kind for kind in SAVED if getattr(self, kind))

    def settings(self) -> dict[str, Any]:
        """What two runs into one folder must agree on."""
        return {"confidence": self.confidence, "cams": self.cams, "format": self.format}

    def encode(self, result: Result) -> dict[str, bytes]:
        """The contents of a result's files, by kind; none of an image that was only tagged."""
        if isinstance(result, TaggedImage):
            return {}
        if isinstance(result, ImagePatches):
            return {"patches": patches_npz_bytes(result.patches)}
        files = {"mask": encode_mask(result)}
        if self.confidence:
            files["confidence"] = confidence_png(result.confidence)
        if self.cams:
            files["cams"] = cams_npz_bytes(
                PatchCams(result.class_ids, result.patch_cams, result.size),
                result.cams if self.cams == "full" else None,
            )
        return files


def encode_mask(result: PseudoMask) -> bytes:
    """The PNG of a result's mask; its text says that a run wrote it (:func:`clipes.io.atomic.owned`)."""
    return mask_png(result.mask, result.num_classes, SOFTWARE["mask"])
