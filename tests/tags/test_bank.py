"""The classifier of the user's own patches against its slow statement."""

from __future__ import annotations

import math

import numpy as np
import pytest
import reference_tags
import torch
from torch.nn import functional as F

from clipes.config import BankTagsConfig
from clipes.tags import bank
from clipes.tags.bank import bank_scores, fit_bank, judged, judged_by_text, surest


def patches_and_text(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    text = F.normalize(torch.randn(5, 12, generator=generator), dim=-1)
    near = text[torch.randint(4, (200,), generator=generator)] + 0.4 * torch.randn(200, 12, generator=generator)
    return F.normalize(near, dim=-1), text


def test_both_rounds():
    patches, text = patches_and_text()
    config = BankTagsConfig(patches=20, temperature=0.05)
    fitted = fit_bank(patches, text[:, None], config)[1]
    weight, bias = reference_tags.bank(patches.double().numpy(), text.double().numpy(), 20, config.text_scale, 0.05)
    np.testing.assert_allclose(fitted.weight, weight, rtol=0, atol=1e-3 * np.abs(weight).max())
    np.testing.assert_allclose(fitted.bias, bias, rtol=0, atol=1e-3 * np.abs(bias).max())


def test_the_surest_patches_are_kept():
    patches, text = patches_and_text(1)
    found = judged_by_text(patches, text[:, None], 10.0)
    kept = surest(found, 7)
    for label in range(5):
        own = (found.labels == label).nonzero()[:, 0]
        chosen = (kept == label).nonzero()[:, 0]
        assert len(chosen) == min(7, len(own))
        if len(own) > 7:
            left = own[~torch.isin(own, chosen)]
            assert found.entropies[chosen].max() <= found.entropies[left].min()


def test_patches_are_judged_in_parts(monkeypatch):
    shares = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.1, 0.9]])
    monkeypatch.setattr(bank, "_PATCHES", 2)
    found = judged(shares, lambda part: part)
    assert found.labels.tolist() == [0, 0, 1] and found.shares.tolist() == pytest.approx([0.5, 1, 0.9])
    assert found.entropies[:2].tolist() == pytest.approx([math.log(2), 0])


def test_scores_sum_to_one():
    patches, text = patches_and_text(2)
    fitted = fit_bank(patches, text[:, None], BankTagsConfig(patches=30))[1]
    scores = bank_scores(patches[:9], patches[3], text[:, None], fitted.weight, fitted.bias, BankTagsConfig())
    assert scores.shape == (5,) and float(scores.sum()) == pytest.approx(1, abs=1e-5)


def test_too_few_patches():
    _, text = patches_and_text()
    with pytest.raises(ValueError, match="1 patches are kept of all pictures, too few"):
        fit_bank(text[:1], text[:, None], BankTagsConfig())
