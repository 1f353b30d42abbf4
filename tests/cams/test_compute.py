"""Which pictures are encoded together, and that it makes no difference."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import make_clip
from PIL import Image

from clipes.cams import compute
from clipes.cams.compute import compute_cams, encode_images, encode_pixels, estimate_memory
from clipes.clip.open_clip_vision import vision_encoder
from clipes.config import VOC12
from clipes.device.pixels import prepare
from clipes.io.images import patch_grid
from clipes.scenes import draw_scenes

BLOCK = SimpleNamespace(heads=12, mlp=SimpleNamespace(fc_weight=torch.empty(3072, 0)))
GPU: Any = SimpleNamespace(device=torch.device("cuda"), blocks=[BLOCK])


@given(st.lists(st.integers(1, 3000), max_size=40), st.integers(1, 8))
def test_groups_of_a_gpu(patches: list[int], fit: int) -> None:
    """Every picture once; no more than the memory has room for; padding adds an eighth at most."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute, "free_gpu_memory", lambda device: fit * estimate_memory(GPU, 1000))
        groups = list(compute._batches_by_size(patches, GPU))
    assert sorted(index for group in groups for index in group) == list(range(len(patches)))
    for group in groups:
        most, least = (best(patches[index] for index in group) for best in (max, min))
        assert 8 * most <= 9 * least
        assert len(group) == 1 or len(group) * estimate_memory(GPU, most) <= fit * estimate_memory(GPU, 1000)


def test_equal_pictures_are_one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "free_gpu_memory", lambda device: 1e12)
    assert list(compute._batches_by_size([768, 768, 192, 768, 190], GPU)) == [[0, 1, 3], [2, 4]]


def test_on_a_cpu_each_is_a_group() -> None:
    encoder = vision_encoder(make_clip())
    assert list(compute._batches_by_size([4, 4, 9], encoder)) == [[0], [1], [2]]


def test_memory_grows_with_the_square_of_the_patches() -> None:
    assert 3 * 4 * 12 * 4096**2 < estimate_memory(GPU, 4096) < 2 * 3 * 4 * 12 * 4096**2


def test_pictures_of_several_sizes_together_are_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upright and lying, and one of fewer patches, in one batch: maps within 1e-5 of those of each alone."""
    encoder = vision_encoder(make_clip(seed=1, layers=4))
    sizes = [(40, 56), (56, 40), (40, 50), (33, 56)]
    images = [Image.fromarray(next(draw_scenes(1, 3_000_800 + i, size)).image) for i, size in enumerate(sizes)]
    ids = [[1], [2, 5, 3], [4, 1], [5]]
    text = torch.nn.functional.normalize(torch.randn(9, 1, 24, generator=torch.Generator().manual_seed(2)), dim=-1)
    alone = []
    for (members, encoded), wanted in zip(encode_images(encoder, images, VOC12), ids, strict=True):
        alone += compute_cams(encoder, encoded, text, [wanted], 5, VOC12)
        assert len(members) == 1
    pixels = [
        prepare(image, patch_grid(size, 8, 4096), 8, encoder.mean, encoder.std)
        for image, size in zip(images, sizes, strict=True)
    ]
    encoded = encode_pixels(encoder, pixels, VOC12)
    assert encoded.grids == ((5, 7), (7, 5), (5, 7), (5, 7))
    together = compute_cams(encoder, encoded, text, ids, 5, VOC12)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    cut = pixels[1][:, :40, :32]
    smaller = encode_pixels(encoder, [pixels[0], cut], VOC12)
    assert smaller.last_block.token_mask.sum(1).tolist() == [36, 21]
    both = compute_cams(encoder, smaller, text, ids[:2], 5, VOC12)
    (one,) = compute_cams(encoder, encode_pixels(encoder, cut[None], VOC12), text, ids[1:2], 5, VOC12)
    torch.testing.assert_close(both[0], alone[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(both[1], one, rtol=0, atol=1e-5)
