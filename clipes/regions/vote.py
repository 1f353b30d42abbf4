"""Regions vote on a finished mask, so that it ends where they end.

Ignored pixels neither vote nor change. The id 0 of the background votes as the others do in :func:`mode_vote`, and not
in :func:`sepl_vote`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipes.config import ModeVoteConfig, SeplVoteConfig, VoteConfig


def vote(mask: NDArray[Any], regions: NDArray[Any], ignore: int, config: VoteConfig) -> NDArray[Any]:
    """The mask (H, W) after the vote of its regions, of its dtype; pixels of ``ignore`` stay, and no others have it.

    Takes ids (H, W) of classes, 0 for the background, and ids (H, W) of regions, 0 where there is none.
    """
    return VOTES[type(config)](mask, regions, ignore, config)


def mode_vote(mask: NDArray[Any], regions: NDArray[Any], ignore: int) -> NDArray[Any]:
    """Every region takes the most frequent id of its pixels, the smallest of equals; ignored ones do not count.

    Arguments and result as of :func:`vote`. The map correction of CorrCLIP (Zhang et al., ICCV 2025).

    >>> mode_vote(np.array([[2, 2, 0, 1, 255]]), np.array([[1, 1, 1, 0, 1]]), ignore=255).tolist()
    [[2, 2, 2, 1, 255]]
    """
    return np.where((mask != ignore) & (regions > 0), modes(mask, regions, ignore)[regions], mask)


def modes(mask: NDArray[Any], regions: NDArray[Any], ignore: int) -> NDArray[Any]:
    """The most frequent id of each region 0..n, as :func:`mode_vote` counts it; 0 has the smallest id of the mask."""
    ids, column = np.unique(mask, return_inverse=True)
    voters = (mask != ignore) & (regions > 0)
    cells = regions[voters].astype(np.int64) * len(ids) + column.reshape(mask.shape)[voters]
    counts = np.bincount(cells, minlength=(int(regions.max(initial=0)) + 1) * len(ids)).reshape(-1, len(ids))
    return np.asarray(ids[counts.argmax(1)])


def sepl_vote(mask: NDArray[Any], regions: NDArray[Any], config: SeplVoteConfig) -> NDArray[Any]:
    """Regions take the id of the class that has most of them, or most of which they have (SEPL, Chen et al., 2023).

    The classes choose in the order of their ids: one takes each region, not taken by an earlier class, of which it has
    more than ``config.majority``, or which has ``config.share`` of the class. Its pixels are then those regions and,
    with ``config.keep``, its old pixels outside of all regions that it could choose from; its other pixels become 0.
    Later classes overwrite.

    Args:
        mask: (H, W) ids of classes, 0 for the background. No value is ignored.
        regions: ids (H, W), 0 where there is none; or masks (n, H, W) bool, which may overlap.
        config: the settings.
    """
    old, new = mask.ravel(), np.zeros_like(mask).ravel()
    region, pixel, count = _members(regions)
    sizes, free = np.bincount(region, minlength=count), np.ones(count, dtype=bool)
    for index in np.unique(old[old > 0]):
        own = old == index
        shared = np.bincount(region[own[pixel]], minlength=count)
        taken = free & ((shared > config.majority * sizes) | (shared >= config.share * np.count_nonzero(own)))
        if config.keep:
            own[pixel[free[region]]] = False
            new[own] = index
        new[pixel[taken[region]]] = index
        free &= ~taken
    return new.reshape(mask.shape)


def _members(regions: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    """Pairs of a region and one of its pixels, as two arrays, and the number of regions."""
    if regions.ndim == 3:
        region, row, column = np.nonzero(regions)
        pixel = row * regions.shape[2] + column
        return region, pixel, len(regions)
    flat = regions.ravel()
    pixel = np.flatnonzero(flat)
    return flat[pixel].astype(np.intp) - 1, pixel, int(flat.max(initial=0))


def _mode(mask: NDArray[Any], regions: NDArray[Any], ignore: int, config: ModeVoteConfig) -> NDArray[Any]:
    return mode_vote(mask, regions, ignore)


def _sepl(mask: NDArray[Any], regions: NDArray[Any], ignore: int, config: SeplVoteConfig) -> NDArray[Any]:
    ignored = mask == ignore
    voted = sepl_vote(np.where(ignored, 0, mask), np.where(ignored, 0, regions), config)
    return np.where(ignored, mask, voted).astype(mask.dtype)


VOTES: dict[type, Callable[[NDArray[Any], NDArray[Any], int, Any], NDArray[Any]]] = {
    ModeVoteConfig: _mode,
    SeplVoteConfig: _sepl,
}
"""The function of each vote's settings, with the arguments of :func:`vote`."""
