"""The stage of a run that makes masks: from loaded images to results, whatever one of them does to its batch."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from itertools import accumulate, takewhile
from threading import Lock
from typing import Protocol

import torch
from PIL import Image

from clipes.cams.compute import estimate_memory
from clipes.cams.tiles import image_grid, largest_window
from clipes.clip.vision import VisionEncoder
from clipes.config import BankTagsConfig, Config
from clipes.decision import decision_memory
from clipes.device.backoff import Backoff, Failure, failure_of
from clipes.device.memory import MemoryBudget, cpu_memory_limit
from clipes.device.process_memory import memory_in_use, memory_limit
from clipes.generator import MaskGenerator
from clipes.result import ImagePatches, PseudoMask, Result, TaggedImage
from clipes.store.in_hand import InHand
from clipes.store.output import Output
from clipes.store.row import Row
from clipes.tags.bank_patches import Sieve

from .decoding import Decoder, Loaded, SavedSample, decode_image

_LEAST_SHARE = 0.6
"""An estimate of memory is that of a picture which takes much; one which takes little needs this share of it."""

_MAX_PIXELS = 2**25
"""Images worked on together have no more pixels, except a single one: each has maps at its size."""


_LABELS_FOUND = 10
"""Labels for which memory is reckoned with where CLIP is to find them."""


class MaskSource(Protocol):
    """Makes masks, or tags, from loaded images."""

    @property
    def class_names(self) -> Sequence[str]:
        """K names, in the data set's order."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def batch_size(self) -> int:
        """Images processed together by default."""

    @property
    def decode(self) -> Decoder:
        """Reads what it needs of a sample."""

    def estimate_memory(self, batch: Sequence[Loaded]) -> int:
        """Bytes of CPU memory that :meth:`make` takes at most, about."""

    def make(self, batch: Sequence[Loaded]) -> Sequence[Result]:
        """The results of images worked on together."""

    def in_float32(self) -> MaskSource | None:
        """The same source in float32; None where it is that already."""


def batch_memory(generator: MaskGenerator, images: Sequence[Image.Image], labels: Sequence[int]) -> int:
    """Upper estimate of the bytes of CPU memory that a generator takes for one batch of ``images``.

    ``labels`` are the images' numbers of labels. Encoding holds one image at a time, deciding holds all.
    """
    pixels = [image.height * image.width for image in images]
    encoding = max(_encoding_memory(generator.clip.vision, image, generator.config) for image in images)
    return encoding + decision_memory(pixels, labels, generator.config)


def _encoding_memory(vision: VisionEncoder, image: Image.Image, config: Config) -> int:
    """Upper estimate of the bytes that ``image`` takes until its maps are made: its largest tile and, of tiles, the
    resized picture that they are cut from.
    """
    grid = image_grid(image, vision.patch_size, config, max(config.views.scales))
    whole, largest = grid[0] * grid[1], largest_window(grid, vision.patch_size, config)
    per_pixel = 8 if config.image.antialias else 28  # Pillow's 4 bytes and an array's 3; or two of float32 and a copy
    kept = 0 if largest == whole else per_pixel * whole * vision.patch_size**2
    return estimate_memory(vision, largest) + kept


class MasksFromImages:
    """Masks by a CLIP that encodes the images; ``decode`` reads them."""

    def __init__(self, generator: MaskGenerator, decode: Decoder = decode_image):
        self.generator, self.decode = generator, decode
        self.class_names, self.device = generator.class_names, generator.device
        self.batch_size = generator._default_batch_size

    def estimate_memory(self, batch: Sequence[Loaded]) -> int:
        """As :class:`MaskSource` says."""
        most = min(_LABELS_FOUND, len(self.class_names))
        counts = [most if loaded.sample.unlabelled else len(loaded.sample.labels) for loaded in batch]
        return batch_memory(self.generator, _images(batch), counts)

    def make(self, batch: Sequence[Loaded]) -> list[PseudoMask]:
        """As :class:`MaskSource` says."""
        labels = [None if loaded.sample.unlabelled else loaded.sample.labels for loaded in batch]
        regions = [loaded.regions for loaded in batch]
        return list(self.generator.generate(_images(batch), labels, len(batch), regions))

    def in_float32(self) -> MasksFromImages | None:
        """As :class:`MaskSource` says."""
        return (
            None
            if self.generator.dtype == torch.float32
            else MasksFromImages(self.generator._in_float32(), self.decode)
        )


