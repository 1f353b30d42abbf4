"""Slow, obvious statements of the affinities besides CLIP-ES's own, written from their formulas in loops."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def attention_affinity(
    attention: Tensor,
    grid: tuple[int, int],
    *,
    votes: Tensor | None = None,
    least: int = 0,
    rounds: int = 0,
    symmetric: bool = True,
    power: float = 1.0,
    radius: int | None = None,
    epsilon: float | None = None,
) -> Tensor:
    """Attention (N, N) to the affinity (N, N), a step at a time, in the order in which the settings are listed."""
    a = attention.double().clone()
    count = len(a)
    for i, j in np.ndindex(count, count):
        if votes is not None and votes[i, j] < least:
            a[i, j] = 0
    for _ in range(rounds):
        for j in range(count):
            a[:, j] /= max(a[:, j].sum(), 1e-300)
        for i in range(count):
            a[i] /= max(a[i].sum(), 1e-300)
    if symmetric:
        a = (a + a.T) / 2
    for i, j in np.ndindex(count, count):
        a[i, j] = a[i, j] ** power
        rows, columns = abs(i // grid[1] - j // grid[1]), abs(i % grid[1] - j % grid[1])
        if radius is not None and max(rows, columns) > radius:
            a[i, j] = 0
    if epsilon is not None:
        for i in range(count):
            total = a[i].sum() + epsilon
            a[i] = a[i] / total if total > 0 else 0
    return a


def cosines(features: NDArray, centred: bool, threshold: float) -> NDArray[np.float64]:
    """Cosines (N, N) of the rows of (N, D), 0 below the threshold."""
    features = features.astype(np.float64)
    if centred:
        features = features - features.mean(0)
    unit = [row / (math.sqrt(sum(row**2)) + 1e-5) for row in features]
    result = np.zeros((len(unit), len(unit)))
    for i, j in np.ndindex(result.shape):
        value = float(unit[i] @ unit[j])
        result[i, j] = value if value >= threshold else 0
    return result


def pixel_correlation(cam: NDArray, features: NDArray, config) -> NDArray[np.float64]:
    """SEAM's module: ``hops`` times m W, W the cosines, each column divided by its sum; a map (N,) to one, unscaled."""
    w = cosines(features, config.centred, config.threshold) ** config.power
    w = w / (w.sum(0) + 1e-5)
    cam = cam.astype(np.float64)
    for _ in range(config.hops):
        cam = np.array([sum(cam[i] * w[i, j] for i in range(len(cam))) for j in range(len(cam))])
    return cam


def range_scaled(values: NDArray, epsilon: float = 1e-10) -> NDArray[np.float64]:
    return (values - values.min()) / (values.max() - values.min() + epsilon)


def self_correlation(features: NDArray, config) -> NDArray[np.float64]:
    """SPA's matrix of one layer, (N, N): the larger of first and higher order, columns divided by their sums."""
    s = cosines(features, config.centred, config.threshold)
    count = len(s)
    first = s / (s.sum(0) + 1e-5)
    step = s * (1 - np.eye(count))
    step = step / (step.sum(0) + 1e-5)
    higher = step
    for _ in range(config.order - 1):
        higher = higher @ step
        higher = higher / (higher.sum(0) + 1e-10)
    for i, j in np.ndindex(count, count):
        if higher[i, j] < config.higher_threshold / count:
            higher[i, j] = 0
    if config.higher_weight == 0:
        return first
    joined = np.maximum(first, config.higher_weight * higher)
    return joined / (joined.sum(0) + 1e-10)


def seed_contrast(cam: NDArray, layers: list[NDArray], config) -> NDArray[np.float64]:
    """SPA's map (N,) from a map and the layers' features: what its foreground seeds see less what its background's."""
    matrix = sum(self_correlation(features, config) for features in layers)
    cam, parts = range_scaled(cam.astype(np.float64)), []
    for seeds in (
        [j for j, m in enumerate(cam) if m >= config.foreground],
        [j for j, m in enumerate(cam) if m <= config.background],
    ):
        total = np.zeros(len(cam))
        for j in seeds:
            total += range_scaled(matrix[:, j])
        parts.append(range_scaled(total))
    return range_scaled(np.maximum(parts[0] - parts[1], 0))
