"""Which patches of many images a bank keeps: the surest of each class, found image by image.

What is kept of several sets of images together is what is kept of that which is kept of each, so that sets can be
looked at by different processes, and merged in any number of steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import Lock

import numpy as np
from PIL import Image
from torch import Tensor

from clipes.cams.compute import encode_images
from clipes.clip.vision import VisionEncoder
from clipes.config import BankTagsConfig, Config
from clipes.device.inference import inference
from clipes.device.matmul_precision import matmul_precision
from clipes.io.patches_npz import PatchArrays

from .bank import judged_by_text, unit_patches
from .views import one_view

_MERGED = 2**16
"""Patches that are added before the surest are chosen again."""


class Sieve:
    """Lets those patches through that may be among the ``count`` surest of their class, by all that came before.

    For any thread. An image must come once: a patch that comes twice would keep out another.
    """

    def __init__(self, classes: int, count: int) -> None:
        self._least = np.full((classes, count), np.inf, np.float32)  # the lowest entropies of each class, sorted
        self._lock = Lock()

    def admit(self, patches: PatchArrays) -> PatchArrays:
        """Those of an image's patches that may be among them; of equally sure ones all."""
        admitted = np.zeros(len(patches.labels), bool)
        with self._lock:
            for label in np.unique(patches.labels):
                own, least = patches.labels == label, self._least[label]
                entropies = patches.entropies[own]
                least[:] = np.sort(np.concatenate([least, entropies]))[: len(least)]
                admitted[own] = entropies <= least[-1]
        return patches.take(admitted)


def merged_patches(parts: Iterable[PatchArrays], count: int) -> PatchArrays:
    """The ``count`` surest patches of each class of all parts, in the order of class and entropy.

    Of equally sure patches the first are kept. Memory does not grow with the number of parts.
    """
    kept: list[PatchArrays] = []
    waiting = 0
    for part in parts:
        kept.append(part)
        waiting += len(part.labels)
        if waiting > _MERGED:
            kept, waiting = [_surest_first(_joined(kept), count)], 0
    return _surest_first(_joined(kept), count)


def _joined(parts: Sequence[PatchArrays]) -> PatchArrays:
    if not parts:
        return PatchArrays(np.zeros((0, 0), np.float32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    return PatchArrays(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _surest_first(patches: PatchArrays, count: int) -> PatchArrays:
    order = np.lexsort((patches.entropies, patches.labels))  # stable
    labels = patches.labels[order]
    place = np.arange(len(labels)) - np.searchsorted(labels, labels)  # within the class
    return patches.take(order[place < count])


@inference()
def judged_patches(
    vision: VisionEncoder, images: Sequence[Image.Image], text: Tensor, config: Config
) -> list[PatchArrays]:
    """The patches of each RGB image, judged by the classes' unit text features (K, V, E).

    Raises FloatingPointError for an image whose patches are not finite.
    """
    method, alone = config.tags, one_view(config)
    if not isinstance(method, BankTagsConfig):
        raise ValueError(f"patches are collected for the method 'bank', not {type(method).__name__}")
    found: dict[int, PatchArrays] = {}
    for members, encoded in encode_images(vision, images, alone, [method]):
        with matmul_precision(vision.device, vision.dtype):
            for member, patches in zip(members, unit_patches(vision, encoded, method), strict=True):
                found[member] = _judged(patches.float(), text, method.text_scale)
    return [found[index] for index in range(len(images))]


def _judged(patches: Tensor, text: Tensor, scale: float) -> PatchArrays:
    if not bool(patches.isfinite().all()):
        raise FloatingPointError("a patch is not finite; if the precision is lower, load with precision='fp32'")
    found = judged_by_text(patches, text, scale)
    return PatchArrays(*(array.cpu().numpy() for array in (patches, found.labels.int(), found.entropies)))
