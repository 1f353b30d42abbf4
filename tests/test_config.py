"""Defaults are the paper's; values out of range are refused."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from clipes.config import (
    COCO14,
    SCENES,
    VOC12,
    AgreementConfig,
    ArgmaxConfig,
    AttentionAffinityConfig,
    AttentionBlocks,
    ConfidenceConfig,
    Config,
    ContrastAffinityConfig,
    CrfConfig,
    EncodeRequest,
    FeatureAffinityConfig,
    GradCamConfig,
    ImageConfig,
    PamrConfig,
    ParConfig,
)


def test_presets_hold_the_published_settings():
    expected = AttentionAffinityConfig(last_blocks=8, sinkhorn_iterations=3, box_threshold=0.4, boxes="paper", hops=2)
    assert VOC12.affinity == expected
    assert VOC12.map == GradCamConfig(pool="patch")
    assert VOC12.refine == CrfConfig(
        iterations=10, smooth_sigma=1, smooth_weight=3, bilateral_sigma=67, colour_sigma=3, bilateral_weight=4
    )
    assert VOC12.mask == ConfidenceConfig(background_power=1, ignore_below="auto")
    assert replace(VOC12, affinity=replace(VOC12.affinity, box_threshold=0.7)) == COCO14


def test_frozen():
    with pytest.raises(FrozenInstanceError):
        VOC12.affinity = None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ImageConfig(max_patches=0), "max_patches is 0; it must be at least 1"),
        (lambda: GradCamConfig(pool="mean"), "pool is 'mean'; it must be 'patch' or 'cls'"),
        (lambda: AttentionAffinityConfig(last_blocks=0), "last_blocks is 0"),
        (lambda: AttentionAffinityConfig(sinkhorn_iterations=-1), "sinkhorn_iterations is -1; it must be at least 0"),
        (lambda: AttentionAffinityConfig(box_threshold=1.0), r"box_threshold is 1\.0; it must be in \[0, 1\)"),
        (lambda: AttentionAffinityConfig(boxes="half"), "boxes is 'half'"),
        (lambda: AttentionAffinityConfig(hops=0), "hops is 0"),
        (
            lambda: AttentionAffinityConfig(last_blocks=1, skip_last=True),
            "last_blocks is 1; it must be above 1 with sk",
        ),
        (lambda: AttentionAffinityConfig(oldest_block="half"), "oldest_block is 'half'; it must be 'equal' or 'per-"),
        (lambda: AttentionAffinityConfig(votes=-1), "votes is -1; it must be at least 0"),
        (lambda: AttentionAffinityConfig(power=0), "power is 0; it must be above 0 and finite"),
        (lambda: AttentionAffinityConfig(radius=0), "radius is 0; it must be at least 1"),
        (lambda: AttentionAffinityConfig(row_epsilon=-0.5), r"row_epsilon is -0\.5; it must be in \[0, 1e6\] or None"),
        (lambda: FeatureAffinityConfig(features="queries"), "features is 'queries'; it must be 'tokens', 'keys' or"),
        (lambda: FeatureAffinityConfig(blocks=0), "blocks is 0; it must be at least 1"),
        (lambda: FeatureAffinityConfig(threshold=1.5), r"threshold is 1\.5; it must be in \[0, 1\]"),
        (lambda: FeatureAffinityConfig(power=-1), "power is -1; it must be above 0 and finite"),
        (lambda: FeatureAffinityConfig(hops=0), "hops is 0"),
        (lambda: ContrastAffinityConfig(order=1), "order is 1; it must be at least 2"),
        (lambda: ContrastAffinityConfig(order=11), "order is 11; it must be at most 10"),
        (lambda: ContrastAffinityConfig(higher_weight=-1), r"higher_weight is -1; it must be in \[0, 1e6\]"),
        (lambda: ContrastAffinityConfig(background=0.2), r"background is 0\.2; it must be below foreground, 0\.1"),
        (lambda: ConfidenceConfig(background_power=0), "background_power is 0; it must be above 0 and finite"),
        (lambda: ConfidenceConfig(ignore_below=1.5), r"ignore_below is 1\.5; it must be in \[0, 1\] or 'auto'"),
        (lambda: ConfidenceConfig(ignore_below=float("nan")), "ignore_below is nan"),
        (lambda: ConfidenceConfig(background_power=float("inf")), "background_power is inf"),
        (lambda: CrfConfig(iterations=0), "iterations is 0"),
        (lambda: CrfConfig(smooth_sigma=0.0), r"smooth_sigma is 0\.0; it must be above 0 and finite"),
        (lambda: CrfConfig(colour_sigma=float("nan")), "colour_sigma is nan"),
        (lambda: CrfConfig(bilateral_weight=-1.0), r"bilateral_weight is -1\.0; it must be in \[0, 1e6\]"),
        (lambda: CrfConfig(smooth_weight=1e39), r"smooth_weight is 1e\+39"),
        (lambda: CrfConfig(iterations=2**32), "iterations is 4294967296; it must be at most 1000"),
        (lambda: ParConfig(colour_scale=1e-300), "colour_scale is 1e-300; it must be at least 1e-6"),
        (lambda: ParConfig(dilations=(1, 10**9)), "dilations is 1000000000; it must be at most a million"),
        (lambda: ConfidenceConfig(background_power=10**400), "a number of ordinary size"),
        (lambda: ParConfig(dilations=()), "a tuple of distances"),
        (lambda: ParConfig(dilations=(1, 1)), "without repeats"),
        (lambda: ParConfig(dilations=(0,)), "dilations is 0; it must be at least 1"),
        (lambda: ParConfig(resolution="third"), "resolution is 'third'; it must be 'full' or 'half'"),
        (lambda: ArgmaxConfig(background_power=-1), "background_power is -1"),
        (lambda: AgreementConfig(levels=(4.0,)), r"levels is \(4\.0,\); it must be a pair"),
        (lambda: AgreementConfig(levels=(32, 4)), r"levels is \(32, 4\); it must be two exponents, the smaller first"),
        (lambda: AgreementConfig("constant", (0.05, 0.3)), "two constants of at most 1, the larger first"),
        (lambda: AgreementConfig("constant", (1.5, 0.3)), "two constants of at most 1"),
        (lambda: AgreementConfig(levels=(0, 4)), "levels is 0; it must be above 0"),
        (lambda: AgreementConfig("share"), "background is 'share'; it must be 'power' or 'constant'"),
        (lambda: AgreementConfig(conflict="both"), "conflict is 'both'"),
        (lambda: PamrConfig(colour_scale=0.0), r"colour_scale is 0\.0; it must be above 0 and finite"),
        (lambda: PamrConfig(dilations=(2, 2)), "without repeats"),
        (lambda: ParConfig(position_weight=-0.1), "position_weight is -0.1"),
    ],
)
def test_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AttentionAffinityConfig(last_blocks=2.5), r"last_blocks is 2\.5; it must be a whole number"),
        (lambda: AttentionAffinityConfig(hops=True), "hops is True; it must be a whole number"),
        (lambda: ImageConfig(max_patches="9"), "max_patches is '9'; it must be a whole number"),
        (lambda: ConfidenceConfig(background_power="1"), "background_power is '1'; it must be a number"),
        (lambda: ConfidenceConfig(ignore_below="none"), "ignore_below is 'none'; it must be a number"),
        (lambda: CrfConfig(smooth_sigma="1"), "smooth_sigma is '1'; it must be a number"),
        (lambda: ParConfig(dilations=(1.5,)), r"dilations is 1\.5; it must be a whole number"),
    ],
)
def test_of_the_wrong_type(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_a_stage_of_the_wrong_kind():
    with pytest.raises(TypeError, match=r"Config\.mask takes a ConfidenceConfig or AgreementConfig or ArgmaxConfig"):
        Config(mask=GradCamConfig())
    with pytest.raises(TypeError, match=r"Config\.refine takes a CrfConfig or ParConfig or PamrConfig, not 'crf'"):
        Config(refine="crf")


def test_the_encoder_is_asked_for_what_all_stages_need():
    eight, three = (frozenset({AttentionBlocks(last)}) for last in (8, 3))
    assert VOC12.needs == EncodeRequest(eight)
    assert replace(VOC12, affinity=AttentionAffinityConfig(last_blocks=3)).needs == EncodeRequest(three)
    assert replace(VOC12, affinity=None).needs == EncodeRequest()
    voted = AttentionAffinityConfig(last_blocks=4, skip_last=True, oldest_block="per-head", votes=2).needs
    assert voted == EncodeRequest(frozenset({AttentionBlocks(4, True, True)}), votes=True)
    assert replace(VOC12, affinity=FeatureAffinityConfig(blocks=3)).needs == EncodeRequest(tokens=3)
    assert replace(VOC12, affinity=ContrastAffinityConfig()).needs == EncodeRequest(tokens=2)
    both = EncodeRequest(eight, tokens=2) | EncodeRequest(three, frozenset({1}), tokens=1, votes=True)
    assert both == EncodeRequest(eight | three, frozenset({1}), tokens=2, votes=True)


def test_ignored_pixels_go_with_the_crf():
    assert VOC12.effective_ignore_below == COCO14.effective_ignore_below == SCENES.effective_ignore_below == 0.95
    assert replace(VOC12, refine=None).effective_ignore_below is None
    assert replace(VOC12, refine=ParConfig()).effective_ignore_below is None
    assert replace(VOC12, refine=PamrConfig()).effective_ignore_below is None
    assert replace(VOC12, refine=None, mask=ConfidenceConfig(ignore_below=0.5)).effective_ignore_below == 0.5
    assert replace(VOC12, mask=ArgmaxConfig()).effective_ignore_below is None


@pytest.mark.parametrize(
    "config",
    [
        VOC12,
        SCENES,
        replace(VOC12, refine=None, affinity=None),
        replace(VOC12, affinity=AttentionAffinityConfig(radius=3, row_epsilon=0.1)),
        replace(VOC12, affinity=FeatureAffinityConfig(features="keys")),
        replace(VOC12, affinity=ContrastAffinityConfig(order=3)),
        replace(COCO14, refine=ParConfig(dilations=(3, 5)), mask=ArgmaxConfig(3.0)),
        replace(VOC12, refine=PamrConfig(dilations=(3,)), mask=AgreementConfig("constant", (0.3, 0.05))),
    ],
)
def test_a_config_survives_json(config):
    assert json.loads(json.dumps(config.to_dict())) == config.to_dict()
    assert Config.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    "change",
    [
        {"refine": {"snake": {}}},
        {"refine": {"crf": {"depth": 1}}},
        {"mask": {"confidence": {"background_power": -1}}},
        {"mask": None},
        {"map": 3},
    ],
)
def test_json_of_no_config(change):
    with pytest.raises(ValueError, match="these settings do not fit this version of clipes"):
        Config.from_dict({**VOC12.to_dict(), **change})
