"""Every image tower that is read, against open_clip's and timm's own modules: tokens, features, attention, maps."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from generating import CommandLine
from models import build, clip_config, save_folder
from PIL import Image
from reference import min_max
from torch import Tensor
from torch.nn.functional import normalize
from towers import (
    build_tower,
    few_blocks,
    narrow,
    pooling,
    real_attention,
    real_gradcam,
    resized,
    save_tokenizer,
    tower_config,
)

import clipes
from clipes.cams.compute import check_model, compute_cams, encode_pixels
from clipes.cams.dense import dense_features
from clipes.cams.getam import getam_maps
from clipes.cams.gradcam import softmax_gradcam
from clipes.clip.errors import ModelError
from clipes.clip.head import image_features
from clipes.clip.listing import _info, tower_shape
from clipes.clip.pairs import Pairs
from clipes.clip.towers import unsupported_reason, vision_tower
from clipes.clip.visible import visible_features
from clipes.clip.vision import VisionEncoder
from clipes.config import (
    AffinityConfig,
    AttentionAffinityConfig,
    AttentionBlocks,
    ClassAttentionConfig,
    CommitteeConfig,
    ContrastAffinityConfig,
    DenseConfig,
    EncodeRequest,
    FeatureAffinityConfig,
    GetamConfig,
    GlobalTagsConfig,
    GradCamConfig,
    MapConfig,
    PatchTextConfig,
    Pooling,
)
from clipes.scenes import draw_scene
from clipes.tags.methods import TagInput, tag_scores

TOWERS: dict[str, int] = {
    "MobileCLIP-B": 1,
    "MobileCLIP2-L-14": 1,
    "vit_medium_patch16_gap_256": 0,
    "ViT-B-16-SigLIP": 0,
    "ViT-B-32-SigLIP2-256": 0,
    "ViT-SO400M-14-SigLIP": 0,
    "PE-Core-T-16-384": 1,
    "PE-Core-bigG-14-448": 0,
    "EVA01-g-14": 1,
    "EVA02-B-16": 1,
    "EVA02-E-14": 1,
}
"""Names of one tower of each form, and how many tokens stand before its patches."""


@cache
def tower(name: str) -> Any:
    return build_tower(name, **narrow(name))


def pool_of(model: Any) -> Pooling:
    return "cls" if model.visual.trunk.global_pool == "token" else "patch"


def image(model: Any, size: tuple[int, int] | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 3, *(size or model.visual.image_size), generator=generator).to(dtype)


def deviation(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max())


def another_size(encoder: VisionEncoder) -> tuple[int, int]:
    """Five patches by three."""
    return 5 * encoder.patch_size, 3 * encoder.patch_size


def final_tokens(encoder: VisionEncoder, output: Tensor) -> Tensor:
    return output if encoder.head.ln_post is None else encoder.head.ln_post(output)


# --- tokens and features ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TOWERS)
def test_tokens_and_features_are_the_modules_own(name: str) -> None:
    model = tower(name)
    encoder, pixels = vision_tower(model), image(model)
    encoded = encoder.encode(pixels)
    assert encoded.layout.prefix == TOWERS[name]
    assert (
        deviation(final_tokens(encoder, encoded.last_block.output), model.visual.trunk.forward_features(pixels)) < 1e-5
    )
    ours = image_features(encoder.head, encoded.last_block, pool_of(model))
    assert deviation(ours, model.encode_image(pixels)) < 1e-5


@pytest.mark.parametrize("name", TOWERS)
def test_another_size_and_aspect(name: str) -> None:
    model = tower(name)
    encoder = vision_tower(model)
    size = another_size(encoder)
    pixels, other = image(model, size), resized(model, size)
    encoded = encoder.encode(pixels, positions="antialiased")
    assert encoded.grids == ((5, 3),)
    assert (
        deviation(final_tokens(encoder, encoded.last_block.output), other.visual.trunk.forward_features(pixels)) < 1e-5
    )
    assert (
        deviation(image_features(encoder.head, encoded.last_block, pool_of(model)), other.encode_image(pixels)) < 1e-5
    )


@pytest.mark.parametrize("name", TOWERS)
def test_attention_is_that_of_the_modules_queries_and_keys(name: str) -> None:
    """Of the patches alone, averaged over heads and blocks."""
    model = tower(name)
    encoder, wanted = vision_tower(model), AttentionBlocks(2)
    size, patches = another_size(encoder), slice(TOWERS[name], None)
    pixels = image(model, size)
    got = encoder.encode(pixels, EncodeRequest(attention=frozenset({wanted})), "antialiased").attention[wanted]
    maps = [one.mean(1)[:, patches, patches] for one in real_attention(resized(model, size), pixels)[1]]
    assert len(maps) == 2 and deviation(got, (maps[0] + maps[1]) / 2) < 1e-5


@pytest.mark.parametrize("name", TOWERS)
def test_padding_changes_nothing(name: str) -> None:
    encoder = vision_tower(tower(name))
    p = encoder.patch_size
    small, large = (
        torch.randn(3, h * p, w * p, generator=torch.Generator().manual_seed(h)) for h, w in ((2, 3), (4, 2))
    )
    wanted = AttentionBlocks(2)
    request = EncodeRequest(attention=frozenset({wanted}))
    together, alone = encoder.encode([small, large], request), encoder.encode([small], request)
    assert together.patch_mask.sum(1).tolist() == [6, 8]
    length = encoder.layout.prefix + 6
    assert deviation(together.last_block.output[0, :length], alone.last_block.output[0]) < 1e-4
    assert deviation(together.attention[wanted][0, :6, :6], alone.attention[wanted][0]) < 1e-4
    assert not together.attention[wanted][0, 6:].any() and not together.attention[wanted][0, :, 6:].any()
    pool = pool_of(tower(name))
    ours, theirs = (image_features(encoder.head, one.last_block, pool)[0] for one in (together, alone))
    assert deviation(ours, theirs) < 1e-4


# --- maps ---------------------------------------------------------------------------------------------------


def texts(model: Any, count: int, dtype: torch.dtype) -> Tensor:
    width = len(model.encode_image(image(model)).squeeze())
    return normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(2), dtype=torch.float64)).to(
        dtype
    )


def maps_of(encoder: VisionEncoder, pixels: Tensor, text: Tensor, pool: Pooling) -> Tensor:
    """Of every text, all of which are labels of the image."""
    last = encoder.encode(pixels, positions="antialiased").last_block
    labels = torch.ones(1, len(text), dtype=torch.bool)
    pairs = Pairs([list(range(len(text)))])
    return softmax_gradcam(encoder.blocks[-1], encoder.head, last, text[:, None], labels, pairs, pool)


@pytest.mark.parametrize("pool", ["patch", "cls"])
@pytest.mark.parametrize("name", TOWERS)
def test_maps_are_those_of_autograd_through_the_module(name: str, pool: Pooling) -> None:
    prefix = TOWERS[name]
    if pool == "cls" and not prefix and tower(name).visual.trunk.attn_pool is None:
        pytest.skip("no class token")
    model = pooling(tower(name), "token" if pool == "cls" else "avg")
    encoder = vision_tower(model)
    size = another_size(encoder)
    other, text = resized(model, size), texts(model, 5, torch.float64)
    pixels = image(model, size)
    single = maps_of(encoder, pixels, text.float(), pool)
    assert single.amax() > 0.99 and (single - real_gradcam(other, pixels, text.float(), prefix)).abs().max() < 1e-4
    wide = maps_of(vision_tower(resized(model, size).double()), pixels.double(), text, pool)
    tolerance = 1e-6 if encoder.rotary else 1e-10  # timm computes angles in float32
    assert (wide - real_gradcam(other.double(), pixels.double(), text, prefix)).abs().max() < tolerance


def test_cocas_pool() -> None:
    """Features at its own size, and maps against autograd, in float32 and float64; its first query pools."""
    model = build_tower("coca_ViT-B-32")
    for kind, tolerance in ((model, 1e-4), (copy.deepcopy(model).double(), 1e-10)):
        encoder, dtype = vision_tower(kind), kind.logit_scale.dtype
        pixels, text = image(kind, dtype=dtype), texts(model, 5, dtype)
        feature = image_features(encoder.head, encoder.encode(pixels).last_block, "cls")
        assert deviation(normalize(feature, dim=-1), kind.encode_image(pixels)) < min(1e-5, tolerance)
        found = maps_of(encoder, pixels, text, "patch")
        assert found.amax() > 0.99 and (found - real_gradcam(kind, pixels, text, 1)).abs().max() < tolerance


@pytest.mark.parametrize("name", ["PE-Core-T-16-384", "EVA02-B-16", "EVA02-E-14", "MobileCLIP-B"])
def test_getam_is_that_of_autograd_through_the_module(name: str) -> None:
    """Through both blocks: the class token's attention to the patches times its gradient, and what they sum to."""
    model = pooling(tower(name), "token")
    encoder = vision_tower(model)
    size, text = another_size(encoder), texts(model, 4, torch.float32)
    pixels, other = image(model, size), resized(model, size)
    encoded = encoder.encode(pixels, EncodeRequest(tokens=2), "antialiased")
    labels, pairs = torch.ones(1, 4, dtype=torch.bool), Pairs([[0, 1, 2, 3]])
    got = getam_maps(
        encoder.blocks, encoder.head, encoded.tokens, encoded.last_block, text[:, None], labels, pairs, "cls"
    )
    feature, maps = real_attention(other, pixels.requires_grad_())
    shares = torch.softmax(other.logit_scale.exp() * text @ normalize(feature, dim=-1)[0], 0)
    for share, found in zip(shares, got, strict=True):
        total = 0.0
        for attention, grad in zip(maps, torch.autograd.grad(share, maps, retain_graph=True), strict=True):
            row, slope = attention[0, :, 0, 1:], grad[0, :, 0, 1:]
            total = total + (row * slope).relu().mean(0) * slope.relu().mean(0)
        assert (found - min_max(total / total.max())).abs().max() < 1e-4


