"""Class-agnostic regions of a picture: read from files and arrays, or superpixels; their vote on a mask, its instances.

All of it ends in ids (H, W) int32, 0 where there is no region. Nothing here knows CLIP or maps; what regions do to an
affinity is in :mod:`clipes.cams`.
"""

from .arrays import RegionsLike, region_ids
from .files import read_regions
from .instances import Instances, instances
from .picture import regions_of
from .superpixels import SUPERPIXELS, superpixels

__all__ = [
    "SUPERPIXELS",
    "Instances",
    "RegionsLike",
    "instances",
    "read_regions",
    "region_ids",
    "regions_of",
    "superpixels",
]
