"""GETAM: its code's numbers for given attention and gradients, and autograd's for a random CLIP."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import arrays, close, softmax
from golden_model import model, picture
from PIL import Image

import clipes
from clipes.cams.getam import attention_times_gradient
from clipes.config import GetamConfig

GOLDEN, CLIP_GOLDEN = arrays("before", "getam"), arrays("before", "getam_clip")


def getam(attention: np.ndarray, gradient: np.ndarray) -> torch.Tensor:
    """The sum over blocks of (L, A, S, S) attention and gradient."""
    rows = (torch.from_numpy(np.ascontiguousarray(values[:, :, 0, 1:])) for values in (attention, gradient))
    return attention_times_gradient(*rows).sum(0)


@pytest.mark.parametrize("start", [0, 6, 9, 11])
def test_from_the_gradient_at_the_class_tokens_context(start: int) -> None:
    query, key = GOLDEN["query"], GOLDEN["key"]
    attention = softmax(query @ np.swapaxes(key, -1, -2) / np.sqrt(query.shape[-1]))
    maps = []
    for context in GOLDEN["grad_context"]:
        gradient = np.zeros_like(attention)
        gradient[:, :, 0] = (context[:, :, None] @ np.swapaxes(GOLDEN["value"], -1, -2))[:, :, 0]
        maps.append(getam(attention[start:], gradient[start:]).numpy())
    want = GOLDEN[f"map_from{start}"]
    close(f"map_from{start}", np.reshape(maps, want.shape), want)


@pytest.mark.parametrize("start", [0, 3, 5])
def test_from_whole_gradients(start: int) -> None:
    got = getam(GOLDEN["small_attention"][start:], GOLDEN["small_gradient"][start:]).numpy()
    want = GOLDEN[f"small_map_from{start}"]
    close(f"small_map_from{start}", got.reshape(want.shape), want)


def scaled(maps: np.ndarray) -> np.ndarray:
    maps = maps.astype(np.float64) - maps.min((1, 2), keepdims=True)
    return maps / np.maximum(maps.max((1, 2), keepdims=True), 1e-300)


@pytest.mark.parametrize("number", range(sum(key.endswith("_labels") for key in CLIP_GOLDEN)))
def test_of_a_random_clip(number: int) -> None:
    clip, key = model(), f"{number}_image"
    image = Image.fromarray(CLIP_GOLDEN[key]) if key in CLIP_GOLDEN else picture(number)
    labels = [str(label) for label in CLIP_GOLDEN[f"{number}_labels"]]
    vocabulary = clipes.vocabulary.load_vocabulary("voc12")
    for pool, prefix in (("cls", ""), ("patch", "patchpool_")):
        for blocks in (1, 3, 6, 12):
            want = CLIP_GOLDEN.get(f"{number}_{prefix}blocks{blocks}")
            if want is None:
                continue
            config = clipes.Config(map=GetamConfig(blocks, pool), affinity=None, refine=None)
            got = clipes.MaskGenerator(clip, vocabulary, config)(image, labels).patch_cams
            close(f"{number} {pool} {blocks}", scaled(got), scaled(want), 1e-3)
