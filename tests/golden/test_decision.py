"""Where a label is sure, background is sure, and nothing is: against the numbers of the authors' code."""

import re

import numpy as np
import pytest
import torch
from golden import arrays, close, same, softmax
from torch.nn import functional as F

from clipes.config import CrfConfig, ParConfig
from clipes.decision import agreement, agreement_of_labels, claims, label_with_band
from clipes.refine import dense_crf
from clipes.refine.par import refine_par_batch

GOLDEN = arrays("before", "decision")
MAPS, IMAGE = GOLDEN["maps"], GOLDEN["image"]
POWERS = sorted(int(key.removeprefix("crf_power")) for key in GOLDEN if re.fullmatch(r"crf_power\d+", key))
PAIRS = [tuple(map(int, key.split("_")[1:])) for key in GOLDEN if re.fullmatch(r"agreement_\d+_\d+", key)]
IDS = np.array([0, 1, 5, 10])


def crf(scores, sigma, colour_sigma):
    config = CrfConfig(10, 3, 3, sigma, colour_sigma, 10)
    return dense_crf(IMAGE, scores, config)


def stack(power):
    return np.concatenate([(1 - MAPS.max(0, keepdims=True)) ** power, MAPS])


def agreed(low, high):
    return agreement(torch.from_numpy(low), torch.from_numpy(high), conflict="background").numpy()


@pytest.mark.parametrize("power", POWERS)
def test_crf_of_each_power(power):
    close(f"crf_power{power}", crf(stack(power), 80, 13), GOLDEN[f"crf_power{power}"], 1e-3)


@pytest.mark.parametrize(("low", "high"), PAIRS)
def test_agreement_of_two_exponents(low, high):
    key = f"agreement_{low}_{high}"
    scores = [GOLDEN[f"crf_power{power}"] for power in (low, high)]
    same(key, agreed(*scores), GOLDEN[key])
    same(f"{key}_plain", agreed(stack(low), stack(high)), GOLDEN[f"{key}_plain"], 1)
    height, width = np.array(scores[0].shape[1:]) // GOLDEN[f"{key}_pooled"].shape
    pooled = [F.avg_pool2d(torch.from_numpy(one)[None], (int(height), int(width)))[0].numpy() for one in scores]
    same(f"{key}_pooled", agreed(*pooled), GOLDEN[f"{key}_pooled"], 1)


def test_background_wins_a_conflict():
    low, high = GOLDEN["scores_low"], GOLDEN["scores_high"]
    same("scores_rule", agreed(low, high), GOLDEN["scores_rule"])


def test_two_constants_and_a_crf_of_labels():
    """IRN: 0.7 for the label and 0.3 for all others together go into the CRF."""
    found = {}
    for name, level in (("fg_sure", 0.30), ("bg_sure", 0.05)):
        rows = np.concatenate([np.full((1, *MAPS.shape[1:]), level), MAPS]).argmax(0)
        found[f"irn_plain_{name}"] = IDS[rows]
        scores = np.full((len(MAPS) + 1, *rows.shape), 0.3 / len(MAPS))
        np.put_along_axis(scores, rows[None], 0.7, 0)
        found[f"irn_{name}"] = IDS[crf(scores, 50, 5).argmax(0)]
        same(f"irn_plain_{name}", found[f"irn_plain_{name}"], GOLDEN[f"irn_plain_{name}"])
        same(f"irn_{name}", found[f"irn_{name}"], GOLDEN[f"irn_{name}"], 3)
    for name in ("irn", "irn_plain"):
        sure = (torch.from_numpy(GOLDEN[f"{name}_{kind}"].astype(np.int64)) for kind in ("fg_sure", "bg_sure"))
        same(name, agreement_of_labels(*sure, conflict="foreground"), GOLDEN[name])


def inside(ids):
    top, bottom, left, right = (int(number) for number in GOLDEN["afa_box"])
    return np.asarray(ids)[top:bottom, left:right]


def ids_of(rows):
    """AFA's ids of rows of the classes that the image has: the class's number plus 1, 255 as it is."""
    present = np.flatnonzero(GOLDEN["afa_present"])
    ids = np.zeros(256, np.int64)
    ids[1 : len(present) + 1], ids[255] = present + 1, 255
    return ids[np.asarray(rows)]


def test_one_threshold_or_a_band():
    maps = torch.from_numpy(GOLDEN["afa_maps"][GOLDEN["afa_present"]])
    same("afa_label", ids_of(label_with_band(maps, 0.45)), GOLDEN["afa_label"])
    with_band = ids_of(label_with_band(maps, 0.45, (0.35, 0.55)))
    same("afa_label_ignore", inside(with_band), inside(GOLDEN["afa_label_ignore"]))


def refined(maps, level, refine):
    """AFA: the background beside the maps at half size, softmax, PAR, full size; the row of the highest."""
    size = maps.shape[1:]
    half = (size[0] // 2, size[1] // 2)
    scores = np.concatenate([np.full((1, *size), level), maps])
    small = F.interpolate(torch.from_numpy(scores)[None], half, mode="bilinear", align_corners=False)
    shares = torch.from_numpy(softmax(small.numpy(), 1))
    if refine:
        picture = torch.from_numpy(IMAGE.astype(np.float64)).permute(2, 0, 1)[None]
        picture = F.interpolate(picture, half, mode="bilinear", align_corners=False)
        shares = refine_par_batch(picture, shares, ParConfig(resolution="full"))
    return F.interpolate(shares, size, mode="bilinear", align_corners=False)[0].argmax(0)


@pytest.mark.parametrize(("key", "refine"), [("afa_pair", True), ("afa_pair_plain", False)])
def test_two_constants_and_par(key, refine):
    maps = GOLDEN["afa_maps"][GOLDEN["afa_present"]]
    much, little = (refined(maps, level, refine) for level in (0.55, 0.35))
    same(key, inside(ids_of(agreement_of_labels(much, little, conflict="foreground"))), inside(GOLDEN[key]), 2)


def test_claims():
    rows = claims(torch.from_numpy(GOLDEN["stage_scores"]), 0.6, 0.7, 0.2)
    same("stage_label", rows, GOLDEN["stage_label"])
