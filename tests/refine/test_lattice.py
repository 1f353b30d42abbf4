"""The permutohedral lattice against the dictionary of the reference, and what a Gaussian filter must keep."""

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipes.refine.lattice import build_lattice, fits, join


def lattice_of(features, counts=None):
    points = torch.as_tensor(features, dtype=torch.float32)
    return build_lattice(points.T, counts or [len(points)])


def random_points(n, d, spread, seed, channels=3):
    generator = np.random.default_rng(seed)
    features = (generator.normal(size=(n, d)) * spread).astype(np.float32)
    return features, generator.random((n, channels)).astype(np.float32)


def assert_equals_the_reference(features, values):
    slow = reference.lattice_filter(features.astype(np.float64), values.astype(np.float64))
    got = lattice_of(features).filter(torch.from_numpy(values))
    np.testing.assert_allclose(got.numpy(), slow, rtol=0, atol=1e-5 * slow.max())


@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize(("n", "spread"), [(1, 1.0), (2, 0.1), (7, 1.0), (61, 0.3), (61, 3.0), (90, 30.0)])
def test_equals_the_dictionary(d, n, spread):
    assert_equals_the_reference(*random_points(n, d, spread, seed=10 * n + d))


@pytest.mark.parametrize(
    "features",
    [
        np.zeros((3, 5)),  # all ties: every coordinate of a point alike
        np.zeros((1, 2)),
        np.repeat(random_points(4, 5, 1.0, 1)[0], 5, axis=0),
        np.array([[column, row] for row in range(6) for column in range(7)]),
        np.array([[column, 0, 0, 0, 0] for column in range(-4, 5)]),
        np.array([[row / 67, column / 67, 0, 0, 0] for row in range(5) for column in range(8)]),
    ],
)
def test_ties_and_repeats_are_exact_too(features):
    values = np.random.default_rng(2).random((len(features), 2)).astype(np.float32)
    assert_equals_the_reference(features.astype(np.float32), values)


def test_the_rim_of_the_lattice_is_not_linked_to_the_other_side():
    """Points that fill the range of both coordinates: a key that is too short would run over into the next digit."""
    side = np.linspace(0, 18, 24)
    first, second = np.meshgrid(side + 0.7, side + 0.2)
    features = np.stack([(first - second) / np.sqrt(12), (first + second) / 2], axis=-1).reshape(-1, 2)
    assert_equals_the_reference(features.astype(np.float32), np.random.default_rng(0).random((576, 1), np.float32))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.sampled_from([2, 5]), st.floats(0, 100), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_any_points(n, d, spread, channels, seed):
    features, values = random_points(n, d, spread, seed, channels)
    lattice = lattice_of(features)
    ones = lattice.filter(torch.ones(n, 1))
    filtered = lattice.filter(torch.from_numpy(values))
    assert filtered.shape == (n, channels)
    assert (ones > 0).all()
    assert (filtered >= 0).all() and (filtered <= ones * (1 + 1e-5)).all()
    np.testing.assert_allclose(lattice.weights.sum(1), 1, rtol=0, atol=1e-4)
    assert lattice.weights.min() > -1e-4


def test_the_kernel_has_the_width_of_a_gaussian():
    """An impulse in a dense plane, over many places in the lattice: in the mean its variances are 1."""
    row, column = np.mgrid[:41, :41]
    plane = np.stack([column, row], axis=-1).reshape(-1, 2) / 4.0
    impulse = torch.zeros(41 * 41, 1)
    impulse[20 * 41 + 20] = 1
    variances = []
    for shift in np.random.default_rng(3).uniform(0, 9, (12, 2)):
        response = lattice_of(plane + shift).filter(impulse).numpy()[:, 0]
        share = response / response.sum()
        centre = share @ plane
        variances.append(share @ (plane - centre) ** 2)
        assert abs(centre - 5).max() < 0.3
        assert response.sum() == pytest.approx(2 * np.pi * 4**2, rel=0.15)
    np.testing.assert_allclose(np.mean(variances, axis=0), 1, rtol=0, atol=0.06)


@pytest.mark.parametrize(
    ("d", "worst", "mean"), [(1, 0.01, 0.004), (2, 0.02, 0.006), (3, 0.15, 0.012), (5, 0.35, 0.04)]
)
def test_is_about_the_sum_over_all_pairs(d, worst, mean):
    """With symmetric normalisation, at 200 points; the more dimensions, the more vertices are missing."""
    features, values = random_points(200, d, 1.0, 4, channels=1)
    lattice = lattice_of(features)
    norm = lattice.filter(torch.ones(200, 1)).rsqrt()
    pairs = reference.gaussian_kernel(features.astype(np.float64))
    exact = pairs / np.sqrt(np.outer(pairs.sum(0), pairs.sum(0))) @ values
    error = abs((norm * lattice.filter(norm * torch.from_numpy(values))).numpy() - exact)
    assert error.max() < worst
    assert error.mean() < mean


