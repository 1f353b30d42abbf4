"""clipes.datasets.catalog: samples on disk."""

import errno
import gc
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clipes.datasets import Sample, find_images, find_samples
from clipes.datasets.catalog import add_images, catalogue
from clipes.datasets.sample import RawSample


@pytest.fixture
def tree(tmp_path):
    """Return a function that makes empty files below a folder `images` and returns that folder."""

    def make(*names):
        for name in names:
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "images"

    return make


def _ids(samples):
    return [sample.id for sample in samples]


def test_samples_are_a_sequence(tree):
    samples = find_samples(tree(*(f"{number}.jpg" for number in range(10))), ["dog"])
    whole = list(samples)
    assert len(samples) == 10 and [sample.id for sample in whole] == list("0123456789")
    assert samples[3] == whole[3] and samples[-1] == whole[9] and samples[-10] == whole[0]
    assert samples[2:9:3] == whole[2:9:3] and samples[::-1] == whole[::-1]
    assert whole[4] in samples and Sample("4", Path("other.jpg"), ()) not in samples
    for index in (10, -11):
        with pytest.raises(IndexError):
            samples[index]


def test_two_loops_at_once_and_other_threads(tree):
    samples = find_samples(tree("a.jpg", "b.jpg", "c.jpg"), ["dog"])
    assert [(x.id, y.id) for x in samples for y in samples] == [(x, y) for x in "abc" for y in "abc"]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda index: samples[index % 3].id, range(600))) == ["a", "b", "c"] * 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_samples_live_through_a_fork(tree):
    samples = find_samples(tree(*(f"{number:03}.jpg" for number in range(300))), ["dog"])
    iterator = iter(samples)
    seen = [next(iterator).id]
    child = os.fork()
    if child == 0:
        del iterator, samples
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    seen += [sample.id for sample in iterator]
    assert seen == [f"{number:03}" for number in range(300)] == _ids(samples)


def test_a_full_disk_is_an_os_error():
    message = "no space for the list of images; free some, or set SQLITE_TMPDIR"
    with pytest.raises(OSError, match=message) as error, catalogue() as database:
        database.execute("PRAGMA max_page_count = 20")
        names = (f"{number}.jpg" for number in range(100_000))
        add_images(database, "here", (RawSample(name, Path(name), ()) for name in names), None)
    assert error.value.errno == errno.ENOSPC


def test_images_by_their_ids(tree):
    folder = tree("a.jpg", "cats/b.png")
    images = find_images(folder)
    assert dict(images) == {"a": folder / "a.jpg", "cats/b": folder / "cats/b.png"}
    assert "a.jpg" not in images and images.get("c") is None and len(images) == 2


@pytest.mark.slow
def test_memory_does_not_grow_with_the_samples(tmp_path):
    """As objects, these would take 15 MB; SQLite's cache is bounded, and not traced. A process has no other threads."""
    (tmp_path / "t.csv").write_text("image,labels\n" + "".join(f"{n}.jpg,dog\n" for n in range(20_000)))
    script = """
import sys, tracemalloc
from clipes.datasets import find_samples
tracemalloc.start()
samples = find_samples(sys.argv[1], missing="skip")
assert sum(1 for _ in samples) == len(samples) == 20_000
print(tracemalloc.get_traced_memory()[1])
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, tmp_path / "t.csv"], capture_output=True, text=True
    )
    peak = int(done.stdout)
    assert peak < 8_000_000  # of which Python's table of strings takes 4
