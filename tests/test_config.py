"""Defaults are the paper's; values out of range are refused."""

from dataclasses import FrozenInstanceError, replace

import pytest

from clipes.config import COCO14, SCENES, VOC12, AffinityConfig, CamConfig, Config, ImageConfig, MaskConfig, preset_of


def test_presets_hold_the_published_settings():
    expected = AffinityConfig(blocks=8, sinkhorn_rounds=3, box_threshold=0.4, boxes="reference", steps=2)
    assert VOC12.affinity == expected
    assert VOC12.cam == CamConfig(pool="patch")
    assert VOC12.mask == MaskConfig(background_power=1, ignore_below=None)
    assert replace(VOC12, affinity=replace(VOC12.affinity, box_threshold=0.7)) == COCO14


def test_each_class_set_has_its_settings_and_own_names_the_papers():
    assert [preset_of(name) for name in ("voc12", "coco14", "scenes")] == [VOC12, COCO14, SCENES]
    assert preset_of(["dog", "cat"]) == preset_of({"dog": "dog"}) == preset_of("scenes.json") == VOC12


def test_frozen():
    with pytest.raises(FrozenInstanceError):
        VOC12.affinity = None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ImageConfig(max_patches=0), "max_patches is 0; it must be at least 1"),
        (lambda: CamConfig(pool="mean"), "pool is 'mean'; it must be 'patch' or 'cls'"),
        (lambda: AffinityConfig(blocks=0), "blocks is 0"),
        (lambda: AffinityConfig(sinkhorn_rounds=0), "sinkhorn_rounds is 0"),
        (lambda: AffinityConfig(box_threshold=1.0), r"box_threshold is 1\.0; it must be in \[0, 1\)"),
        (lambda: AffinityConfig(boxes="half"), "boxes is 'half'"),
        (lambda: AffinityConfig(steps=0), "steps is 0"),
        (lambda: MaskConfig(background_power=0), "background_power is 0; it must be above 0 and finite"),
        (lambda: MaskConfig(ignore_below=1.5), r"ignore_below is 1\.5; it must be in \[0, 1\] or None"),
        (lambda: MaskConfig(ignore_below=float("nan")), "ignore_below is nan"),
        (lambda: MaskConfig(background_power=float("inf")), "background_power is inf"),
        (lambda: Config(refine="crf"), "no colour refinement"),
    ],
)
def test_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AffinityConfig(blocks=2.5), r"blocks is 2\.5; it must be a whole number"),
        (lambda: AffinityConfig(steps=True), "steps is True; it must be a whole number"),
        (lambda: ImageConfig(max_patches="9"), "max_patches is '9'; it must be a whole number"),
        (lambda: MaskConfig(background_power="1"), "background_power is '1'; it must be a number"),
        (lambda: MaskConfig(ignore_below="none"), "ignore_below is 'none'; it must be a number"),
    ],
)
def test_of_the_wrong_type(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_a_stage_of_the_wrong_kind():
    with pytest.raises(TypeError, match=r"Config\.mask takes a MaskConfig"):
        Config(mask=CamConfig())