class TagsFromImages:
    """Tags by a CLIP that encodes the images; ``decode`` reads them."""

    def __init__(self, generator: MaskGenerator, decode: Decoder = decode_image):
        self.generator, self.decode = generator, decode
        self.class_names, self.device = generator.class_names, generator.device
        self.batch_size = generator._default_batch_size

    def estimate_memory(self, batch: Sequence[Loaded]) -> int:
        """As :class:`MaskSource` says."""
        return batch_memory(self.generator, _images(batch), [0] * len(batch))

    def make(self, batch: Sequence[Loaded]) -> list[TaggedImage]:
        """As :class:`MaskSource` says."""
        images = _images(batch)
        found = self.generator._tagger.tag(images)
        return [
            TaggedImage(tags.scores, (image.height, image.width)) for tags, image in zip(found, images, strict=True)
        ]

    def in_float32(self) -> TagsFromImages | None:
        """As :class:`MaskSource` says."""
        generator = self.generator
        return None if generator.dtype == torch.float32 else TagsFromImages(generator._in_float32(), self.decode)


class PatchesFromImages:
    """The patches that a bank may keep, of those images that came before; ``decode`` reads them."""

    def __init__(self, generator: MaskGenerator, decode: Decoder = decode_image, sieve: Sieve | None = None):
        method = generator.config.tags
        if not isinstance(method, BankTagsConfig):
            raise ValueError(f"patches are collected for the method 'bank', not {type(method).__name__}")
        self.generator, self.decode = generator, decode
        self.class_names, self.device = generator.class_names, generator.device
        self.batch_size = generator._default_batch_size
        self._sieve = sieve or Sieve(len(self.class_names), method.patches)

    def estimate_memory(self, batch: Sequence[Loaded]) -> int:
        """As :class:`MaskSource` says."""
        return batch_memory(self.generator, _images(batch), [0] * len(batch))

    def make(self, batch: Sequence[Loaded]) -> list[ImagePatches]:
        """As :class:`MaskSource` says."""
        images = _images(batch)
        found = self.generator._tagger.patches(images)  # all, before any comes to the sieve: a batch may be tried again
        return [
            ImagePatches(self._sieve.admit(own), (image.height, image.width))
            for own, image in zip(found, images, strict=True)
        ]

    def in_float32(self) -> PatchesFromImages | None:
        """As :class:`MaskSource` says."""
        generator = self.generator
        if generator.dtype == torch.float32:
            return None
        return PatchesFromImages(generator._in_float32(), self.decode, self._sieve)


def image_source(generator: MaskGenerator, output: Output, decode: Decoder = decode_image) -> MaskSource:
    """What makes the results of images for ``output``: tags where it has no files, patches for a bank, else masks."""
    if output.format == "none":
        return TagsFromImages(generator, decode)
    return PatchesFromImages(generator, decode) if output.format == "patches" else MasksFromImages(generator, decode)


def _images(batch: Sequence[Loaded]) -> list[Image.Image]:
    return [loaded.image for loaded in batch]


