"""PseudoMask: the result for one image with its labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipes.config import GivenRegionsConfig
from clipes.datasets.respelled import label_spelling
from clipes.drawing.overlay import draw_overlay
from clipes.ids import ignore_index
from clipes.io.atomic import write_bytes
from clipes.io.cams_npz import PatchCams, write_cams
from clipes.io.masks import confidence_png, write_mask
from clipes.io.patches_npz import PatchArrays
from clipes.label_rules import foreground_share, missing_ids
from clipes.regions import RegionsLike, regions_of
from clipes.regions.instances import instances as instances_of
from clipes.regions.segments import Segment, segments_of

if TYPE_CHECKING:
    from torch import Tensor

    from clipes.config import Config
    from clipes.drawing.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class PseudoMask:
    """The segmentation of one image, made from its labels. Axes: C labels, H x W pixels of the image.

    Attributes:
        labels: class names in the order given, repeats dropped.
        class_ids: (C,) int64, the labels' ids in the data set, 1..K.
        patch_cams: (C, h, w) float32 in [0, 1], the maps on the patch grid, propagated if the affinity is on.
        cams: (C, H, W) float32 in [0, 1], the same at the image's size.
        scores: (C + 1, H, W) float32, row 0 the background, refined if the CRF or PAR is on; columns sum to 1.
        mask: (H, W) uint8, 0 background, else class ids, 255 ignored; above 254 classes uint16 and 65535.
        confidence: (H, W) float32, the winning score. After the CRF it is close to 1 nearly everywhere, whatever the
            maps are worth; a loss leaves the edges of regions out by it.
        map_confidence: (H, W) float32, the score of the winning class before the CRF or PAR, which says more of whether
            a pixel is right (``benchmarks/reliability.md``); without a refinement it is ``confidence``.
        image: the RGB picture, upright.
        num_classes: K, the number of classes of the data set.
        tags: the score of each label, in [0, 1], where CLIP found the labels; None where they were given.
        regions: (H, W) int32, 1..n the picture's regions, 0 in none; None where it has none. ``scores`` are those
            before their vote.
    """

    labels: tuple[str, ...]
    class_ids: NDArray[np.int64]
    patch_cams: NDArray[np.float32]
    cams: NDArray[np.float32]
    scores: NDArray[np.float32]
    mask: NDArray[Any]
    confidence: NDArray[np.float32]
    map_confidence: NDArray[np.float32]
    image: Image.Image
    num_classes: int
    tags: Mapping[str, float] | None = None
    regions: NDArray[np.int32] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        height, width = self.mask.shape
        return height, width

    @property
    def mean_confidence(self) -> float | None:
        """The mean of ``map_confidence`` over the pixels of classes, in [0, 1]; None if the mask shows no class."""
        shown = (self.mask > 0) & (self.mask != ignore_index(self.num_classes))
        return float(self.map_confidence[shown].mean(dtype=np.float64)) if shown.any() else None

    @property
    def missing_labels(self) -> tuple[str, ...]:
        """The labels that no pixel of the mask has, in their order: the mask is worth a look."""
        ids = self.class_ids.tolist()
        missing = missing_ids(self.mask, ids)
        return tuple(label for label, index in zip(self.labels, ids, strict=True) if index in missing)

    @property
    def foreground_share(self) -> float:
        """The share of the pixels that show a class, in [0, 1]; below 0.01 the mask is worth a look."""
        return foreground_share(self.mask, ignore_index(self.num_classes))

    def __repr__(self) -> str:
        ids = [("background", 0), *zip(self.labels, self.class_ids, strict=True)]
        shares = [(name, (self.mask == i).mean()) for name, i in [*ids, ("ignored", ignore_index(self.num_classes))]]
        height, width = self.size
        return f"PseudoMask({height} x {width}: {', '.join(f'{name} {share:.0%}' for name, share in shares)})"

    def _repr_png_(self) -> bytes:
        """The overlay with its legend, which notebooks show for a result."""
        file = BytesIO()
        self.overlay(legend=True).save(file, format="PNG")
        return file.getvalue()

    def __getitem__(self, label: str) -> NDArray[np.bool_]:
        """Where the mask shows ``label``: (H, W) bool. KeyError if it is not one of the image's labels."""
        if label not in self:
            raise KeyError(f"{label!r} is not a label of the image; it has {', '.join(self.labels) or 'none'}")
        (spelled,) = label_spelling(self.labels)((label,))
        return np.asarray(self.mask == self.class_ids[self.labels.index(spelled)])

    def __contains__(self, label: object) -> bool:
        """Whether ``label`` is one of the image's labels, in any form of Unicode."""
        return isinstance(label, str) and label_spelling(self.labels)((label,))[0] in self.labels

    def __iter__(self) -> Iterator[str]:
        """The image's labels."""
        return iter(self.labels)

    def decide(self, config: Config, regions: RegionsLike | None = None) -> PseudoMask:
        """The result that ``config`` gives for the same maps; the network is not run again.

        Only ``config.refine``, ``mask``, ``regions`` and ``vote`` count. ``regions`` are as in a call of the generator;
        by default those of this result where ``config`` says that they are given. Raises ValueError for settings that
        do not suit the picture's size.
        """
        import torch

        from clipes.decision import decide_batch

        if regions is None and isinstance(config.regions, GivenRegionsConfig):
            found = self.regions
        else:
            found = regions_of(self.image, config.regions, regions)
        maps, ids = torch.from_numpy(self.patch_cams), self.class_ids.tolist()
        (decision,) = decide_batch([self.image], [ids], [maps], self.num_classes, config, [found])
        return replace(self, **decision._asdict(), regions=found)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the mask as a palette PNG of ids (16-bit grey above 254 classes), atomically.

        Raises ValueError if ``path`` does not end in .png, OSError if it cannot be written.
        """
        write_mask(path, self.mask, self.num_classes)

    def save_confidence(self, path: str | os.PathLike[str]) -> None:
        """Write ``confidence``, the score after the CRF or PAR, as a grey PNG, 255 for 1, atomically.

        Raises ValueError if ``path`` does not end in .png, OSError if it cannot be written.
        """
        if not os.fspath(path).lower().endswith(".png"):
            raise ValueError(f"the confidence is a PNG file, not {os.fspath(path)!r}; end its name in .png")
        write_bytes(path, confidence_png(self.confidence))

    def save_cams(self, path: str | os.PathLike[str], full: bool = True) -> None:
        """Write the maps as .npz, on the patch grid and, if ``full``, at the image's size as CLIP-ES does.

        See :mod:`clipes.io.cams_npz` for the arrays in it. Raises ValueError if ``path`` does not end in .npz, OSError
        if it cannot be written.
        """
        write_cams(path, PatchCams(self.class_ids, self.patch_cams, self.size), self.cams if full else None)

    def overlay(self, alpha: float = 0.5, outline: bool = True, legend: bool = False) -> Image.Image:
        """The picture tinted by its mask, each region in one fine line, ignored pixels hatched.

        ``alpha`` in [0, 1] is the strength of the tint; ValueError outside. ``legend`` adds the labels' names below.
        The picture has the image's size; one of up to 192 pixels is enlarged. The colours are brighter than those of
        the mask's file; see :func:`clipes.drawing.overlay.draw_overlay`.
        """
        names = self.class_ids.tolist(), self.labels
        return draw_overlay(self.image, self.mask, *names, self.num_classes, alpha, outline, legend)

    def figure(self, width: float = 6.9) -> Figure:
        """A matplotlib figure: picture, each label's map, mask and ``map_confidence``, for a paper or a slide.

        ``width`` is its width in inches; 6.9 fits a page of two columns, 3.3 one column. Text has 7 and 8 points at any
        width. ``result.figure().savefig("dog.pdf")`` writes it; the default resolution is 300 dots per inch.

        Raises ValueError for a width below 3, :class:`clipes.drawing.optional.PlotError` without matplotlib
        (the extra ``plot``).
        """
        from clipes.drawing.figure import draw_figure

        names = self.labels, self.class_ids.tolist()
        return draw_figure(self.image, *names, self.cams, self.mask, self.map_confidence, self.num_classes, width)

    def cutout(self, label: str | None = None) -> Image.Image:
        """The picture as RGBA: the pixels of ``label``, or of all labels, opaque; all others transparent and black.

        Raises KeyError for a label that the image has not.
        """
        shown = np.isin(self.mask, self.class_ids) if label is None else self[label]
        alpha = Image.fromarray(np.where(shown, np.uint8(255), np.uint8(0)))
        picture = Image.new("RGBA", self.image.size)
        picture.paste(self.image, mask=alpha)
        picture.putalpha(alpha)
        return picture

    def segments(self, instances: bool = False, regions: RegionsLike | None = None) -> list[Segment]:
        """The segment of each label that won a pixel, in the labels' order.

        With ``instances``, or with ``regions``, one for each instance of it, by its first pixel. These are its
        connected parts, split or joined by the regions: :func:`clipes.regions.instances`. ``regions`` are as in a call
        of the generator, and may be those of this result; errors as there. Each has a mask of the image's size.
        """
        found = None
        if instances or regions is not None:
            given = regions_of(self.image, None, regions)
            found = instances_of(self.mask, given, ignore=ignore_index(self.num_classes))
        return segments_of(self.mask, self.labels, self.class_ids.tolist(), self.map_confidence, found)


@dataclass(frozen=True)
class TaggedImage:
    """What an image has that was tagged, and of which no mask was made: the scores of all classes, and (H, W)."""

    scores: Mapping[str, float]
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class ImagePatches:
    """What an image has of which a bank may keep patches: these, and (H, W)."""

    patches: PatchArrays
    size: tuple[int, int]


Result = PseudoMask | TaggedImage | ImagePatches
"""What a run makes of an image."""


def decide_masks(
    images: Sequence[Image.Image],
    class_ids: Sequence[Sequence[int]],
    patch_cams: Sequence[Tensor],
    class_names: Sequence[str],
    config: Config,
    regions: Sequence[NDArray[np.int32] | None] | None = None,
) -> list[PseudoMask]:
    """The results of several images from their maps on the patch grid (C, h, w); the network is not run.

    ``regions`` are ids (H, W) of each image's regions; by default those that ``config`` computes.

    Raises as :func:`clipes.decision.decide_batch`.
    """
    from clipes.decision import decide_batch

    if regions is None:
        regions = [regions_of(image, config.regions) for image in images]
    decisions = decide_batch(images, class_ids, patch_cams, len(class_names), config, regions)
    return [
        PseudoMask(
            labels=tuple(class_names[i - 1] for i in ids),
            class_ids=np.array(ids, dtype=np.int64),
            image=image,
            num_classes=len(class_names),
            regions=own,
            **decision._asdict(),
        )
        for image, ids, decision, own in zip(images, class_ids, decisions, regions, strict=True)
    ]