@pytest.mark.parametrize("d", [2, 5])
def test_pictures_do_not_meet(d):
    parts = [random_points(n, d, spread, seed) for seed, (n, spread) in enumerate([(40, 1.0), (1, 1.0), (25, 8.0)])]
    features = np.concatenate([points for points, _ in parts])
    values = torch.from_numpy(np.concatenate([values for _, values in parts]))
    singly = torch.cat([lattice_of(points).filter(torch.from_numpy(values)) for points, values in parts])
    torch.testing.assert_close(lattice_of(features, [40, 1, 25]).filter(values), singly)
    joined = join([lattice_of(points) for points, _ in parts])
    torch.testing.assert_close(joined.filter(values), singly)


def test_scaled_before_and_after():
    features, values = random_points(60, 5, 0.7, 10)
    factors = torch.from_numpy(np.random.default_rng(11).uniform(0.5, 2, (60, 1)).astype(np.float32))
    lattice, given_values = lattice_of(features), torch.from_numpy(values)
    expected = factors * lattice.filter(factors * given_values)
    torch.testing.assert_close(lattice.scaled(factors).filter(given_values), expected)


def test_the_order_of_points_does_not_matter():
    features, values = random_points(80, 5, 0.5, 5)
    order = np.random.default_rng(6).permutation(80)
    ordered = lattice_of(features[order]).filter(torch.from_numpy(values[order]))
    torch.testing.assert_close(ordered, lattice_of(features).filter(torch.from_numpy(values))[order])


def test_channels_are_filtered_alike_and_bits_repeat():
    features, values = random_points(80, 5, 0.5, 7)
    lattice, given_values = lattice_of(features), torch.from_numpy(values)
    filtered = lattice.filter(given_values)
    assert torch.equal(lattice_of(features).filter(given_values), filtered)
    for channel in range(3):
        alone = lattice.filter(given_values[:, channel, None])
        torch.testing.assert_close(alone, filtered[:, channel, None], rtol=0, atol=1e-5)
    torch.testing.assert_close(
        lattice.filter(5 - 2 * given_values), 5 * lattice.filter(torch.ones(80, 3)) - 2 * filtered
    )


@pytest.mark.parametrize("d", [1, 2, 5])
def test_rows_and_neighbours(d):
    """A vertex's row has its points, in their order; the one before has this one after it. The last vertex is none."""
    lattice = lattice_of(random_points(90, d, 1.0, 8)[0])
    none = lattice.neighbours.shape[1] - 1
    assert len(lattice.starts) == none + 2 and lattice.starts[0] == 0 and lattice.starts[-1] == 90 * (d + 1)
    for vertex in range(none):
        row = slice(lattice.starts[vertex], lattice.starts[vertex + 1])
        point, corner = (lattice.vertices == vertex).nonzero().unbind(1)
        order = torch.argsort(corner * 90 + point)
        assert len(order) > 0
        assert torch.equal(lattice.points[row], point[order].to(torch.int32))
        assert torch.equal(lattice.shares[row], lattice.weights[point, corner][order])
    assert lattice.starts[none] == lattice.starts[-1] and lattice.vertices.max() == none - 1
    linked = 0
    assert (lattice.neighbours[:, none] == none).all()
    for pairs in lattice.neighbours.to(torch.int64):
        for one, other in (pairs.unbind(1), pairs.flip(1).unbind(1)):
            here = torch.arange(none + 1)[one != none]
            assert torch.equal(other[one[here]], here)
            linked += len(here)
    assert linked > 0


@pytest.mark.parametrize(
    "direction",
    [(4.0, 3.0), (0.0, 1.0), (8.0, 6.0, 85.0, 85.0, 85.0), (4e5, 3e5, 1.0, 1.0, 1.0), (0.0, 0.0, 1.0, 0.0, 0.0)],
)
def test_whatever_fits_is_filtered(direction):
    """At the limit: points so far apart do not meet, two at one place do."""
    low, high = 0.0, 1e9
    for _ in range(60):
        low, high = (
            ((low + high) / 2, high) if fits([(low + high) / 2 * d for d in direction]) else (low, (low + high) / 2)
        )
    points = np.random.default_rng(9).random((40, len(direction)))
    points[0], points[1] = 0, 1
    features = (points * direction * low).astype(np.float32)
    ones = torch.ones(80, 1)
    together = lattice_of(np.concatenate([features, features])).filter(ones)
    singly = torch.cat([lattice_of(point[None]).filter(ones[:1]) for point in features])
    torch.testing.assert_close(together, 2 * singly.repeat(2, 1), rtol=1e-4, atol=0)


@pytest.mark.parametrize("reach", [(np.inf, 1.0), (1.0, 1e300), (1e7, 0.0), (1.0, 1.0, 1e5, 1e5, 1e5)])
def test_features_that_do_not_fit(reach):
    assert not fits(reach)


def test_too_many_vertices_together_are_refused():
    features = np.tile([[0.0] * 5, [8, 6, 1400, 1400, 1400]], (50, 1))
    lattice_of(features)
    with pytest.raises(
        ValueError, match="the CRF's kernels are too narrow for 50 pictures together; give fewer at a time"
    ):
        lattice_of(features, [2] * 50)