# --- whole masks --------------------------------------------------------------------------------------------

WORDS = {"classes": ["cat", "boat"], "background": ["sky"]}


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder with random weights of the tower that a test names; models built meanwhile have as few blocks."""
    sizes = narrow(request.param)
    config = tower_config(request.param, sizes.get("embed_dim"))
    if "hf_tokenizer_name" in config["text_cfg"]:
        pytest.importorskip("transformers")
        save_tokenizer(tmp_path / "model")
    with few_blocks(**sizes):
        yield save_folder(tower(request.param), tmp_path / "model", config)


@pytest.mark.parametrize("folder", [*TOWERS, "coca_ViT-B-32"], indirect=True)
def test_a_mask_by_python_and_by_command(folder: Path, cli: CommandLine) -> None:
    """The same one, with all steps of the default method."""
    photos = folder.parent / "photos"
    photos.mkdir()
    Image.fromarray(draw_scene(3, (90, 130)).image).save(photos / "one.png")
    result = clipes.load(f"local-dir:{folder}", **WORDS)(photos / "one.png", ["cat", "boat"])
    assert result.mask.shape == (90, 130) and set(np.unique(result.mask)) <= {0, 1, 2, 255}
    assert 0.99 < result.cams.max() <= 1
    names = ("--classes", "cat,boat", "--background", "sky,", "--labels", "cat,boat")
    run = cli("generate", photos, *names, "--model", f"local-dir:{folder}", "--out", folder.parent / "masks")
    assert run.code == 0, run.err
    assert (np.asarray(Image.open(folder.parent / "masks" / "one.png")) == result.mask).all()


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "PE-Core-T-16-384", "EVA02-B-16", "MobileCLIP-B"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_lower_precision(name: str, dtype: torch.dtype, tolerance: float) -> None:
    """Tokens and maps are near, and maps as wide as in float32."""
    model = tower(name)
    encoder = vision_tower(model)
    narrow, pixels, text = encoder.to(dtype=dtype), image(model, another_size(encoder)), texts(model, 4, torch.float32)
    got, want = (one.encode(pixels).last_block.output for one in (narrow, encoder))
    assert got.dtype == torch.float32 and 0 < deviation(got, want) < tolerance
    maps = maps_of(narrow, pixels, text, "patch")
    assert maps.dtype == torch.float32
    assert (maps - maps_of(encoder, pixels, text, "patch")).abs().mean() < tolerance


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "vit_medium_patch16_gap_256"])
def test_a_second_look_without_a_class_token(name: str) -> None:
    """The tower's own pooling of the visible patches; of all, where none is visible."""
    model = tower(name)
    encoder, pixels, trunk = vision_tower(model), image(model).repeat(2, 1, 1, 1), model.visual.trunk
    visible = torch.arange(encoder.native_grid[0] * encoder.native_grid[1]) % 3 == 0
    got = visible_features(encoder, pixels, torch.stack([visible, torch.zeros_like(visible)]))
    tokens = trunk.forward_features(pixels[:1])
    for feature, chosen in ((got[0], tokens[:, visible]), (got[1], tokens)):
        assert deviation(feature[None], model.visual.head(trunk.forward_head(chosen))) < 1e-5


