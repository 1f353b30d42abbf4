"""Prompt sharpness: how unevenly a template distributes the probability among an image's labels (CLIP-ES section 3.3).

With a sharp template one label takes nearly all the probability, and the maps of the others suffer. Equation 9 of the
paper is modelled on the coefficient of variation, with the variance in place of the standard deviation; it does not
show how the images are pooled. Here, for s_ij the softmax probability of label j of image i, and the population
variance (division by the number of labels): the ratio of sums, sum_i var_j(s_ij) / sum_i mean_j(s_ij).

Axes: N images, L labels of all images together, T templates.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from clipes.evaluation.bootstrap import DRAWS, interval, resamples

Average = Literal["micro", "macro"]

MIN_TEMPLATES = 10
"""Templates that a rank correlation needs for an interval."""

_TOLERANCE = 1e-3  # by which the sum of a softmax may exceed 1 through rounding, also in half precision


class Moments(NamedTuple):
    """Variance and mean over the labels of each image: two float64 arrays (N,), or (T, N) for T templates."""

    variance: NDArray[np.float64]
    mean: NDArray[np.float64]


class RankCorrelation(NamedTuple):
    """Spearman's coefficient in [-1, 1] and the ends of its interval; nan where the ranks are not defined."""

    coefficient: float
    low: float
    high: float


def prompt_sharpness(probabilities: Iterable[ArrayLike], average: Average = "micro") -> float:
    """The sharpness of a prompt (CLIP-ES, equation 9), in [0, 1); lower is better.

    ``probabilities`` holds one sequence per image: the softmax probabilities of the image's own labels, where these
    labels and all background words competed. The variance is the population's (division by the number of labels).
    ``average="micro"`` is the sum of the images' variances over the sum of their means, ``"macro"`` the mean of the
    images' ratios; an image whose probabilities are all 0 has the ratio 0, which is the limit. Images with fewer than
    two labels have no variance and are left out.

    >>> probabilities = [[0.7, 0.1], [0.3, 0.3, 0.2], [0.9]]    # the last image has one label
    >>> round(prompt_sharpness(probabilities), 4)               # (0.09 + 0.00222) / (0.4 + 0.26667)
    0.1383
    >>> round(prompt_sharpness(probabilities, "macro"), 4)      # (0.09 / 0.4 + 0.00222 / 0.26667) / 2
    0.1167

    Raises:
        ValueError: no image with two labels; a probability that is nan or outside [0, 1]; probabilities of an image
            whose sum is above 1.
        TypeError: something else than one sequence of numbers per image.
    """
    if average not in get_args(Average):
        raise ValueError(f"average is {average!r}; it is 'micro' or 'macro'")
    if isinstance(probabilities, str | bytes) or not isinstance(probabilities, Iterable):
        raise TypeError(f"probabilities are {reprlib.repr(probabilities)}; give one list of numbers per image")
    rows = [_checked(row, number) for number, row in enumerate(probabilities, start=1)]
    multiple = [row for row in rows if len(row) > 1]
    if not multiple:
        raise ValueError(
            f"none of {len(rows)} images has two labels or more, and one label has no variance; give images with more"
        )
    counts = np.array([len(row) for row in multiple])
    return float(pooled(label_moments(np.concatenate(multiple), counts), average))


