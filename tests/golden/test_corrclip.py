"""CorrCLIP's map correction, by the numbers of its code."""

from __future__ import annotations

import pytest
from golden import arrays, same

from clipes.regions import region_ids
from clipes.regions.vote import mode_vote

GOLDEN = arrays("after", "corrclip")


@pytest.mark.parametrize("case", ["map", "tie", "whole"])
def test_map_correction(case):
    labels, regions = GOLDEN[f"{case}_labels"], GOLDEN[f"{case}_regions"]
    ids = region_ids(regions, labels.shape, int(regions.min()))  # the code takes the lowest id for none
    same(case, mode_vote(labels, ids, 255), GOLDEN[f"{case}_corrected"])
