"""clipes.evaluation.bootstrap: the mIoU of drawn images against adding them up one by one."""

import numpy as np
import pytest

from clipes.evaluation import bootstrap as module
from clipes.evaluation.bootstrap import ImageCounts, bootstrap_miou, interval, resamples
from clipes.evaluation.metrics import ClassCounts, class_counts


def _images(seed: int, count: int = 7, variants: int = 2):
    """Masks and truths of 5 classes, some of which an image lacks; and their counts."""
    rng, masks, images = np.random.default_rng(seed), [], []
    for _ in range(count):
        present = rng.choice(6, 3, replace=False)
        truth, *own = rng.choice([*present, 255], (variants + 1, 40), p=[0.3, 0.3, 0.3, 0.1])
        counts = np.stack([np.stack(class_counts(mask, truth, 5)[:3]) for mask in own])
        occurring = np.flatnonzero(counts.any(axis=(0, 1)))
        images.append(ImageCounts(occurring, counts[..., occurring]))
        masks.append((truth, own))
    return masks, images


def test_a_draw_is_the_miou_of_the_images_drawn():
    masks, images = _images(3)
    found, rng = bootstrap_miou(images, draws=15, seed=4), np.random.default_rng(4)
    assert found.shape == (15, 2)
    for row in found:
        drawn = rng.integers(0, 7, 7).tolist()
        for variant, value in enumerate(row):
            pairs = [class_counts(masks[i][1][variant], masks[i][0], 5) for i in drawn]
            assert value == pytest.approx(ClassCounts(*(sum(parts) for parts in zip(*pairs, strict=True))).miou)


def test_the_blocks_do_not_count(monkeypatch):
    _, images = _images(5)
    first = bootstrap_miou(images, draws=31)
    monkeypatch.setattr(module, "_BLOCK", 20)
    assert [len(block) for block in resamples(7, 5)] == [2, 2, 1]
    np.testing.assert_allclose(bootstrap_miou(images, draws=31), first, rtol=1e-13)


def test_one_image_has_no_width():
    _, images = _images(6, count=1)
    assert (np.diff(interval(bootstrap_miou(images, draws=50))) == 0).all()