def test_a_second_look_by_class_token_and_pooling() -> None:
    encoder, pixels = vision_tower(tower("PE-Core-T-16-384")), image(tower("PE-Core-T-16-384"))
    visible = torch.ones(1, 24 * 24, dtype=torch.bool)
    whole = image_features(encoder.head, encoder.encode(pixels).last_block, "patch")
    assert deviation(visible_features(encoder, pixels, visible), whole) < 1e-5
    visible[:, 5:] = False
    assert deviation(visible_features(encoder, pixels, visible), whole) > 1e-3


def test_tags_by_the_sigmoid() -> None:
    """As the module's own logits with their bias; refused for a model that has none."""
    model = tower("ViT-B-16-SigLIP")
    encoder, pixels, text = vision_tower(model), image(model), texts(model, 4, torch.float32)
    config = GlobalTagsConfig(score="sigmoid")

    def scores(vision: VisionEncoder) -> list[float]:
        given = TagInput(vision, vision.encode(pixels), text[:, None], 3, lambda _: pixels[0])
        return tag_scores(given, config)[0].tolist()

    feature = normalize(model.encode_image(pixels), dim=-1)
    want = torch.sigmoid(model.logit_scale.exp() * text @ feature[0] + model.logit_bias)
    assert scores(encoder) == pytest.approx(want[:3].tolist(), abs=1e-5) and model.logit_bias != 0
    with pytest.raises(ValueError, match=r"trained with it, such as SigLIP, .* choose 'softmax'"):
        scores(replace(encoder, head=replace(encoder.head, logit_bias=None)))


