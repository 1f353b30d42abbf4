"""Masks from maps that a run has saved, without a network: the source of :mod:`clipes.runs.finalize`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from clipes.config import Config
from clipes.datasets import Sample
from clipes.decision import decision_memory
from clipes.io.cams_npz import read_cams
from clipes.io.images import TarMember, file_of
from clipes.io.retry import check_folders, passing_cause
from clipes.regions import regions_of
from clipes.result import PseudoMask, decide_masks
from clipes.store.checksums import verified

from .decoding import Loaded, SavedSample, decode_image, read_patiently, with_regions


@dataclass(frozen=True)
class MapsDecoder:
    """Reads the maps of a sample, its regions, and its picture if ``with_image``; without, the maps say its size.

    Maps that are ``scoped`` go with the regions that they were made within, and no others. ``folders`` are those of
    the maps and of the pictures, as for :func:`clipes.runs.decoding.decode_image`.
    """

    class_count: int
    with_image: bool
    unsegmented: int = 0
    scoped: bool = False
    folders: tuple[Path, ...] = ()

    def __call__(self, sample: Sample) -> Loaded:
        """Read one sample."""
        if not isinstance(sample, SavedSample) or sample.maps is None:
            return Loaded(sample, reason="it has no saved maps")
        loaded = self._load(sample, sample.maps)
        if self.scoped and sample.row and loaded.regions_sum != sample.row.regions and not loaded.reason:
            reason = "its maps were made within other regions; make them again with `clipes generate`"
            return Loaded(sample, reason=reason, warnings=loaded.warnings)
        return loaded

    def _load(self, sample: SavedSample, file: Path | TarMember) -> Loaded:
        read = read_patiently(sample, file, partial(self._read, sample))
        maps = read.maps
        if maps is None or not self.with_image:
            return read if maps is None else with_regions(read, maps.size, self.unsegmented)
        if sample.image == sample.maps:
            reason = f"no image {sample.id!r} in the source; say where the images are (--source)"
            return Loaded(sample, reason=reason)
        loaded = decode_image(sample, self.folders, self.unsegmented)
        if loaded.pixels is None:
            return loaded
        height, width = loaded.pixels.shape[:2]
        if (height, width) != maps.size:
            reason = (
                f"{sample.image} is {height} x {width}, its maps are of {maps.size[0]} x {maps.size[1]}; "
                "it is another picture than the one that the maps were made from"
            )
            return Loaded(sample, reason=reason, warnings=loaded.warnings)
        return loaded._replace(maps=maps)

    def _read(self, sample: SavedSample) -> Loaded:
        if sample.maps is None:
            return Loaded(sample, reason="it has no saved maps")
        try:
            path = verified(sample.maps, sample.row, "cams") if sample.row else sample.maps
            return Loaded(sample, maps=read_cams(path, self.class_count))
        except (ValueError, OSError) as error:
            if passing_cause(error) is None:
                check_folders(file_of(sample.maps), self.folders)
            raise


def needs_images(config: Config) -> bool:
    """Whether a mask is decided from its maps by the colours of its picture, too."""
    return config.refine is not None or (config.regions is not None and config.regions.needs_colours)


class MasksFromSavedMaps:
    """Masks decided from saved maps, on the CPU: a :class:`clipes.runs.generation.MaskSource`."""

    device = torch.device("cpu")
    batch_size = 1

    def __init__(self, class_names: Sequence[str], config: Config, folders: tuple[Path, ...] = ()):
        self.class_names, self._config = class_names, config
        unsegmented, scoped = getattr(config.regions, "unsegmented", 0), config.scope is not None
        self.decode = MapsDecoder(len(class_names), needs_images(config), unsegmented, scoped, folders)

    def estimate_memory(self, batch: Sequence[Loaded]) -> int:
        """Bytes of CPU memory that :meth:`make` takes at most, about."""
        maps = [loaded.maps for loaded in batch if loaded.maps]
        pixels, labels = [one.size[0] * one.size[1] for one in maps], [len(one.class_ids) for one in maps]
        return decision_memory(pixels, labels, self._config)

    def make(self, batch: Sequence[Loaded]) -> list[PseudoMask]:
        """The masks of images whose maps are loaded."""
        maps = [loaded.maps for loaded in batch if loaded.maps]
        images = [  # without a picture a black one, of which only the size is used
            Image.new("RGB", one.size[::-1]) if loaded.pixels is None else loaded.image
            for loaded, one in zip(batch, maps, strict=True)
        ]
        class_ids, cams = [one.class_ids.tolist() for one in maps], [torch.from_numpy(one.patch_cams) for one in maps]
        regions = [
            regions_of(image, self._config.regions, loaded.regions) for image, loaded in zip(images, batch, strict=True)
        ]
        return decide_masks(images, class_ids, cams, self.class_names, self._config, regions)

    def in_float32(self) -> None:
        """None: the maps are float32."""
