"""The sources of maps against their slow statements, on random weights, pictures and texts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import reference
import reference_sources
import torch
from models import make_clip
from torch import Tensor

from clipes.cams.committee import join_maps, times_attention
from clipes.cams.sources import SOURCES, class_attention_maps
from clipes.clip.open_clip_vision import vision_encoder
from clipes.clip.pairs import Pairs
from clipes.config import (
    ClassAttentionConfig,
    CommitteeConfig,
    DenseConfig,
    GetamConfig,
    GradCamConfig,
    MapConfig,
    PatchTextConfig,
)

CLASSES, WORDS, BLOCKS = 20, 6, 4
DENSE = [
    DenseConfig(attention=attention, residual=residual)
    for attention in ("identity", "qk", "qq", "kk", "qq+kk", "kk+distance")
    for residual in (True, False)
]
PATCH_TEXT = [
    PatchTextConfig(blocks=3),
    PatchTextConfig(blocks=1, heads="own"),
    PatchTextConfig(blocks=9, norm="token", competitors="all", temperature=7.0),
]
GETAM = [GetamConfig(blocks=1), GetamConfig(blocks=3), GetamConfig(blocks=9), GetamConfig(blocks=2, pool="patch")]
SCALED = DenseConfig(scale=7.5, attention="kk+distance", sigma=1.5)
CONFIGS = [*DENSE, SCALED, *PATCH_TEXT, *GETAM]
VARIANTS = {"plain": {}, "layer scale": {"ls_init": 0.3}, "quick": {"quick_gelu": True, "head_width": 32}}
GRIDS = [(5, 3), (2, 2), (3, 5), (1, 7)]
LABELS = [[4], [7, 2, 11], list(range(20)), [19, 5]]


def statement(model, pixels: Tensor, grid, text: Tensor, labels: list[int], config: MapConfig) -> Tensor:
    visual, scale = model.visual, float(model.logit_scale.detach().exp())
    tokens = reference.tokens_before_blocks(visual, pixels).detach()
    of_labels, of_words = text[labels], text[CLASSES:]
    if isinstance(config, DenseConfig):
        features = reference_sources.dense(visual, tokens, grid, config.attention, config.residual, config.sigma)
        return reference_sources.dense_maps(features.detach(), of_labels, of_words, config.scale or scale)
    if isinstance(config, PatchTextConfig):
        settings = {"temperature": config.temperature, "heads": config.heads, "norm": config.norm}
        everything = config.competitors == "all"
        return reference_sources.patch_text(
            visual, tokens, text, labels, CLASSES, blocks=config.blocks, everything=everything, **settings
        ).detach()
    assert isinstance(config, GetamConfig)
    return reference_sources.getam(visual, tokens, of_labels, of_words, scale, blocks=config.blocks, pool=config.pool)


def inputs(dtype: torch.dtype) -> tuple[list[Tensor], Tensor, Tensor]:
    """Pictures of four grids, texts of two names each, the labels of each picture."""
    generator = torch.Generator().manual_seed(7)
    text = torch.randn(CLASSES + WORDS, 2, 24, generator=generator, dtype=torch.float64)
    pictures = [torch.randn(3, 8 * h, 8 * w, generator=generator, dtype=torch.float64) for h, w in GRIDS]
    label_mask = torch.zeros(len(GRIDS), CLASSES, dtype=torch.bool)
    for row, labels in enumerate(LABELS):
        label_mask[row, labels] = True
    unit = torch.nn.functional.normalize(text, dim=-1)
    return [picture.to(dtype) for picture in pictures], unit.to(dtype), label_mask


def library(model, config: MapConfig, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Pairs]:
    """The maps (P, N) of all pictures as one batch."""
    pictures, text, label_mask = inputs(dtype)
    encoder, pairs = vision_encoder(model).to(dtype=dtype), Pairs(LABELS)
    with torch.inference_mode():
        encoded = encoder.encode(pictures, config.needs)
        encoded.check(config.needs)
        return SOURCES[type(config)](encoder, encoded, text, label_mask, pairs, config), pairs


CASES = [("plain", config) for config in CONFIGS]
CASES += [(variant, config) for variant in ("layer scale", "quick") for config in (DENSE[8], *PATCH_TEXT[:2], GETAM[1])]


@pytest.mark.parametrize(("variant", "config"), CASES, ids=str)
def test_a_batch_of_padded_pictures_equals_the_statement(variant: str, config: MapConfig) -> None:
    model = make_clip(seed=3, layers=BLOCKS, **VARIANTS[variant]).double()
    pictures, text, _ = inputs(torch.float64)
    fast, pairs = library(model, config)
    assert fast.shape == (sum(map(len, LABELS)), max(h * w for h, w in GRIDS))
    for index, (grid, labels) in enumerate(zip(GRIDS, LABELS, strict=True)):
        slow = statement(model, pictures[index], grid, text, labels, config)
        own, count = fast[pairs.image == index], grid[0] * grid[1]
        torch.testing.assert_close(own[:, :count], slow, rtol=0, atol=1e-8)
        assert not own[:, count:].any()
    assert fast.min() >= 0 and fast.max() <= 1 and fast.std() > 0.01


@pytest.mark.parametrize("config", [DENSE[0], DENSE[9], PATCH_TEXT[0], GETAM[1], CommitteeConfig()], ids=str)
def test_float32_is_near(config: MapConfig) -> None:
    model = make_clip(seed=3, layers=BLOCKS)
    narrow, wide = (library(model, config, dtype)[0] for dtype in (torch.float32, torch.float64))
    torch.testing.assert_close(narrow.double(), wide, rtol=0, atol=2e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("config", [DENSE[0], DENSE[9], PATCH_TEXT[0], GETAM[1]], ids=str)
def test_lower_precision_agrees_on_most_patches(config: MapConfig, dtype: torch.dtype) -> None:
    """The last block stays float32; earlier ones move the maps by the rounding of their dtype."""
    model = make_clip(seed=3, layers=BLOCKS)
    exact = library(model, config, torch.float64)[0]
    encoder = vision_encoder(model).to(dtype=dtype)
    pictures, text, label_mask = inputs(torch.float32)
    with torch.inference_mode():
        encoded = encoder.encode([picture.to(dtype) for picture in pictures], config.needs)
        maps = SOURCES[type(config)](encoder, encoded, text, label_mask, Pairs(LABELS), config)
    assert maps.dtype == torch.float32
    assert (maps.double() - exact).abs().mean() < (0.05 if dtype == torch.bfloat16 else 0.01)


@pytest.mark.parametrize("rule", ["mean", "geometric"])
def test_a_committee_is_the_mean_of_its_members(rule: str) -> None:
    model = make_clip(seed=3, layers=BLOCKS).double()
    members = (GradCamConfig(), DenseConfig(), PatchTextConfig(blocks=2))
    joined, pairs = library(model, CommitteeConfig(members, rule))
    maps = [library(model, member)[0] for member in members]
    for row, image in enumerate(pairs.image_indices):
        count = GRIDS[image][0] * GRIDS[image][1]
        each = [reference.min_max(one[row, :count]) for one in maps]
        mean = sum(each) / 3 if rule == "mean" else (each[0] * each[1] * each[2]) ** (1 / 3)
        torch.testing.assert_close(joined[row, :count], reference.min_max(mean), rtol=0, atol=1e-9)


def test_joined_maps_of_one_are_itself() -> None:
    maps = torch.tensor([[0.0, 0.25, 1.0]])
    for rule in ("mean", "geometric"):
        torch.testing.assert_close(join_maps([maps], rule), maps)
    torch.testing.assert_close(join_maps([maps, maps.flip(1)], "geometric"), torch.tensor([[0.0, 0.25, 0.0]]))


@pytest.mark.parametrize("exponent", [0.5, 1])
def test_maps_times_the_class_tokens_attention(exponent: float) -> None:
    model = make_clip(seed=3, layers=BLOCKS).double()
    config, pairs = ClassAttentionConfig(exponent, blocks=2), Pairs(LABELS)
    pictures, _, _ = inputs(torch.float64)
    encoded = vision_encoder(model).encode(pictures, config.needs)
    maps = torch.rand(len(pairs), 15, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    fused = class_attention_maps(maps, encoded, pairs, config)
    for row, image in enumerate(pairs.image_indices):
        count = GRIDS[image][0] * GRIDS[image][1]
        _, before = reference.encode(model.visual, pictures[image])
        x, _ = reference.encode(model.visual, pictures[image])
        block = model.visual.transformer.resblocks[-1]
        _, last = reference.block_from_normed(block, x, reference.layer_norm(x, block.ln_1))
        attention = (before[-1][0, 1:] + last[0, 1:]) / 2
        product = times_attention(maps[row, :count], attention.detach(), exponent)
        torch.testing.assert_close(product, (maps[row, :count] * attention.detach()) ** exponent)
        torch.testing.assert_close(fused[row, :count], reference.min_max(product), rtol=0, atol=1e-9)
        assert not fused[row, count:].any()


def test_a_request_is_what_the_members_need() -> None:
    committee = CommitteeConfig((DenseConfig(), PatchTextConfig(blocks=3), GetamConfig(blocks=2)))
    assert committee.needs.tokens == 3 and CommitteeConfig((GradCamConfig(),)).needs == GradCamConfig().needs
    with pytest.raises(ValueError, match="encoded for other settings"):
        encoder = vision_encoder(make_clip())
        encoder.encode(torch.randn(1, 3, 32, 32)).check(committee.needs)
    with pytest.raises(ValueError, match="without repeats"):
        replace(committee, members=(DenseConfig(), DenseConfig()))
    with pytest.raises(ValueError, match="at least one source"):
        CommitteeConfig(())