def label_moments(probabilities: NDArray[Any], counts: NDArray[np.integer[Any]]) -> Moments:
    """Variance and mean of each image's labels, for many templates at once.

    Takes (..., L) probabilities, image by image, and how many labels each of N images has (N,), at least one each.
    Returns two (..., N) float64 arrays.

    >>> label_moments(np.array([[0.75, 0.25, 0.5, 0.5], [0.25, 0.25, 0.75, 0.25]]), np.array([2, 2])).variance
    array([[0.0625, 0.    ],
           [0.    , 0.0625]])
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    starts = np.cumsum(counts) - counts
    mean = np.add.reduceat(probabilities, starts, axis=-1) / counts
    deviation = probabilities - np.repeat(mean, counts, axis=-1)  # squares of differences: no cancellation
    return Moments(np.add.reduceat(deviation * deviation, starts, axis=-1) / counts, mean)


def pooled(moments: Moments, average: Average = "micro") -> NDArray[np.float64]:
    """The sharpness over all images: (...,) float64 from moments (..., N)."""
    if average == "macro":
        return np.asarray(_ratio(*moments).mean(-1))
    return _ratio(moments.variance.sum(-1), moments.mean.sum(-1))


def bootstrap(moments: Moments, draws: int = DRAWS, seed: int = 0) -> NDArray[np.float64]:
    """The (micro) sharpness of T templates over as many images drawn with replacement: (draws, T).

    Takes moments (T, N). A draw takes the same images for every template, so that templates can be compared draw by
    draw. The memory does not grow with draws x N x T, because a draw is N weights, and a block of draws is one product.
    """
    blocks = resamples(moments.mean.shape[-1], draws, seed)
    return np.concatenate([_ratio(weights @ moments.variance.T, weights @ moments.mean.T) for weights in blocks])


def rank_correlation(first: ArrayLike, second: ArrayLike, draws: int = DRAWS, seed: int = 0) -> RankCorrelation:
    """Spearman's rank correlation of two figures of T templates, with a bootstrap interval over the templates.

    The interval is for other templates drawn in the same way; it is too narrow where templates nearly repeat each
    other, as many of CLIP's do. The coefficient is nan where all values of a figure are equal, the interval also for
    fewer than :data:`MIN_TEMPLATES` templates, because most draws would repeat the same few.

    >>> rank_correlation([1, 2, 3, 4], [0.9, 0.7, 0.6, 0.1]).coefficient
    -1.0

    Raises ValueError for figures that are not of one length, of at least 3, or hold nan.
    """
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 3:
        raise ValueError(f"a rank correlation takes two lists of one length, 3 or more, not {x.shape} and {y.shape}")
    if np.isnan([x, y]).any():
        raise ValueError("a rank correlation takes numbers, not nan; leave those templates out")
    indices = np.random.default_rng(seed).integers(0, len(x), (draws, len(x)))
    drawn = _spearman(x[indices], y[indices])
    if np.isnan(drawn).all():
        return RankCorrelation(np.nan, np.nan, np.nan)
    low, high = interval(drawn[:, None])[0].tolist() if len(x) >= MIN_TEMPLATES else (np.nan, np.nan)
    return RankCorrelation(float(_spearman(x[None], y[None])[0]), low, high)


def _checked(row: ArrayLike, number: int) -> NDArray[np.float64]:
    """The probabilities of one image, (C,) float64."""
    try:
        values = np.asarray(row)
    except ValueError:  # lists of several lengths within
        values = np.array(None)
    if values.ndim != 1 or (values.dtype.kind not in "fiu" and values.size):
        raise TypeError(f"image {number}: {reprlib.repr(row)} is not a list of numbers; give one list per image")
    values = values.astype(np.float64)
    wrong = ~((values >= 0) & (values <= 1 + _TOLERANCE))  # nan too
    if wrong.any():
        raise ValueError(f"image {number}: {values[wrong][0]} is not a probability in [0, 1]; pass softmax outputs")
    if values.sum() > 1 + _TOLERANCE:
        raise ValueError(
            f"image {number}: its probabilities sum to {values.sum():.4g}; "
            "take one softmax over its labels and the background"
        )
    return values


def _ratio(variance: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """``variance / mean``; where the mean is 0 the limit, 0, because the ratio is at most the largest probability."""
    ratio = np.zeros(np.shape(mean))
    np.divide(variance, mean, out=ratio, where=mean > 0)
    return ratio


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's coefficient of each row of (R, T) and (R, T): Pearson's of the ranks, equal values sharing theirs.

    scipy.stats.spearmanr takes one pair of rows at a time.
    """
    a, b = (stats.rankdata(values, axis=1) - (values.shape[1] + 1) / 2 for values in (x, y))
    length = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    coefficients = np.full(len(x), np.nan)
    np.divide((a * b).sum(1), length, out=coefficients, where=length > 0)
    return coefficients.clip(-1, 1)