# --- which towers there are ---------------------------------------------------------------------------------

PAGE = Path(__file__).resolve().parents[2] / "docs" / "towers.md"


def rows_of_page() -> list[tuple[list[str], str]]:
    """The patterns of names and the reason of refusal, empty for none, of each row of the page's table."""
    table = PAGE.read_text(encoding="utf-8").partition("| tower |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return [(re.findall(r"`([^`]+)`", names), reason) for _, names, _, reason in cells]


def test_the_page_says_of_every_name_what_the_program_does() -> None:
    used = set()
    for name in open_clip.list_models():
        found = (
            (index, why) for index, (names, why) in enumerate(rows_of_page()) for one in names if fnmatchcase(name, one)
        )
        index, why = next(found, (-1, ""))
        assert index >= 0, f"docs/towers.md has no row for {name}"
        used.add(index)
        reason = unsupported_reason(open_clip.get_model_config(name))
        assert (reason is None and not why) or (reason is not None and why and why in reason), (name, why, reason)
    assert used == set(range(len(rows_of_page())))


def timm_names() -> list[str]:
    """The names of open_clip with a tower of timm that is read, one for each such tower."""
    configs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    of_timm = {
        config["vision_cfg"]["timm_model_name"]: name
        for name, config in configs.items()
        if config["vision_cfg"].get("timm_model_name") and unsupported_reason(config) is None
    }
    return sorted(of_timm.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", timm_names())
def test_every_tower_of_timm_at_its_own_size(name: str) -> None:
    """Its own widths and patches, two blocks."""
    model = build_tower(name)
    encoder, pixels = vision_tower(model), image(model)
    height, width = (side * encoder.patch_size for side in encoder.native_grid)  # 384 px are 27 patches of 14
    encoded = encoder.encode(pixels[..., :height, :width])
    assert (
        deviation(image_features(encoder.head, encoded.last_block, pool_of(model)), model.encode_image(pixels)) < 1e-5
    )


def test_sizes_in_the_list_are_those_of_the_tower() -> None:
    listed = _info("MobileCLIP-B", (), open_clip.get_model_config("MobileCLIP-B"))
    assert (listed.patch, listed.grid, listed.blocks, listed.width) == (16, (14, 14), 12, 768)
    assert listed.parameters == 149_777_153
    for name in TOWERS:
        encoder, shape = vision_tower(tower(name)), tower_shape(tower(name).visual)
        assert shape == (encoder.patch_size, encoder.native_grid, len(encoder.blocks), encoder.prefix.shape[1])


def test_a_native_image_that_is_not_square() -> None:
    model = build(clip_config(image=(48, 32)))
    encoder = vision_tower(model)
    pixels = torch.randn(1, 3, 48, 32, generator=torch.Generator().manual_seed(0))
    assert encoder.native_grid == (6, 4)
    assert (
        deviation(image_features(encoder.head, encoder.encode(pixels).last_block, "cls"), model.encode_image(pixels))
        < 1e-5
    )


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("map", "class_attention"),
    [
        (GetamConfig(), 0.0),
        (PatchTextConfig(), 0.0),
        (CommitteeConfig((GradCamConfig(), GetamConfig())), 0.0),
        (None, 0.5),
    ],
)
def test_settings_that_need_a_class_token(map: MapConfig | None, class_attention: float) -> None:
    encoder = vision_tower(tower("vit_medium_patch16_gap_256"))
    chosen = replace(clipes.VOC12, map=map or GradCamConfig(), class_attention=ClassAttentionConfig(class_attention))
    for step in (
        lambda: check_model(encoder, chosen),
        lambda: encoder.encode(image(tower("MobileCLIP-B")), chosen.needs),
    ):
        with pytest.raises(ValueError, match=r"read a class token, and this model has none; choose the map 'gradcam'"):
            step()
    with pytest.raises(ValueError, match="this model has no class token; pool its patches, pool='patch'"):
        check_model(encoder, replace(clipes.VOC12, map=GradCamConfig(pool="cls")))
    check_model(vision_tower(tower("MobileCLIP-B")), chosen)


def other_block(trunk: Any) -> None:
    trunk.blocks[1].__class__ = type("ResPostBlock", (type(trunk.blocks[1]),), {})


def query_norm(trunk: Any) -> None:
    trunk.blocks[0].attn.q_norm = torch.nn.LayerNorm(64)


def overlapping_windows(trunk: Any) -> None:
    trunk.patch_embed.backbone[1].conv.stride = (1, 1)


def registers_alone(trunk: Any) -> None:
    trunk.cls_token, trunk.reg_token = None, torch.nn.Parameter(torch.zeros(1, 1, 768))


def relu(trunk: Any) -> None:
    trunk.blocks[1].mlp.act = torch.nn.ReLU()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_block, r"its trunk\.blocks\.1 is a ResPostBlock; clipes reads"),
        (query_norm, r"another form \(trunk\.blocks\.0\.attn\.q_norm\.bias, trunk\.blocks\.0\.attn\.q_norm\.weight\)"),
        (overlapping_windows, r"convolution trunk\.patch_embed\.backbone\.1 has windows that overlap"),
        (registers_alone, "it has registers and no class token"),
        (relu, r"the activation ReLU\(\) is not supported"),
        (lambda trunk: setattr(trunk, "global_pool", "max"), "its pooling is 'max'"),
    ],
)
def test_a_module_of_another_form(change: Callable[[Any], None], message: str) -> None:
    model = copy.deepcopy(tower("MobileCLIP-B"))
    change(model.visual.trunk)
    with pytest.raises(ModelError, match=message):
        vision_tower(model)


def test_a_tower_that_the_installed_timm_does_not_have() -> None:
    config = tower_config("MobileCLIP-B")
    config["vision_cfg"]["timm_model_name"] = "vit_of_tomorrow"
    assert unsupported_reason(config) == "the installed timm has no vit_of_tomorrow; update it: pip install -U timm"


def test_each_patch_alone_through_the_head() -> None:
    """Dense features with the block's own attention are the module's head for a picture of that one token."""
    for name in ("ViT-B-16-SigLIP", "MobileCLIP2-L-14"):
        model = pooling(tower(name), "avg")
        encoder, pixels, trunk = vision_tower(model), image(model), model.visual.trunk
        encoded = encoder.encode(pixels, EncodeRequest(tokens=1))
        settings = encoded.grids, "qk", True
        got = dense_features(encoder.blocks[-1], encoder.head, encoded.tokens[-1], *settings, layout=encoded.layout)[0]
        tokens = trunk.forward_features(pixels)[0, TOWERS[name] :]
        one_by_one = tokens[:, None] if TOWERS[name] == 0 else tokens[:, None].expand(-1, 2, -1)  # "avg" skips one
        assert deviation(got, normalize(model.visual.head(trunk.forward_head(one_by_one)), dim=-1)) < 1e-5


@pytest.mark.parametrize("map", [DenseConfig("kk+distance", False), DenseConfig(), GradCamConfig("cls")])
@pytest.mark.parametrize(
    "affinity", [AttentionAffinityConfig(boxes="none"), FeatureAffinityConfig(), ContrastAffinityConfig()]
)
def test_other_maps_and_affinities_without_a_class_token(map: MapConfig, affinity: AffinityConfig) -> None:
    """In a batch of two sizes as in batches of one."""
    config = replace(clipes.VOC12, map=map, affinity=affinity)
    encoder = vision_tower(tower("ViT-B-16-SigLIP"))
    p = encoder.patch_size
    pixels = [torch.randn(3, h * p, w * p, generator=torch.Generator().manual_seed(h)) for h, w in ((4, 3), (3, 5))]
    text = texts(tower("ViT-B-16-SigLIP"), 4, torch.float32)[:, None]

    def run(chosen: list[Tensor], labels: list[list[int]]) -> list[Tensor]:
        return compute_cams(encoder, encode_pixels(encoder, chosen, config), text, labels, 3, config)

    together = run(pixels, [[1, 3], [2]])
    alone = run(pixels[:1], [[1, 3]]) + run(pixels[1:], [[2]])
    for got, want in zip(together, alone, strict=True):
        assert got.shape == want.shape and 0.9 < want.amax() <= 1
        torch.testing.assert_close(got, want, rtol=0, atol=2e-3)
