"""clipes.prompting.sharpness: the formula against slow loops, what is refused, bootstrap and rank correlation."""

from __future__ import annotations

import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import clipes
from clipes.evaluation import bootstrap as evaluation_bootstrap
from clipes.evaluation.bootstrap import interval
from clipes.prompting.sharpness import (
    Moments,
    bootstrap,
    label_moments,
    pooled,
    prompt_sharpness,
    rank_correlation,
)


def slow_sharpness(rows, average="micro") -> float:
    """Equation 9 as it stands, in exact fractions: images with two labels or more, population variance."""
    variances, means = [], []
    for row in rows:
        values = [Fraction(float(value)) for value in row]
        if len(values) < 2:
            continue
        mean = sum(values) / len(values)
        means.append(mean)
        variances.append(sum((value - mean) ** 2 for value in values) / len(values))
    if average == "micro":
        return float(sum(variances) / sum(means))
    return float(sum(v / m if m else Fraction(0) for v, m in zip(variances, means, strict=True)) / len(means))


@st.composite
def ragged(draw, least=0):
    """One list of label probabilities per image, what is left to 1 being the background's; one has two labels."""
    rows = []
    for size in [2, *draw(st.lists(st.integers(least, 6), max_size=12))]:
        shares = np.array([draw(st.floats(0.001, 1)) for _ in range(size + 1)])
        rows.append((shares / shares.sum())[1:].tolist())
    return rows


@given(ragged(), st.sampled_from(["micro", "macro"]))
def test_equals_the_formula_in_fractions(rows, average):
    assert prompt_sharpness(rows, average) == pytest.approx(slow_sharpness(rows, average), rel=1e-12, abs=1e-15)


def test_by_hand_and_under_its_public_name():
    rows = [[0.6, 0.2], [0.1, 0.1, 0.4]]  # variances 0.04 and 0.02, means 0.4 and 0.2
    assert prompt_sharpness(rows) == pytest.approx(0.06 / 0.6)
    assert prompt_sharpness(rows, "macro") == pytest.approx((0.1 + 0.1) / 2)
    assert clipes.prompting.prompt_sharpness is prompt_sharpness


def test_micro_and_macro_differ_where_a_mean_is_small():
    rows = [[0.9, 0.05], [0.002, 0.0]]
    assert prompt_sharpness(rows) == pytest.approx((0.180625 + 1e-6) / (0.475 + 0.001))
    assert prompt_sharpness(rows, "macro") == pytest.approx((0.180625 / 0.475 + 1e-6 / 0.001) / 2)


def test_the_variance_is_the_populations():
    assert prompt_sharpness([[0.5, 0.1]]) == pytest.approx(0.04 / 0.3)  # the sample's would be 0.08 / 0.3


@given(ragged())
def test_images_with_fewer_than_two_labels_change_nothing(rows):
    assert prompt_sharpness([[0.9], *rows, [], [0.1]]) == prompt_sharpness([row for row in rows if len(row) > 1])


@given(ragged(least=2))
def test_lies_below_the_largest_probability(rows):
    for average in ("micro", "macro"):
        assert 0 <= prompt_sharpness(rows, average) < max(map(max, rows))


@given(ragged(), st.randoms())
def test_the_order_of_images_and_labels_is_nothing(rows, random):
    shuffled = [random.sample(row, len(row)) for row in rows]
    random.shuffle(shuffled)
    assert prompt_sharpness(shuffled) == pytest.approx(prompt_sharpness(rows), rel=1e-12, abs=1e-15)


def test_even_labels_are_not_sharp_and_one_winner_is():
    assert prompt_sharpness([[0.3, 0.3, 0.3]]) == pytest.approx(0, abs=1e-15)
    assert prompt_sharpness([[1.0, 0.0]]) == 0.5


@pytest.mark.parametrize("tiny", [1e-20, 1e-150, 1e-300, 5e-324])
def test_tiny_means_are_stable(tiny):
    assert prompt_sharpness([[tiny, 0.0]]) == pytest.approx(tiny / 2, abs=1e-300)
    assert prompt_sharpness([[tiny, 0.0], [0.5, 0.1]], "macro") == pytest.approx(0.4 / 6)


def test_an_image_whose_probabilities_are_all_0_has_the_limit():
    assert prompt_sharpness([[0, 0]]) == prompt_sharpness([[0.0, 0.0]], "macro") == 0
    assert prompt_sharpness([[0, 0], [0.5, 0.1]]) == prompt_sharpness([[0.5, 0.1]])
    assert prompt_sharpness([[0, 0], [0.5, 0.1]], "macro") == pytest.approx(0.5 * 0.4 / 3)


