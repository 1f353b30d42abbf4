"""The votes of regions on a finished mask, against their slow statements."""

from __future__ import annotations

import numpy as np
import pytest
import reference_regions
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clipes.config import ModeVoteConfig, SeplVoteConfig
from clipes.regions.vote import VOTES, mode_vote, sepl_vote, vote

IGNORE = 255
MASKS = arrays(np.uint8, (5, 6), elements=st.sampled_from([0, 1, 2, 7, IGNORE]))
REGIONS = arrays(np.int32, (5, 6), elements=st.integers(0, 4))
CONFIGS = [ModeVoteConfig(), SeplVoteConfig()]


@given(MASKS, REGIONS)
def test_mode(mask, regions):
    found = mode_vote(mask, regions, IGNORE)
    assert found.dtype == mask.dtype
    np.testing.assert_array_equal(found, reference_regions.mode_vote(mask, regions, IGNORE))


SETTINGS = st.builds(SeplVoteConfig, st.sampled_from([0.3, 0.5]), st.sampled_from([0.85, 0.4, 2.0]), st.booleans())


@settings(max_examples=40)
@given(MASKS, arrays(np.bool_, (4, 5, 6)), SETTINGS)
def test_sepl_of_masks_that_overlap(mask, masks, config):
    places = [set(zip(*map(np.ndarray.tolist, np.nonzero(one)), strict=True)) for one in masks]
    want = reference_regions.sepl_vote(mask, places, config.majority, config.share, config.keep)
    np.testing.assert_array_equal(sepl_vote(mask, masks, config), want)


@given(MASKS, REGIONS)
def test_sepl_of_ids_is_that_of_their_masks(mask, regions):
    masks = regions == np.arange(1, 5)[:, None, None]
    np.testing.assert_array_equal(sepl_vote(mask, regions, CONFIGS[1]), sepl_vote(mask, masks, CONFIGS[1]))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
@given(MASKS, REGIONS)
def test_ignored_pixels_neither_vote_nor_are_lost(config, mask, regions):
    found, ignored = vote(mask, regions, IGNORE, config), mask == IGNORE
    assert found.dtype == mask.dtype
    np.testing.assert_array_equal(found == IGNORE, ignored)
    without = vote(np.where(ignored, 0, mask), np.where(ignored, 0, regions), IGNORE, config)
    np.testing.assert_array_equal(found[~ignored], without[~ignored])
    assert set(np.unique(found)) <= set(np.unique(mask)) | {0}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_without_regions_and_with_one_for_each_pixel_nothing_changes(config):
    mask = np.array([[0, 1, 2], [2, 255, 1]], np.uint8)
    for regions in (np.zeros((2, 3), np.int32), np.arange(1, 7, dtype=np.int32).reshape(2, 3)):
        np.testing.assert_array_equal(vote(mask, regions, IGNORE, config), mask)
    wide = np.full((1, 500), 255, np.uint8)
    np.testing.assert_array_equal(vote(wide, np.ones((1, 500), np.int32), IGNORE, config), wide)


def test_every_vote_is_tested():
    assert {type(config) for config in CONFIGS} == set(VOTES)


def test_ids_above_255():
    mask = np.array([[300, 300, 0, 65535]], np.uint16)
    for config in CONFIGS:
        assert vote(mask, np.ones((1, 4), np.int32), 65535, config).tolist() == [[300, 300, 300, 65535]]
