"""The whole path on a GPU that is not there: which tensors meet which, and where the host would wait."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from clipes.config import RECIPES

PROGRAM = Path(__file__).with_name("fake_cuda.py")

pytestmark = pytest.mark.skipif(
    not hasattr(torch._C, "_ensureCUDADeviceGuardSet"), reason="this torch cannot pretend to have a GPU"
)


MIXED = [(112, 112), (96, 112), (112, 96), (64, 80), (96, 96)]
MASKS = {
    ("fp32", "crf"): (1e-4, 0.999),
    ("fp32", "par"): (1e-4, 0.999),
    ("fp32", "pamr"): (1e-4, 0.999),
    ("fp16", "none"): (1.0, 0.98),
}
COUNTS = (2, 5)


@pytest.fixture(scope="module")
def answers() -> list[dict[str, Any]]:
    """Of pictures of several sizes for each of MASKS, then of so many of one size as COUNTS says; in one process."""
    return pretend([(*case, MIXED) for case in MASKS] + [("fp16", "none", [(96, 96)] * count) for count in COUNTS])


def pretend(cases: list[tuple[str, str, list[tuple[int, int]]]]) -> list[dict[str, Any]]:
    """What a process with the GPU says of the cases, each a precision, a name and the sizes of pictures."""
    command = [sys.executable, str(PROGRAM), json.dumps(cases)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("number", range(len(MASKS)), ids=map(" ".join, MASKS))
def test_no_tensor_meets_one_of_the_other_device(answers: list[dict[str, Any]], number: int) -> None:
    """Pictures of several sizes, padded; the masks are the CPU's. (In fp16 a region's box may change.)"""
    far, equal = list(MASKS.values())[number]
    assert answers[number]["far"] <= far and answers[number]["equal"] > equal


def test_the_host_does_not_wait_for_each_image(answers: list[dict[str, Any]]) -> None:
    """Where it waits, and how often, is the same for two images of one size as for five."""
    few, many = (answer["waits"] for answer in answers[-len(COUNTS) :])
    assert few == many and 0 < sum(few.values()) < 12


@pytest.mark.slow
def test_every_recipe_is_made_there() -> None:
    """Every source of maps, affinity and decision that a recipe has; far sizes are padded to one another."""
    answers = pretend([("fp32", name, [(96, 112), (64, 80)]) for name in RECIPES])
    for name, answer in zip(RECIPES, answers, strict=True):
        assert answer["far"] <= 5e-3 and answer["equal"] > 0.995, (name, answer)
