"""benchmarks/baseline.py, the yardstick of the speed measurements, against clipes: the same maps and masks."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from models import make_clip, text_encoder
from PIL import Image

from clipes.clip.open_clip_vision import vision_encoder
from clipes.clip.weights import CLIP
from clipes.config import VOC12
from clipes.generator import MaskGenerator
from clipes.refine.crf import dense_crf
from clipes.scenes import draw_scenes
from clipes.scores import score_maps, upsample
from clipes.vocabulary import load_vocabulary

CASES = [((75, 51), ["car"]), ((42, 93), ["cat", "person", "cow"])]
EMBED = 24


def load_baseline() -> Any:
    path = Path(__file__).parents[2] / "benchmarks" / "baseline.py"
    spec = importlib.util.spec_from_file_location("baseline", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def both():
    """The baseline's module, the baseline and clipes over one model of ten blocks, so that the first attention maps
    do not count."""
    model = make_clip(seed=11, embed=EMBED, layers=10)
    generator = MaskGenerator(CLIP(vision_encoder(model), text_encoder(EMBED)), load_vocabulary("voc12"), VOC12)
    encoder, module = generator.clip.vision, load_baseline()
    text = generator._text_features[:, 0]
    return module, module.Baseline(model, text, len(generator.class_names), encoder.mean, encoder.std), generator


def picture(folder: Path, number: int, size: tuple[int, int]) -> Path:
    path = folder / f"{number}.jpg"
    Image.fromarray(next(draw_scenes(1, 3_000_400 + number, size)).image).save(path, quality=95)
    return path


@pytest.mark.parametrize("number", range(len(CASES)))
def test_maps_are_those_of_clipes(both, tmp_path, number):
    """What the first pass saves: to 2e-3 on every pixel, float16 and all, and not all maps are flat."""
    _, baseline, generator = both
    size, labels = CASES[number]
    path = picture(tmp_path, number, size)
    result = generator(path, labels)
    baseline.first_pass(path, result.class_ids.tolist(), tmp_path)
    saved = np.load(tmp_path / f"{number}.npy", allow_pickle=True).item()
    assert saved["keys"].tolist() == result.class_ids.tolist()
    assert result.cams.std(axis=(1, 2)).max() > 0.1
    np.testing.assert_allclose(saved["attn_highres"].astype(np.float32), result.cams, rtol=0, atol=2e-3)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_masks_are_those_of_clipes(both, tmp_path, number):
    """After the second pass: on 99.9 % of the pixels that both decide, and ignored are much the same."""
    pytest.importorskip("pydensecrf")
    module, baseline, generator = both
    size, labels = CASES[number]
    path = picture(tmp_path, number, size)
    result = generator(path, labels)
    baseline.first_pass(path, result.class_ids.tolist(), tmp_path)
    module.second_pass(path, tmp_path, tmp_path)
    mask = np.asarray(Image.open(tmp_path / f"{number}.png"))
    decided = (mask != 255) & (result.mask != 255)
    assert decided.mean() > 0.5
    assert len(np.unique(mask[decided])) > 1
    assert (mask == result.mask)[decided].mean() >= 0.999
    assert ((mask == 255) == (result.mask == 255)).mean() >= 0.99


def test_affinity_is_that_of_the_paper(both):
    """An attention far from doubly stochastic, so that the rounds count; two maps, the mean of two blocks."""
    module, _, _ = both
    generator = torch.Generator().manual_seed(0)
    attention = [torch.rand(1, 31, 31, generator=generator) ** 8 for _ in range(2)]
    cams = [reference.min_max(torch.rand(30, generator=generator) ** 3) for _ in range(2)]
    mean = (attention[0] + attention[1])[0, 1:, 1:].double() / 2
    refined = module.refine([cam.reshape(6, 5).numpy() for cam in cams], attention)
    for cam, found in zip(cams, refined, strict=True):
        wanted = reference.refine(cam.double(), mean, (6, 5), 0.4, "paper")
        np.testing.assert_allclose(found.reshape(-1), wanted, rtol=0, atol=1e-5)


def test_crf_is_that_of_clipes(both):
    """To 1e-4 on a picture large enough for all its widths to count."""
    pytest.importorskip("pydensecrf")
    module, _, _ = both
    image = next(draw_scenes(1, 3_000_410, (90, 120))).image
    coarse = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0)) ** 2
    scores = score_maps(upsample(coarse, (90, 120))).numpy()
    np.testing.assert_allclose(module.dense_crf(Image.fromarray(image), scores), dense_crf(image, scores), atol=1e-4)


def test_without_the_crf_nothing_is_ignored(both, tmp_path):
    module, baseline, _ = both
    path = picture(tmp_path, 0, CASES[0][0])
    baseline.first_pass(path, [12, 15], tmp_path)
    module.second_pass(path, tmp_path, tmp_path, crf=False)
    assert set(np.unique(Image.open(tmp_path / "0.png"))) <= {0, 12, 15}


def test_it_works_as_the_original_does(both, monkeypatch):
    """A forward and a backward pass for each label, gradients of the tail's parameters with them, and the square
    of the affinity for each label: else it would be no yardstick."""
    module, baseline, _ = both
    backward, products = [], []
    tensor_backward = torch.Tensor.backward
    monkeypatch.setattr(torch.Tensor, "backward", lambda self: backward.append(1) or tensor_backward(self))
    x, maps = baseline.encode(torch.rand(3, 40, 32))
    assert len(maps) == 9
    assert all(attention.shape == (1, 21, 21) for attention in maps)
    cams, last = baseline.cams(x, [1, 4, 9], (5, 4))
    assert len(backward) == len(cams) == 3
    assert baseline.block.mlp.c_fc.weight.grad.abs().max() > 0
    matmul = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: products.append((a.shape, b.shape)) or matmul(a, b))
    module.refine(cams, [*maps, last])
    assert products.count(((20, 20), (20, 20))) == 3
