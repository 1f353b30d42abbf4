"""A sample's picture as pixels, or the reason why there are none. Needs no torch: any process may decode."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipes.datasets import Sample
from clipes.datasets.sample import RegionPlace
from clipes.io.cams_npz import PatchCams
from clipes.io.images import TarMember, file_of, open_image
from clipes.io.retry import LastingTrouble, check_folders, passing_cause, retried
from clipes.regions import read_regions
from clipes.regions.files import regions_checksum
from clipes.store.row import Row


@dataclass(frozen=True)
class SavedSample(Sample):
    """A sample of which a run has saved the maps; where no picture of it is found, ``image`` is the maps' file.

    Attributes:
        maps: where its maps are.
        row: what the run says of the image.
    """

    maps: Path | TarMember | None = None
    row: Row | None = None


class Loaded(NamedTuple):
    """A sample with what its mask is made from, or with the reason why that cannot be had.

    Attributes:
        sample: the sample.
        pixels: its picture, (H, W, 3) uint8 RGB, upright; None where it cannot be read, or is not needed.
        maps: its saved maps, where the mask is decided from those.
        regions: ids (H, W) of its regions, where they are read; None elsewhere.
        regions_sum: the checksum of what they were read from; None elsewhere.
        reason: why no mask can be made; empty where one can.
        missing: whether the reason is that the file does not exist.
        warnings: what was warned of while it was read.
    """

    sample: Sample
    pixels: NDArray[np.uint8] | None = None
    maps: PatchCams | None = None
    regions: NDArray[np.int32] | None = None
    regions_sum: str | None = None
    reason: str = ""
    missing: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def image(self) -> Image.Image:
        """The pixels as a picture; ValueError where there are none."""
        if self.pixels is None:
            raise ValueError(f"{self.sample.image}: {self.reason}")
        return Image.fromarray(self.pixels)


Decoder = Callable[[Sample], Loaded]
"""Reads one sample. It pickles, and never raises for what is wrong with one file: see :func:`read_patiently`."""


def decode_image(sample: Sample, folders: Collection[Path] = (), unsegmented: int = 0) -> Loaded:
    """Read the picture of a sample, and its regions if it has any; ``unsegmented`` is the id of none.

    ``folders`` are absolute, and held files when the run began. An image that is not there is waited for, as
    :mod:`clipes.io.retry` says, if its folder of those is gone or empty: a share that is not mounted.
    """
    loaded = read_patiently(sample, sample.image, partial(_decode, sample, folders))
    return loaded if loaded.pixels is None else with_regions(loaded, loaded.pixels.shape[:2], unsegmented)


def with_regions(loaded: Loaded, size: tuple[int, ...], unsegmented: int) -> Loaded:
    """``loaded`` with the regions of its sample, if it has any; a reason where they are not of ``size`` or not read."""
    if loaded.sample.regions is None:
        return loaded
    read = partial(_read_regions, loaded, loaded.sample.regions, (size[0], size[1]), unsegmented)
    return read_patiently(loaded.sample, loaded.sample.regions.path, read)


def _read_regions(loaded: Loaded, place: RegionPlace, size: tuple[int, int], unsegmented: int) -> Loaded:
    checksum = regions_checksum(place)  # first: where the file changes meanwhile, the next start sees it
    return loaded._replace(regions=read_regions(place, size, unsegmented), regions_sum=checksum)


def read_patiently(sample: Sample, file: Path | TarMember, read: Callable[[], Loaded]) -> Loaded:
    """What ``read`` returns; the reason of its error where only ``file`` is to blame.

    Raises :class:`clipes.io.retry.LastingTrouble` where no file of its folder can be read.
    """
    try:
        return retried(read, file_of(file))
    except LastingTrouble:
        raise
    except (ValueError, OSError, MemoryError) as error:
        return Loaded(sample, reason=short_reason(error, sample))


def _decode(sample: Sample, folders: Collection[Path]) -> Loaded:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            loaded = Loaded(sample, np.asarray(open_image(sample.image)))
        except FileNotFoundError:
            check_folders(file_of(sample.image), folders)
            loaded = Loaded(sample, reason="no such image", missing=True)
        except (ValueError, OSError, MemoryError) as error:
            if passing_cause(error):
                raise
            loaded = Loaded(sample, reason=short_reason(error, sample))
    return loaded._replace(warnings=tuple(str(warning.message) for warning in caught))


def short_reason(error: Exception, sample: Sample) -> str:
    """The text of an error without the name of the image, which an outcome has already."""
    text = str(error) or "out of memory"
    return text.removeprefix(f"{sample.image}: ").removesuffix(f": {sample.image}")
