"""Slow statements of what regions do, pixel by pixel, written from the papers."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np


def mode_vote(mask, regions, ignore):
    """CorrCLIP's map correction; ties go to the smallest id."""
    new = mask.copy()
    for region in set(regions.ravel().tolist()) - {0}:
        inside = [place for place in np.ndindex(mask.shape) if regions[place] == region and mask[place] != ignore]
        counts = Counter(int(mask[place]) for place in inside)
        for place in inside:
            new[place] = min(counts, key=lambda index: (-counts[index], index))
    return new


def sepl_vote(mask, regions, majority, share, keep):
    """SEPL's rule; ``regions`` are sets of places."""
    new = {place: 0 for place in np.ndindex(mask.shape)}
    used = set()
    for index in sorted(set(mask.ravel().tolist()) - {0}):
        own = {place for place in np.ndindex(mask.shape) if mask[place] == index}
        free = [number for number in range(len(regions)) if number not in used]
        found = own - set().union(*(regions[number] for number in free)) if keep else set()
        for number in free:
            both = len(own & regions[number])
            if both > majority * len(regions[number]) or both >= share * len(own):
                found |= regions[number]
                used.add(number)
        new |= dict.fromkeys(found, index)
    return np.array([new[place] for place in np.ndindex(mask.shape)]).reshape(mask.shape)


def instances(mask, regions, ignore):
    """Sets of places of each class, in the order of the classes and of their first places."""
    places = [place for place in np.ndindex(mask.shape) if mask[place] not in (0, ignore)]
    voted = mode_vote(mask, regions, ignore)
    found = {}
    rest = []
    for place in places:
        if regions[place] and voted[place] == mask[place]:
            found.setdefault(regions[place], set()).add(place)
        else:
            rest.append(place)
    wholes = {number: frozenset(one) for number, one in found.items()}
    while rest:
        part = [rest.pop(0)]
        for place in part:
            near = [other for other in rest if _border(place, other) and mask[other] == mask[place]]
            part += near
            rest = [other for other in rest if other not in near]
        borders = {
            number: sum(_border(a, b) for a in part for b in whole)
            for number, whole in wholes.items()
            if mask[next(iter(whole))] == mask[part[0]]
        }
        longest = min(borders, key=lambda number: (-borders[number], number), default=None)
        number = longest if longest is not None and borders[longest] else -len(found) - 1
        found.setdefault(number, set()).update(part)
    return sorted(found.values(), key=lambda one: (mask[min(one)], min(one)))


def prompt(mask, ignored):
    """SAMRefiner's box and points; places are (row, column)."""
    places = list(np.ndindex(mask.shape))
    own = [place for place in places if mask[place]]
    rows, columns = zip(*own, strict=True)
    top, bottom, left, right = min(rows), max(rows), min(columns), max(columns)
    box = [place for place in places if top <= place[0] <= bottom and left <= place[1] <= right]

    def farthest(chosen, others):
        return max(chosen, key=lambda place: (min(math.dist(place, other) for other in others), -places.index(place)))

    frame = [(row, column) for row in (-1, mask.shape[0]) for column in range(mask.shape[1])]
    frame += [(row, column) for row in range(mask.shape[0]) for column in (-1, mask.shape[1])]
    inside = farthest(own, [place for place in places if not mask[place]] or frame)
    free = [place for place in box if not mask[place] and not ignored[place]]
    outside = farthest(free, [place for place in box if place not in free])[::-1] if free else None
    return (left, top, right, bottom), inside[::-1], outside


def _border(a, b):
    return abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1


def patch_regions(regions, grid):
    """The most frequent region of each patch's pixels, for pictures that the grid divides."""
    (height, width), (h, w) = regions.shape, grid
    found = []
    for row, column in np.ndindex(h, w):
        patch = regions[row * height // h : (row + 1) * height // h, column * width // w : (column + 1) * width // w]
        counts = Counter(patch.ravel().tolist())
        found.append(min(counts, key=lambda index: (-counts[index], index)))
    return found


def in_scope(similarity, regions):
    """Which patches of one image exchange, as CorrCLIP has it; each has itself."""
    count = len(regions)
    allowed = np.zeros((count, count), bool)
    for i, j in np.ndindex(count, count):
        if regions[i] == 0 or regions[j] == 0:
            allowed[i, j] = similarity[i, j] > similarity.mean()
        else:
            allowed[i, j] = regions[i] == regions[j]
        allowed[i, j] |= i == j
    return allowed