class BatchGenerator:
    """Makes the masks of batches, by several threads at a time, within the memory that there is.

    ``batch_size`` images are worked on together at most; ``processes`` like this one share the machine's memory. What
    is worked on is written to ``in_hand``.
    """

    def __init__(self, source: MaskSource, batch_size: int, processes: int = 1, in_hand: InHand | None = None):
        self._source, self._in_hand = source, in_hand
        self._backoff = Backoff(batch_size)
        self._memory = MemoryBudget(cpu_memory_limit(source.device, processes))
        self._lock = Lock()
        self._float32: MaskSource | None = None

    def __call__(self, batch: Sequence[Loaded]) -> list[tuple[Row, Result | None]]:
        """The row of each image, and its result where it has one. Images without pixels must not be among them.

        Raises DeviceLost, and what is no image's fault.
        """
        started = time.monotonic()
        results = [
            self._retried(loaded, result) if isinstance(result, Failure) else result
            for loaded, result in zip(batch, self._backoff.run(batch, self._make, self._fitting), strict=True)
        ]
        seconds = round((time.monotonic() - started) / max(len(batch), 1), 4)
        return [_with_row(loaded, result, seconds) for loaded, result in zip(batch, results, strict=True)]

    def _make(self, batch: Sequence[Loaded]) -> Sequence[Result]:
        need = self._source.estimate_memory(batch)
        if self._source.device.type == "cpu":
            _check_memory(need)
        hold = self._in_hand.hold([loaded.sample.id for loaded in batch]) if self._in_hand else nullcontext()
        with self._memory.reserve(math.inf if self._suspected(batch[0]) else need), hold:
            return self._source.make(batch)

    def _suspected(self, loaded: Loaded) -> bool:
        """Whether a process died with the image in hand: it is worked on alone, so that a second leaves no doubt."""
        return self._in_hand is not None and self._in_hand.deaths[loaded.sample.id] > 0

    def _fitting(self, batch: Sequence[Loaded]) -> int:
        """How many of the first images may be worked on together: none of them suspected, not too many pixels."""
        unsuspected = takewhile(lambda loaded: not self._suspected(loaded), batch)
        return _fitting(list(unsuspected))

    def _retried(self, loaded: Loaded, failure: Failure) -> Result | Failure:
        """An image again whose maps were not finite in a lower precision; the failure where that is no help."""
        if not failure.not_finite or not (source := self._in_float32()):
            return failure
        try:
            return source.make([loaded])[0]
        except (ValueError, FloatingPointError, MemoryError, RuntimeError) as error:
            return Failure(f"in float32, too: {failure_of(error)[0].reason}")

    def _in_float32(self) -> MaskSource | None:
        with self._lock:
            if self._float32 is None:
                self._float32 = self._source.in_float32()
                if self._source.device.type == "cuda":  # other threads read the weights on streams of their own
                    torch.cuda.current_stream(self._source.device).synchronize()
            return self._float32


def _with_row(loaded: Loaded, result: Result | Failure, seconds: float) -> tuple[Row, Result | None]:
    sample = loaded.sample
    if isinstance(result, Failure):
        return Row(sample.id, "failed", result.reason, sample.labels), None
    if not isinstance(result, PseudoMask):
        scores = result.scores if isinstance(result, TaggedImage) else None
        return Row(sample.id, "ok", labels=sample.labels, size=result.size, seconds=seconds, scores=scores), result
    sure = result.mean_confidence
    row = Row(
        sample.id,
        "ok",
        labels=sample.labels if result.tags is None else result.labels,
        size=result.size,
        seconds=seconds,
        confidence=None if sure is None else round(sure, 4),
        missing=result.missing_labels,
        foreground=round(result.foreground_share, 6),
        regions=loaded.regions_sum,
        scores=_scores(sample, result),
    )
    return row, result


def _scores(sample: object, result: PseudoMask) -> Mapping[str, float] | None:
    """The scores of the labels where CLIP found them, now or when the run made the maps that are decided again."""
    earlier = sample.row.scores if isinstance(sample, SavedSample) and sample.row else None
    return earlier if result.tags is None else result.tags


def _check_memory(need: float) -> None:
    """Raise MemoryError where a batch cannot be worked on: the system would kill the process for it."""
    available = memory_limit() - memory_in_use()
    if _LEAST_SHARE * need > available:
        raise MemoryError(
            f"it needs about {need / 2**30:.1f} GB of memory, and this process may have {available / 2**30:.1f} GB "
            "more; give it more, or make the picture smaller"
        )


def _fitting(batch: Sequence[Loaded]) -> int:
    """How many of the first images have no more than ``_MAX_PIXELS`` together."""
    sizes = (0 if loaded.pixels is None else loaded.pixels.shape[0] * loaded.pixels.shape[1] for loaded in batch)
    return sum(total <= _MAX_PIXELS for total in accumulate(sizes))