def test_takes_lists_arrays_tensors_and_iterators():
    expected = prompt_sharpness([[0.75, 0.25], [0.5, 0.25]])
    array = np.array([[0.75, 0.25], [0.5, 0.25]], np.float16)
    for given_as in (array, torch.from_numpy(array), [array[0], torch.tensor([0.5, 0.25])], iter(array.tolist())):
        assert prompt_sharpness(given_as) == expected


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([], ValueError, "none of 0 images has two labels or more"),
        ([[0.5], []], ValueError, "none of 2 images has two labels.*give images with more"),
        ([[0.5, 0.2], [0.1, 1.5]], ValueError, r"image 2: 1\.5 is not a probability in \[0, 1\]; pass softmax"),
        ([[0.5, -0.1]], ValueError, r"image 1: -0\.1 is not a probability"),
        ([[0.5, math.nan]], ValueError, "image 1: nan is not a probability"),
        ([[0.5, math.inf]], ValueError, "image 1: inf is not a probability"),
        ([[7.0]], ValueError, r"image 1: 7\.0 is not a probability"),
        ([[0.7, 0.7]], ValueError, r"image 1: its probabilities sum to 1\.4; take one softmax"),
        ([0.5, 0.2], TypeError, "image 1: 0.5 is not a list of numbers; give one list per image"),
        ([[0.5, "a"]], TypeError, r"image 1: \[0\.5, 'a'\] is not a list of numbers"),
        ([[0.5, None]], TypeError, "is not a list of numbers"),
        ([[0.5, [0.1, 0.2]]], TypeError, "is not a list of numbers"),
        ([[[0.5, 0.1]]], TypeError, "is not a list of numbers"),
        ([[True, False]], TypeError, "is not a list of numbers"),
        ([[0.5, 0.1j]], TypeError, "is not a list of numbers"),
        ("0.5", TypeError, "probabilities are '0.5'; give one list of numbers per image"),
        (0.5, TypeError, "probabilities are 0.5; give one list"),
    ],
)
def test_refuses_what_is_no_probability(rows, error, message):
    with pytest.raises(error, match=message):
        prompt_sharpness(rows)


def test_rounding_of_a_softmax_is_no_error():
    assert prompt_sharpness([np.array([0.75, 0.2505], np.float16)]) > 0


def test_refuses_another_average():
    with pytest.raises(ValueError, match="average is 'mean'; it is 'micro' or 'macro'"):
        prompt_sharpness([[0.5, 0.1]], "mean")


# --- many templates at once


def _tables(rng, templates=5, images=9):
    counts = rng.integers(1, 6, images)
    return rng.random((templates, counts.sum())), counts


def test_moments_of_many_templates_equal_those_of_each_image():
    flat, counts = _tables(np.random.default_rng(0))
    found = label_moments(flat, counts)
    assert found.mean.shape == (5, 9) and found.variance.dtype == np.float64
    for template, row in enumerate(flat):
        for image, part in enumerate(np.split(row, np.cumsum(counts)[:-1])):
            assert found.mean[template, image] == pytest.approx(part.mean())
            assert found.variance[template, image] == pytest.approx(part.var(), abs=1e-15)


def test_the_variance_of_nearly_equal_labels_does_not_cancel():
    found = label_moments(np.array([0.5, 0.5 + 2e-9]), np.array([2]))
    assert found.variance[0] == pytest.approx(1e-18, rel=1e-6)


def test_pooled_many_templates_equals_one_at_a_time():
    rng = np.random.default_rng(1)
    counts = rng.integers(2, 6, 9)
    flat = rng.random((4, counts.sum())) / 6
    for average in ("micro", "macro"):
        expected = [slow_sharpness(np.split(row, np.cumsum(counts)[:-1]), average) for row in flat]
        np.testing.assert_allclose(pooled(label_moments(flat, counts), average), expected, rtol=1e-12)


def test_bootstrap_equals_drawing_the_images_one_by_one():
    moments = label_moments(*_tables(np.random.default_rng(2)))
    found, rng = bootstrap(moments, draws=20, seed=3), np.random.default_rng(3)
    for draw in range(20):
        drawn = rng.integers(0, 9, 9).tolist()
        for template in range(5):
            variance, mean = (sum(part[template, image] for image in drawn) for part in moments)
            assert found[draw, template] == pytest.approx(variance / mean)


