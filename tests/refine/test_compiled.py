"""The compiled library: where it comes from, what happens without it, what it keeps, threads."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec

import numpy as np
import pytest

from clipes.config import CrfConfig
from clipes.refine import compiled
from clipes.refine.compiled import compiled_mean_field, library
from clipes.refine.crf import dense_crf

needs_compiled = pytest.mark.skipif(library() is None, reason="this installation has no compiled CRF")


def random_picture(size, labels=2, seed=0):
    generator = np.random.default_rng(seed)
    scores = generator.random((labels + 1, *size)).astype(np.float32)
    return generator.integers(0, 256, (*size, 3), dtype=np.uint8), scores / scores.sum(0)


@pytest.fixture
def found(monkeypatch):
    """Tells the loader where the library lies: a path, or None."""

    def find(origin):
        spec = None if origin is None else ModuleSpec("clipes.refine._crf", None, origin=str(origin))
        monkeypatch.setattr(
            compiled.importlib.util, "find_spec", lambda name: spec if name == "clipes.refine._crf" else None
        )
        library.cache_clear()

    yield find
    library.cache_clear()


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_without_it_the_portable_execution_is_used_and_that_is_said_once(found, caplog):
    image, scores = random_picture((20, 30))
    before = dense_crf(image, scores)
    found(None)
    for _ in range(3):
        np.testing.assert_allclose(dense_crf(image, scores), before, rtol=0, atol=1e-3)
    assert library() is None
    assert warnings(caplog) == [
        "no compiled CRF (it was not built): the portable one gives the same masks, about three times slower; "
        "with a C++ compiler, install clipes again"
    ]
    assert caplog.records[0].name == "clipes"


@pytest.mark.parametrize("content", [b"", b"not a library", b"\x7fELF" + bytes(100), None])
def test_a_broken_library_is_as_none(found, caplog, tmp_path, content):
    path = tmp_path / "_crf.so"
    if content is not None:
        path.write_bytes(content)
    found(path)
    image, scores = random_picture((5, 6))
    np.testing.assert_allclose(dense_crf(image, scores).sum(0), 1, rtol=0, atol=1e-5)
    (message,) = warnings(caplog)
    assert message.startswith("no compiled CRF (") and str(path) in message


@needs_compiled
def test_with_it_nothing_is_said(caplog):
    library.cache_clear()
    dense_crf(*random_picture((5, 6)))
    assert not caplog.records


@needs_compiled
def test_it_is_the_one_that_is_used(monkeypatch):
    def refuse(*_):
        raise RuntimeError("the portable one")

    monkeypatch.setattr("clipes.refine.crf.mean_field", refuse)
    dense_crf(*random_picture((5, 6)))


def test_importing_does_not_load_it():
    """Nor say that it is missing: that is for those who refine."""
    code = "import clipes.refine.compiled as c, clipes; print(c.library.cache_info().currsize)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "0\n"


class Counting:
    """The library, which counts the lattices that are made and freed."""

    def __init__(self):
        self.made, self.freed = [], []
        self.clipes_mean_field = library().clipes_mean_field

    def clipes_spatial(self, height, width, sigma):
        self.made.append(library().clipes_spatial(height, width, sigma))
        return self.made[-1]

    def clipes_free(self, address):
        self.freed.append(address)
        library().clipes_free(address)


@pytest.fixture
def counting():
    compiled._cached_spatial.cache_clear()
    code = Counting()
    yield code
    compiled._cached_spatial.cache_clear()
    gc.collect()
    assert sorted(code.freed) == sorted(code.made), "each lattice is freed, once"


@needs_compiled
def test_a_spatial_lattice_is_built_once_for_a_size_and_sigma(counting):
    for seed in (0, 1):
        compiled_mean_field(counting, *random_picture((4, 5), seed), CrfConfig(bilateral_sigma=9.0 + seed))
    assert len(counting.made) == 1
    compiled_mean_field(counting, *random_picture((4, 5)), CrfConfig(smooth_sigma=2.0))
    compiled_mean_field(counting, *random_picture((5, 4)), CrfConfig())
    assert len(counting.made) == 3


@needs_compiled
def test_those_of_large_pictures_are_freed_at_once(counting, monkeypatch):
    monkeypatch.setattr(compiled, "_MAX_CACHED_PIXELS", 30)
    for size, kept in (((5, 6), 1), ((5, 7), 1), ((31, 1), 1), ((1, 30), 2)):
        compiled_mean_field(counting, *random_picture(size), CrfConfig())
        gc.collect()
        assert len(counting.made) - len(counting.freed) == kept


@needs_compiled
def test_a_dropped_lattice_lives_on_while_it_is_used(counting):
    lattice = compiled._cached_spatial(counting, 3, 3, 1.0)
    alive = weakref.ref(lattice)
    compiled._cached_spatial.cache_clear()
    assert not counting.freed
    del lattice
    gc.collect()
    assert counting.freed == counting.made and alive() is None


@needs_compiled
def test_threads_give_the_bits_of_one_after_the_other():
    pictures = [random_picture((30 + index % 5, 41), labels=1 + index % 6, seed=index) for index in range(24)]
    expected = [dense_crf(*picture) for picture in pictures]
    compiled._cached_spatial.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        refined = list(pool.map(lambda picture: dense_crf(*picture), pictures * 2))
    for one, other in zip(refined, expected * 2, strict=True):
        np.testing.assert_array_equal(one, other)


@needs_compiled
@pytest.mark.parametrize("labels", [0, 1, 2, 3, 4, 5, 8, 9, 21])
def test_only_the_result_is_written(labels):
    """Labels go in groups of up to four, pixels in groups of sixteen; strided input is copied."""
    for size in ((1, 1), (3, 5), (4, 4), (1, 17), (7, 9)):
        image, scores = random_picture(size, labels)
        wide, long = np.repeat(image, 2, axis=1), np.repeat(scores, 2, axis=2)
        kept = wide.copy(), long.copy()
        refined = compiled_mean_field(library(), wide[:, ::2], long[:, :, ::2], CrfConfig())
        np.testing.assert_array_equal(refined, compiled_mean_field(library(), image, scores, CrfConfig()))
        np.testing.assert_array_equal(wide, kept[0])
        np.testing.assert_array_equal(long, kept[1])
        np.testing.assert_allclose(refined.sum(0), 1, rtol=0, atol=1e-5)


class Failing:
    """A library that has no room: for a lattice (no address), or for what follows (a status)."""

    def __init__(self, address, status):
        self.address, self.status, self.freed = address, status, 0

    def clipes_spatial(self, height, width, sigma):
        return self.address

    def clipes_mean_field(self, *arguments):
        return self.status

    def clipes_free(self, address):
        self.freed += 1


@pytest.mark.parametrize(("address", "freed"), [(None, 0), (1, 1)])
def test_want_of_memory_is_an_error_in_words(address, freed):
    code = Failing(address, status=1)
    with pytest.raises(MemoryError, match="no memory for the CRF of a picture of 6 x 4 pixels; make it smaller"):
        compiled_mean_field(code, *random_picture((6, 4)), CrfConfig())
    compiled._cached_spatial.cache_clear()
    gc.collect()
    assert code.freed == freed


@needs_compiled
def test_the_library_refuses_kernels_too_narrow_for_its_keys():
    """The door has checked that before; without it, the library must not write where it should not."""
    for settings in ({"bilateral_sigma": 1e-4}, {"bilateral_sigma": 1e-30}, {"colour_sigma": 1e-12}):
        with pytest.raises(ValueError, match="kernels are too narrow for 6 x 4 pixels; use larger sigmas"):
            compiled_mean_field(library(), *random_picture((6, 4)), CrfConfig(**settings))
    for sigma in (1e-6, 1e-12, 1e-50):
        with pytest.raises(MemoryError):
            compiled_mean_field(library(), *random_picture((6, 4)), CrfConfig(smooth_sigma=sigma))
