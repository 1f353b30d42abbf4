"""The whole path on a GPU against the CPU: `pytest -m gpu` where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import clipes
from clipes.config import RECIPES
from clipes.datasets import Sample
from clipes.device.memory import free_gpu_memory
from clipes.device.pixels import prepare, to_host
from clipes.runs.generation import MasksFromImages
from clipes.runs.local_engine import MaskWriter
from clipes.scenes import Scene, draw_scenes
from clipes.store.output import Output

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

SIZES = [(112, 112), (96, 128), (128, 96), (75, 140)]


@pytest.fixture(scope="module")
def drawn() -> list[Scene]:
    return [next(draw_scenes(1, 3_000_900 + number, SIZES[number % 4])) for number in range(24)]


def masks(generator: clipes.MaskGenerator, scenes: list[Scene], batch_size: int) -> Iterator[clipes.PseudoMask]:
    return generator.generate([scene.image for scene in scenes], [scene.labels for scene in scenes], batch_size)


def agreement(some: list[NDArray[np.uint8]], others: list[NDArray[np.uint8]]) -> float:
    return float(np.mean([(a == b).mean() for a, b in zip(some, others, strict=True)]))


@pytest.mark.parametrize("refine", ["crf", "par", "pamr", "none"])
def test_float32_is_that_of_a_cpu(drawn: list[Scene], refine: str) -> None:
    """Maps within 2e-3, masks equal on 99.9 % of the pixels, in batches of several sizes."""
    chosen = {
        "crf": clipes.config.SCENES.refine,
        "par": clipes.config.ParConfig(),
        "pamr": clipes.config.PamrConfig(),
        "none": None,
    }[refine]
    config = replace(clipes.config.SCENES, refine=chosen)
    here = list(masks(clipes.load(config=config, device="cpu"), drawn, 1))
    there = list(masks(clipes.load(config=config, device="cuda", precision="fp32"), drawn, 16))
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(other.patch_cams, one.patch_cams, atol=2e-3)
    assert agreement([one.mask for one in there], [one.mask for one in here]) > 0.999


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_that_of_a_cpu(drawn: list[Scene], name: str) -> None:
    """In float32: maps within 5e-3, masks equal on 99.5 % of the pixels."""
    config = RECIPES[name].config
    here = list(masks(clipes.load(config=config, device="cpu"), drawn[:8], 1))
    there = list(masks(clipes.load(config=config, device="cuda", precision="fp32"), drawn[:8], 8))
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(other.patch_cams, one.patch_cams, atol=5e-3)
    assert agreement([one.mask for one in there], [one.mask for one in here]) > 0.995


def test_half_precision_agrees(drawn: list[Scene]) -> None:
    """The default of a GPU: 99.5 % of the pixels."""
    here = [one.mask for one in masks(clipes.load(device="cpu"), drawn, 1)]
    generator = clipes.load(device="cuda")
    assert generator.dtype == torch.float16
    assert agreement([one.mask for one in masks(generator, drawn, 16)], here) > 0.995


def test_two_batches_side_by_side(drawn: list[Scene], tmp_path: Path) -> None:
    """Each on a stream of its own: what is written is what one after the other gives, bit for bit."""
    samples = []
    for number, scene in enumerate(drawn):
        Image.fromarray(scene.image).save(tmp_path / f"{number}.png")
        samples.append(Sample(str(number), tmp_path / f"{number}.png", tuple(scene.labels)))
    generator = clipes.load(device="cuda", precision="fp32")
    found = []
    for jobs in (1, 2, 2):
        folder = tmp_path / f"masks-{len(found)}"
        with MaskWriter(
            MasksFromImages(generator), Output(folder), {"settings": "0"}, batch_size=4, readers=1, jobs=jobs
        ) as writer:
            assert {outcome.status for outcome in writer.write(samples)} == {"ok"}
        found.append({path.name: path.read_bytes() for path in folder.glob("*.png")})
    assert found[0] == found[1] == found[2] and len(found[0]) == len(drawn)


def test_pictures_are_prepared_as_on_a_cpu(drawn: list[Scene]) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
    for scene in drawn[:4]:
        image = Image.fromarray(scene.image)
        here, there = (prepare(image, (9, 9), 16, mean, std, device) for device in ("cpu", "cuda"))
        assert there.is_cuda and ((there.cpu() - here).abs() > 1e-4).float().mean() < 5e-3


def test_arrays_come_through_pinned_memory() -> None:
    tensors = [torch.arange(5, device="cuda"), torch.ones(2, 3, device="cuda", dtype=torch.uint8)]
    arrays = to_host(tensors)
    assert [array.tolist() for array in arrays] == [tensor.tolist() for tensor in tensors]


def test_there_is_room() -> None:
    assert 0 < free_gpu_memory(torch.device("cuda")) < torch.cuda.mem_get_info()[1]
