"""The lattice's kernels against slow statements and the torch path: interpreted on a CPU, or as they are on a GPU."""

import numpy as np
import pytest
import reference
import torch

pytest.importorskip("triton")

from hopper import compiled

from clipes import kernels
from clipes.config import CrfConfig
from clipes.kernels import lattice as fast
from clipes.kernels.links import link
from clipes.refine import crf
from clipes.refine.compiled import compiled_mean_field, library
from clipes.refine.crf import mean_field
from clipes.refine.lattice import build_lattice
from clipes.scenes import draw_scene

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def _own_lattices():
    """None that is kept comes from elsewhere, and none is left behind."""
    crf._cached_spatial.cache_clear()
    yield
    crf._cached_spatial.cache_clear()


@pytest.fixture
def choose(monkeypatch):
    """Switches the kernels on and off."""
    return lambda on: monkeypatch.setattr(kernels, "usable", lambda tensor, kernel: on)


def slow_links(keys, moves):
    number = {key: place for place, key in enumerate(keys)}
    return [
        [[number.get(key + move, len(keys)), number.get(key - move, len(keys))] for key in keys] + [[len(keys)] * 2]
        for move in moves
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 127, 128, 300])
@pytest.mark.parametrize("range_", [1, 3, 2**40])
def test_links_equal_a_dictionarys(count, range_):
    """Keys without gaps, with some, and far apart; steps to either side."""
    generator = np.random.default_rng(count)
    keys = np.unique(generator.integers(0, count * range_, count))
    moves = [1, -2, 7, int(keys[-1] - keys[0]), int(keys[len(keys) // 2] - keys[0]) + 5]
    got = link(torch.from_numpy(keys).to(DEVICE), moves)
    assert got.dtype == torch.int32
    assert got.tolist() == slow_links(keys.tolist(), moves)


def test_links_of_large_keys_that_share_a_slot():
    """Multiples of a large power of two hash alike but for the highest bits: the search goes on to the next slot."""
    keys = torch.arange(200, dtype=torch.int64) << 54
    moves = [1 << 54, -(3 << 54), 1 << 20]
    assert link(keys.to(DEVICE), moves).tolist() == slow_links(keys.tolist(), moves)


def random_points(n, d, spread, seed):
    return (np.random.default_rng(seed).normal(size=(n, d)) * spread).astype(np.float32)


def assert_filters_alike(points, channels, choose, counts=None):
    values = torch.from_numpy(np.random.default_rng(1).random((len(points), channels), np.float32)).to(DEVICE)
    choose(False)
    plain = build_lattice(torch.from_numpy(points).T.to(DEVICE), counts or [len(points)])
    expected = plain.filter(values)
    got = fast.filter_values(plain, values)
    assert got.shape == values.shape and got.dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 * float(expected.max()))
    assert torch.equal(got, fast.filter_values(plain, values))
    choose(True)
    linked = build_lattice(torch.from_numpy(points).T.to(DEVICE), counts or [len(points)])
    assert torch.equal(linked.neighbours, plain.neighbours)
    assert torch.equal(got, linked.filter(values))
    return got


@pytest.mark.parametrize(("n", "d", "spread", "channels"), [(1, 5, 1.0, 1), (61, 2, 3.0, 20), (70, 5, 0.5, 3)])
def test_filters_equal_torchs_and_the_dictionarys(n, d, spread, channels, choose):
    points = random_points(n, d, spread, n)
    got = assert_filters_alike(points, channels, choose)
    values = np.random.default_rng(1).random((n, channels), np.float32)
    slow = reference.lattice_filter(points.astype(np.float64), values.astype(np.float64))
    np.testing.assert_allclose(got.cpu(), slow, rtol=0, atol=1e-5 * slow.max())


def test_every_number_of_channels(choose):
    choose(False)
    lattice = build_lattice(torch.from_numpy(random_points(7, 2, 1.0, 2)).T.to(DEVICE), [7])
    for channels in range(1, 21):
        values = torch.rand(7, channels, generator=torch.Generator().manual_seed(channels)).to(DEVICE)
        torch.testing.assert_close(fast.filter_values(lattice, values), lattice.filter(values))


LONGEST = pytest.param(2, 700, 1, marks=pytest.mark.slow)


@pytest.mark.parametrize(("tile", "n", "channels"), [(32, 31, 2), (32, 32, 1), (32, 33, 3), (32, 100, 2), LONGEST])
def test_long_rows(tile, n, channels, choose, monkeypatch):
    """Points at few places; the last has rows of more tiles than one program adds up at a time."""
    monkeypatch.setattr(fast, "_TILE", tile)
    places = random_points(3, 2, 2.0, n)
    points = np.concatenate([places[np.zeros(n, np.int64)], places[1:], places[:1]])
    assert_filters_alike(points, channels, choose)
    if n == 33:
        assert_filters_alike(np.concatenate([points, points]), channels, choose, [len(points)] * 2)


def a_picture(size, kind, seed):
    generator = np.random.default_rng(seed)
    if kind == "flat":
        return torch.full((*size, 3), 90, dtype=torch.uint8)
    return torch.from_numpy(generator.integers(0, 256 if kind == "noise" else 9, (*size, 3), dtype=np.uint8))


def some_scores(labels, size, seed):
    scores = np.random.default_rng(seed + 1).random((labels + 1, *size)) ** 2
    return torch.from_numpy((scores / scores.sum(0)).astype(np.float32))


BATCHES = [
    [((1, 1), "flat", 1)],
    [((2, 3), "noise", 0)],
    pytest.param([((1, 1), "noise", 20)], marks=pytest.mark.slow),
    pytest.param([((9, 7), "dark", 1)], marks=pytest.mark.slow),
    pytest.param([((11, 9), "flat", 3)], marks=pytest.mark.slow),
    pytest.param([((3, 5), "noise", 20)], marks=pytest.mark.slow),
    [((7, 6), "dark", 2), ((3, 5), "noise", 5), ((1, 4), "flat", 0)],
]


@pytest.mark.parametrize("batch", BATCHES)
def test_mean_fields_with_kernels_equal_those_without(batch, choose):
    images = [a_picture(size, kind, seed).to(DEVICE) for seed, (size, kind, _) in enumerate(batch)]
    scores = [some_scores(labels, size, seed).to(DEVICE) for seed, (size, _, labels) in enumerate(batch)]
    for config in (CrfConfig(iterations=2), CrfConfig(1, smooth_sigma=2.0, smooth_weight=9.0, colour_sigma=30.0)):
        choose(False)
        plain = mean_field(images, scores, config)
        crf._cached_spatial.cache_clear()
        choose(True)
        for rows, expected, got in zip(scores, plain, mean_field(images, scores, config), strict=True):
            assert got.shape == rows.shape and got.is_contiguous()
            torch.testing.assert_close(got, expected, rtol=0, atol=2e-5)


def test_a_mean_field_by_kernels_equals_the_literal_one(choose):
    choose(True)
    image, scores = a_picture((6, 8), "dark", 3), some_scores(3, (6, 8), 3)
    config = CrfConfig(iterations=4)
    slow = reference.mean_field(image.numpy(), scores.numpy(), config, reference.lattice_kernel)
    got, again = (mean_field([image.to(DEVICE)], [scores.to(DEVICE)], config)[0] for _ in range(2))
    assert torch.equal(got, again)
    np.testing.assert_allclose(got.cpu(), slow, rtol=0, atol=1e-4)


def test_only_one_lattice_is_kept_for_a_size(choose):
    choose(True)
    images, scores = [a_picture((4, 5), "noise", 0).to(DEVICE)] * 3, [some_scores(1, (4, 5), 0).to(DEVICE)] * 3
    mean_field(images, scores, CrfConfig(iterations=1))
    assert crf._cached_spatial.cache_info().misses == 1


@pytest.mark.parametrize(
    "channels", [1, *(pytest.param(channels, marks=pytest.mark.slow) for channels in (3, 5, 9, 20))]
)
def test_the_kernels_compile_for_hopper(channels, tmp_path):
    """To machine code, without a GPU: what the interpreter takes, the compiler may refuse."""
    calls = f"""
from clipes.kernels.lattice import filter_values, iterate
from clipes.kernels.links import link
from clipes.refine.lattice import build_lattice
link(torch.arange(5), [1, 2])
lattices = [(1.0, build_lattice(torch.rand(d, 40), [40])) for d in (2, 5)]
filter_values(lattices[0][1], torch.rand(40, {channels}))
iterate(torch.rand({channels + 1}, 40), torch.rand(40), lattices, 2)
"""
    names = [kernel["name"] for kernel in compiled(calls, tmp_path)]
    assert set(names) == {"_insert", "_find", "_splat", "_add_tiles", "_blur", "_slice", "_update"}


# --- at real sizes


def scenes():
    sizes = [(375, 500), (500, 375), (375, 500), (333, 500)]
    images = [torch.from_numpy(draw_scene(seed, size).image.copy()) for seed, size in enumerate(sizes)]
    return images, [smooth(labels, size, labels) for labels, size in zip((1, 2, 4, 20), sizes, strict=True)]


def smooth(labels, size, seed):
    coarse = torch.rand(1, labels + 1, 24, 32, generator=torch.Generator().manual_seed(seed)) ** 3 + 1e-4
    scores = torch.nn.functional.interpolate(coarse, size, mode="bilinear")[0]
    return (scores / scores.sum(0)).contiguous()


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="torch sees no CUDA device")
def test_on_a_gpu_bits_repeat_and_labels_are_those_of_the_cpu():
    images, scores = scenes()
    there = [image.cuda() for image in images], [rows.cuda() for rows in scores]
    first, second = mean_field(*there, CrfConfig()), mean_field(*there, CrfConfig())
    for image, rows, got, again in zip(images, scores, first, second, strict=True):
        assert torch.equal(got, again)
        plain = mean_field([image], [rows], CrfConfig())[0]
        torch.testing.assert_close(got.cpu(), plain, rtol=0, atol=1e-3)
        assert (got.cpu().argmax(0) == plain.argmax(0)).float().mean() > 0.9999
        if library() is not None:
            compiled = compiled_mean_field(library(), image.numpy(), rows.numpy(), CrfConfig())
            assert (got.cpu().numpy().argmax(0) == compiled.argmax(0)).mean() > 0.9999


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="torch sees no CUDA device")
def test_on_a_gpu_a_large_picture_of_one_colour_takes_seconds():
    image, scores = torch.full((2000, 2000, 3), 90, dtype=torch.uint8).cuda(), smooth(2, (2000, 2000), 0).cuda()
    mean_field([image[:8, :8]], [scores[:, :8, :8].contiguous()], CrfConfig())  # compiles the kernels
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    mean_field([image], [scores], CrfConfig())
    stop.record()
    torch.cuda.synchronize()
    assert start.elapsed_time(stop) < 5000