def test_a_draw_is_the_same_for_every_template():
    flat, counts = _tables(np.random.default_rng(4), templates=1)
    found = bootstrap(label_moments(np.concatenate([flat, 0.5 * flat, flat]), counts), draws=50)
    assert (found[:, 0] == found[:, 2]).all()
    np.testing.assert_allclose(found[:, 1], 0.5 * found[:, 0])
    assert len(np.unique(found[:, 0])) > 40


def test_the_seed_decides_and_the_blocks_do_not(monkeypatch):
    moments = label_moments(*_tables(np.random.default_rng(5)))
    first, other = bootstrap(moments, draws=31), bootstrap(moments, draws=31, seed=1)
    assert (first == bootstrap(moments, draws=31)).all() and (first != other).any()
    monkeypatch.setattr(evaluation_bootstrap, "_BLOCK", 20)  # two draws of nine images
    np.testing.assert_allclose(bootstrap(moments, draws=31), first, rtol=1e-13)


def test_the_memory_of_the_bootstrap_is_bounded(monkeypatch):
    monkeypatch.setattr(evaluation_bootstrap, "_BLOCK", 1 << 16)
    rng = np.random.default_rng(0)
    moments = Moments(rng.random((40, 5000)), rng.random((40, 5000)))
    tracemalloc.start()
    bootstrap(moments, draws=400)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20  # all weights at once: 16 MiB; all draws of all templates: 640 MiB


def test_an_image_of_all_zeros_does_not_break_a_draw():
    moments = Moments(np.array([[0.0, 0.04]]), np.array([[0.0, 0.3]]))
    found = bootstrap(moments, draws=100)
    assert np.isfinite(found).all() and set(found.ravel().round(9)) == {0.0, round(0.04 / 0.3, 9)}


def test_interval_holds_the_middle_of_the_draws():
    draws = np.stack([np.arange(1001.0), np.full(1001, 7.0)], axis=1)
    np.random.default_rng(0).shuffle(draws)
    np.testing.assert_allclose(interval(draws), [[25, 975], [7, 7]])
    np.testing.assert_allclose(interval(draws, 0.8), [[100, 900], [7, 7]])


def test_the_interval_covers_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    large = label_moments(_two(rng, 200_000), np.full(200_000, 2))
    truth = pooled(large)[0]
    for trial in range(100):
        moments = label_moments(_two(rng, 80), np.full(80, 2))
        low, high = interval(bootstrap(moments, draws=300, seed=trial))[0]
        hits += low <= truth <= high
    assert 85 <= hits <= 100


def _two(rng, images):
    first = rng.random(images)
    return np.stack([first, (1 - first) * rng.random(images)], axis=1).reshape(1, -1)


# --- rank correlation


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=12))
def test_equals_spearmanr_with_ties(pairs):
    x, y = np.array(pairs, float).T
    found = rank_correlation(x, y, draws=20).coefficient
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(stats.spearmanr(x, y).statistic)


def test_its_interval_equals_spearmanr_of_each_draw():
    rng = np.random.default_rng(0)
    x = rng.random(15)
    y = x + 0.3 * rng.random(15)
    places = np.random.default_rng(2).integers(0, 15, (200, 15))
    draws = [stats.spearmanr(x[place], y[place]).statistic for place in places]
    found = rank_correlation(x, y, draws=200, seed=2)
    np.testing.assert_allclose(found[1:], np.quantile(draws, (0.025, 0.975)))
    assert -1 <= found.low < found.coefficient < found.high <= 1


def test_few_templates_have_no_interval():
    found = rank_correlation([1, 2, 3], [3, 2, 1])
    assert found.coefficient == -1 and math.isnan(found.low) and math.isnan(found.high)
    x = np.arange(10)
    assert math.isnan(rank_correlation(x[:9], -x[:9]).low)
    assert rank_correlation(x, -x)[1:] == (-1, -1)


def test_draws_without_an_order_are_left_out():
    x = np.array([0.0] * 9 + [1.0])
    found = rank_correlation(x, -x)  # of the draws, a third never see the last
    assert found == (-1, -1, -1)


def test_nothing_to_order_is_nan():
    assert all(map(math.isnan, rank_correlation([1, 1, 1], [1, 2, 3])))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2], [1, 2], r"3 or more, not \(2,\) and \(2,\)"),
        ([1, 2, 3], [1, 2], r"not \(3,\) and \(2,\)"),
        ([[1, 2, 3]], [[1, 2, 3]], r"not \(1, 3\)"),
        ([1, 2, math.nan], [1, 2, 3], "takes numbers, not nan"),
    ],
)
def test_rank_correlation_refuses(x, y, message):
    with pytest.raises(ValueError, match=message):
        rank_correlation(x, y)
