"""AFA from maps on the patch grid to the label, against the numbers of its authors' code."""

import numpy as np
import pytest
import torch
from golden import arrays, close, same
from torch.nn import functional as F

from clipes.config import ParConfig
from clipes.decision import agreement_of_labels
from clipes.refine.par import par_rounds

GOLDEN = arrays("before", "affinity_chain")
ROWS = np.array([True, *GOLDEN["present"]])
TOP, BOTTOM, LEFT, RIGHT = (int(number) for number in GOLDEN["box"])
INSIDE = np.s_[..., TOP:BOTTOM, LEFT:RIGHT]


def resize(maps, size, aligned=False):
    """Maps (C, h, w), float64, bilinear."""
    given = torch.as_tensor(maps, dtype=torch.float64)[None]
    return F.interpolate(given, size, mode="bilinear", align_corners=aligned)[0]


def par(image, maps):
    """PAR at half the picture's size; the authors' weights sum to 1 + position_weight, ours to 1."""
    size, config = image.shape[:2], ParConfig(resolution="full")
    half = (size[0] // 2, size[1] // 2)
    picture = resize(np.moveaxis(image, -1, 0), half)
    averaged = par_rounds(picture[None], resize(maps, half, aligned=True)[None], config)[0]
    return resize(averaged, size) * (1 + config.position_weight) ** config.iterations


@pytest.mark.parametrize("name", ["low", "high"])
def test_par_inside_the_box(name):
    fine = par(np.ascontiguousarray(GOLDEN["image"][TOP:BOTTOM, LEFT:RIGHT]), GOLDEN[name][ROWS][INSIDE])
    close(f"refined_{name}", fine, GOLDEN[f"refined_{name}"][ROWS][INSIDE])


def test_label():
    ids = np.concatenate([[0], 1 + np.flatnonzero(GOLDEN["present"])])
    low, high = (torch.from_numpy(ids[GOLDEN[f"refined_{name}"][ROWS][INSIDE].argmax(0)]) for name in ("low", "high"))
    same("label", agreement_of_labels(high, low, conflict="foreground"), GOLDEN["label"][INSIDE], 3)
