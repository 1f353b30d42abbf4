"""The whole path on a GPU that is not there: which tensors meet which, and where the host would wait."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

PROGRAM = Path(__file__).with_name("fake_cuda.py")

pytestmark = pytest.mark.skipif(
    not hasattr(torch._C, "_ensureCUDADeviceGuardSet"), reason="this torch cannot pretend to have a GPU"
)


def run(precision: str, refine: str, sizes: list[tuple[int, int]]) -> Any:
    command = [sys.executable, str(PROGRAM), precision, refine, json.dumps(sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


MIXED = [(112, 112), (96, 112), (112, 96), (64, 80), (96, 96)]


@pytest.mark.parametrize(
    ("precision", "refine", "far", "equal"),
    [("fp32", "crf", 1e-4, 0.999), ("fp32", "par", 1e-4, 0.999), ("fp16", "none", 1.0, 0.98)],
)
def test_no_tensor_meets_one_of_the_other_device(precision: str, refine: str, far: float, equal: float) -> None:
    """Pictures of several sizes, padded; the masks are the CPU's. (In fp16 a region's box may change.)"""
    found = run(precision, refine, MIXED)
    assert found["far"] <= far and found["equal"] > equal


def test_the_host_does_not_wait_for_each_image() -> None:
    """Where it waits, and how often, is the same for two images of one size as for five."""
    few, many = (run("fp16", "none", [(96, 96)] * count)["waits"] for count in (2, 5))
    assert few == many and 0 < sum(few.values()) < 12
