"""The regions of a picture: those that are given with it, or those that the settings compute of it."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipes.config import GivenRegionsConfig, RegionsConfig
from clipes.datasets.sample import RegionPlace

from .arrays import RegionsLike, region_ids
from .files import read_regions
from .superpixels import superpixels


def regions_of(
    image: Image.Image, config: RegionsConfig | None, given: RegionsLike | RegionPlace | None = None
) -> NDArray[np.int32] | None:
    """The regions of a picture as ids (H, W) int32, 0 for none; None where it has none by ``config``.

    ``given`` are its regions, in place of those of ``config``: what :func:`clipes.regions.region_ids` takes, a file as
    :func:`clipes.regions.read_regions` does, or a function from the picture to one of these.

    Raises ValueError where ``config`` says that they are given, and they are not; other errors as of those functions.
    """
    if given is None:
        if isinstance(config, GivenRegionsConfig):
            raise ValueError("the settings take regions that come with each picture, and there are none; give regions")
        return None if config is None else superpixels(image, config)
    if callable(given):
        given = given(image)
    size, unsegmented = (image.height, image.width), getattr(config, "unsegmented", 0)
    if isinstance(given, str | os.PathLike | RegionPlace):
        return read_regions(given, size, unsegmented)
    return region_ids(given, size, unsegmented)
