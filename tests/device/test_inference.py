"""What a host's process has set in torch changes no bit of a result, and is as before afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clipes.clip.weights import load_clip
from clipes.config import SCENES, VOC12
from clipes.generator import MaskGenerator
from clipes.refine import dense_crf, pixel_adaptive_refinement
from clipes.scenes import draw_scene
from clipes.vocabulary import load_vocabulary

SCENE = draw_scene(5, (90, 120))


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(before)


@contextmanager
def matmul(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    found = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    backends = [(one, one.fp32_precision) for one in found if hasattr(one, "fp32_precision")]
    torch.set_float32_matmul_precision(precision)
    try:
        yield
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)
        for backend, value in backends:
            backend.fp32_precision = value


HOSTS: dict[str, AbstractContextManager[Any]] = {
    "autocast": torch.autocast("cpu", torch.bfloat16),
    "bfloat16 by default": default_dtype(torch.bfloat16),
    "float64 by default": default_dtype(torch.float64),
    "another device by default": torch.device("meta"),
    "no_grad": torch.no_grad(),
    "inference_mode": torch.inference_mode(),
    "low products": matmul("medium"),
}


def results() -> list[np.ndarray]:
    """Of a model that is loaded here, by each way to refine."""
    generator = MaskGenerator(load_clip("tiny", device="cpu"), load_vocabulary("scenes"), SCENES)
    plain = generator(SCENE.image, SCENE.labels)
    again = generator.decide(generator.encode(SCENE.image), SCENE.labels)
    none = generator(SCENE.image, [])
    published = plain.decide(VOC12)
    found = [array for one in (plain, again, none, published) for array in (one.cams, one.scores, one.mask)]
    return [*found, dense_crf(SCENE.image, plain.scores), pixel_adaptive_refinement(SCENE.image, plain.scores)]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPES_CACHE", str(tmp_path_factory.mktemp("text")))
        return results()


@pytest.mark.parametrize("name", HOSTS)
def test_no_bit_depends_on_the_host(
    name: str, expected: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPES_CACHE", str(tmp_path))
    with HOSTS[name]:
        found = results()
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
