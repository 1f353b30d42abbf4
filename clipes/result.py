"""PseudoMask: what one image with its labels becomes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipes.drawing.overlay import draw_overlay
from clipes.io.atomic import write_bytes
from clipes.io.cams_npz import PatchCams, write_cams
from clipes.io.masks import confidence_png, write_mask

if TYPE_CHECKING:
    from clipes.drawing.figure import Figure


@dataclass(frozen=True, eq=False)
class PseudoMask:
    """The segmentation of one image, made from its labels. Axes: C labels, H x W pixels of the image.

    Attributes:
        labels: class names in the order given, repeats dropped.
        class_ids: (C,) int64, the labels' places in the data set, 1..K.
        patch_cams: (C, h, w) float32 in [0, 1], the maps on the patch grid, refined by the affinity if that is on.
        cams: (C, H, W) float32 in [0, 1], the same at the image's size.
        scores: (C + 1, H, W) float32, row 0 the background, refined by the CRF or PAR if that is on; columns sum to 1.
        mask: (H, W) uint8, 0 background, else class ids, 255 ignored; above 254 classes uint16 and 65535.
        confidence: (H, W) float32, the winning score.
        image: the RGB picture, upright.
        class_count: K, the number of classes of the data set.
    """

    labels: tuple[str, ...]
    class_ids: NDArray[np.int64]
    patch_cams: NDArray[np.float32]
    cams: NDArray[np.float32]
    scores: NDArray[np.float32]
    mask: NDArray[Any]
    confidence: NDArray[np.float32]
    image: Image.Image
    class_count: int

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        height, width = self.mask.shape
        return height, width

    @property
    def maps(self) -> PatchCams:
        """What decides the mask again without the network."""
        return PatchCams(self.class_ids, self.patch_cams, self.size)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the mask as a palette PNG of ids (16-bit grey above 254 classes), whole or not at all.

        Raises ValueError if ``path`` does not end in .png, OSError if it cannot be written.
        """
        write_mask(path, self.mask, self.class_count)

    def save_confidence(self, path: str | os.PathLike[str]) -> None:
        """Write the confidence as a grey PNG, 255 for 1, whole or not at all.

        Raises ValueError if ``path`` does not end in .png, OSError if it cannot be written.
        """
        if not os.fspath(path).lower().endswith(".png"):
            raise ValueError(f"the confidence is a PNG file, not {os.fspath(path)!r}; end its name in .png")
        write_bytes(path, confidence_png(self.confidence))

    def save_cams(self, path: str | os.PathLike[str], full: bool = True) -> None:
        """Write the maps as .npz, on the patch grid and, if ``full``, at the image's size as CLIP-ES does.

        See :mod:`clipes.io.cams_npz` for what is in it. Raises ValueError if ``path`` does not end in .npz, OSError if
        it cannot be written.
        """
        write_cams(path, self.maps, self.cams if full else None)

    def overlay(self) -> Image.Image:
        """The picture tinted and outlined in the palette's colours, with a legend below it."""
        return draw_overlay(self.image, self.mask, self.class_ids.tolist(), self.labels, self.class_count)

    def figure(self, width: float = 6.9) -> Figure:
        """A matplotlib figure: picture, each label's map, mask and confidence side by side, for a paper or a slide.

        ``width`` is the most it is wide, in inches; the default is a page of two columns, 3.3 is one of them. Text has
        7 and 8 points at any width. ``result.figure().savefig("dog.pdf")`` writes it; at 300 dots an inch unless told
        otherwise.

        Raises ValueError for a width below 3, :class:`clipes.drawing.figure.PlotError` without matplotlib
        (``pip install clipes[plot]``).
        """
        from clipes.drawing.figure import draw_figure

        names = self.labels, self.class_ids.tolist()
        return draw_figure(self.image, *names, self.cams, self.mask, self.confidence, self.class_count, width)

    def segments(self) -> list[dict[str, Any]]:
        """Per label that won a pixel: ``label``, ``score`` (its mean confidence), ``mask`` (H, W) bool."""
        found = []
        for label, class_id in zip(self.labels, self.class_ids, strict=True):
            region = self.mask == class_id
            if region.any():
                found.append({"label": label, "score": float(self.confidence[region].mean()), "mask": region})
        return found
