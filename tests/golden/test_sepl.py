"""SEPL's vote of region masks on a label map, by the numbers of its code."""

from __future__ import annotations

import numpy as np
import pytest
from golden import arrays, same

from clipes.config import SeplVoteConfig
from clipes.regions.vote import sepl_vote

GOLDEN = arrays("after", "sepl")
CASES = sorted(key.removesuffix("_labels") for key in GOLDEN if key.endswith("_labels"))
RULES = {"new": SeplVoteConfig(), "new_votes_only": SeplVoteConfig(share=2.0, keep=False)}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rule", RULES)
def test_vote(case, rule):
    labels, bits = GOLDEN[f"{case}_labels"], GOLDEN[f"{case}_regions"]
    masks = np.unpackbits(bits, axis=1)[:, : labels.size].reshape(-1, *labels.shape).astype(bool)
    ours = np.where(labels == 255, 0, labels)  # the code looks for the classes below 255 only
    same(f"{case}_{rule}", sepl_vote(ours, masks, RULES[rule]), GOLDEN[f"{case}_{rule}"])
