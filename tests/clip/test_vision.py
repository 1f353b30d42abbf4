"""The forward pass of our own against open_clip's, slow statements, and itself."""

from __future__ import annotations

import copy
import math
from typing import Any

import open_clip
import pytest
import torch
from models import build, make_clip
from open_clip.transformer import Attention
from torch import Tensor, nn
from torch.nn import functional as F

from clipes.clip.errors import ModelError
from clipes.clip.head import image_features
from clipes.clip.open_clip_vision import vision_encoder
from clipes.clip.positions import resample_positions
from clipes.clip.transformer import attention_map, project_qkv, run_block_keeping_all, run_block_with_map
from clipes.clip.vision import Encoded, VisionEncoder
from clipes.config import AttentionBlocks, EncodeRequest, Pooling

pytestmark = pytest.mark.filterwarnings("error")

NATIVE = ["ViT-B-32", "ViT-B-16", "ViT-B-16-quickgelu", "ViT-L-14", "ViT-H-14"]
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "quick_gelu": {"quick_gelu": True},
    "layer_scale": {"ls_init": 0.1},
    "no_ln_pre": {"no_ln_pre": True},
    "head_width_8": {"head_width": 8},
    "one_head": {"head_width": 32},
    "patch_14": {"patch": 14, "image": 42},
    "patch_16": {"patch": 16, "image": 48},
    "patch_32": {"patch": 32, "image": 64},
    "one_layer": {"layers": 1},
    "average": {"pool_type": "avg"},
    "average_then_norm": {"pool_type": "avg", "final_ln_after_pool": True},
    "token_then_norm": {"final_ln_after_pool": True},
    "clipa": {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True, "ls_init": 0.1},
}


def pixels(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def features(encoder: VisionEncoder, images: Tensor, pool: Pooling = "cls") -> Tensor:
    return image_features(encoder.head, encoder.encode(images).last_block, pool)


def deviation(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the size of what it should be."""
    assert ours.shape == theirs.shape
    return float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max())


def native_pool(model: Any) -> Pooling:
    return "cls" if model.visual.pool_type == "tok" else "patch"


def at_size(model: Any, grid: tuple[int, int]) -> Any:
    """A copy of ``model`` whose own size is ``grid``: its positions resampled one by one, in plain loops."""
    model = copy.deepcopy(model)
    positions = model.visual.positional_embedding
    side = math.isqrt(len(positions) - 1)
    square = positions[1:].reshape(side, side, -1)
    rows = [positions[0]]
    for r in range(grid[0]):
        y = min(max((r + 0.5) * side / grid[0] - 0.5, 0.0), side - 1)
        top, below = int(y), min(int(y) + 1, side - 1)
        for c in range(grid[1]):
            x = min(max((c + 0.5) * side / grid[1] - 0.5, 0.0), side - 1)
            left, right = int(x), min(int(x) + 1, side - 1)
            upper = square[top, left] * (1 - (x - left)) + square[top, right] * (x - left)
            lower = square[below, left] * (1 - (x - left)) + square[below, right] * (x - left)
            rows.append(upper * (1 - (y - top)) + lower * (y - top))
    model.visual.positional_embedding = nn.Parameter(torch.stack(rows), requires_grad=False)
    return model


def block_maps(model: Any, images: Tensor) -> list[Tensor]:
    """Each block's patch-to-patch attention, averaged over its heads, as nn.MultiheadAttention reports it."""
    return [weights[:, 1:, 1:] for weights in attention_maps(model, images)]


def class_rows(model: Any, images: Tensor) -> list[Tensor]:
    """Each block's attention of the class token to the patches, averaged over its heads."""
    return [weights[:, 0, 1:] for weights in attention_maps(model, images)]


def attention_maps(model: Any, images: Tensor) -> list[Tensor]:
    x, maps = model.visual._embeds(images), []
    for block in model.visual.transformer.resblocks:
        normed = block.ln_1(x)
        maps.append(block.attn(normed, normed, normed, need_weights=True, average_attn_weights=True)[1])
        x = block(x)
    return maps


# --- open_clip's own size -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NATIVE)
def test_equals_open_clip_on_its_architectures(name: str) -> None:
    """Width, heads, patches, image and GELU are its own; the blocks are two and the text side is tiny."""
    cfg = open_clip.get_model_config(name)
    cfg["vision_cfg"]["layers"] = 2
    cfg["text_cfg"].update(width=16, heads=1, layers=1, context_length=8)
    model = build(cfg)
    size = cfg["vision_cfg"]["image_size"]
    images = pixels(1, 3, size, size)
    encoder = vision_encoder(model)
    assert encoder.blocks[0].heads == cfg["vision_cfg"]["width"] // cfg["vision_cfg"].get("head_width", 64)
    assert encoder.blocks[0].mlp.activation == ("quick_gelu" if "quickgelu" in name else "gelu")
    assert deviation(features(encoder, images), model.encode_image(images)) < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_open_clip_in_every_variant(variant: str) -> None:
    model = make_clip(**VARIANTS[variant])
    size = model.visual.image_size[0]
    images = pixels(2, 3, size, size)
    ours = features(vision_encoder(model), images, native_pool(model))
    assert deviation(ours, model.encode_image(images)) < 1e-5
    wide = features(vision_encoder(model.double()), images.double(), native_pool(model))
    assert deviation(wide, model.encode_image(images.double())) < 1e-13


def test_the_two_pools_differ() -> None:
    """So that the tests above tell one from the other."""
    encoder = vision_encoder(make_clip())
    images = pixels(1, 3, 32, 32)
    assert deviation(features(encoder, images, "cls"), features(encoder, images, "patch")) > 0.1


def test_weights_are_shared_and_frozen() -> None:
    model = make_clip()
    encoder = vision_encoder(model)
    assert encoder.stem[0].weight.data_ptr() == model.visual.conv1.weight.data_ptr()
    assert not encoder.blocks[-1].in_proj_weight.requires_grad
    assert encoder.head.logit_scale == pytest.approx(math.exp(3.0))


def test_mean_and_std_are_the_models_own() -> None:
    model = make_clip()
    assert vision_encoder(model).mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)
    model.visual.preprocess_cfg = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    assert vision_encoder(model).mean == (0.1, 0.2, 0.3)
    assert vision_encoder(model).std == (0.4, 0.5, 0.6)


# --- other sizes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(1, 1), (1, 7), (7, 1), (5, 3), (4, 4), (4, 5), (2, 8), (9, 11)])
def test_any_grid_equals_a_model_of_that_size(grid: tuple[int, int]) -> None:
    model = make_clip(ls_init=0.1).double()
    images = pixels(1, 3, grid[0] * 8, grid[1] * 8, dtype=torch.float64)
    encoded = vision_encoder(model).encode(images)
    assert encoded.grids == (grid,)
    assert encoded.last_block.output.shape == (1, 1 + grid[0] * grid[1], 32)
    other = at_size(model, grid)
    tokens = other.visual.transformer(other.visual._embeds(images))
    assert deviation(encoded.last_block.output, tokens) < 1e-12


@pytest.mark.parametrize("grid", [(1, 1), (3, 5), (8, 8), (20, 13)])
def test_positions_are_torchs_half_pixel_bilinear(grid: tuple[int, int]) -> None:
    positions = pixels(17, 6, seed=3)
    got = resample_positions(positions, (4, 4), grid)
    square = positions[1:].reshape(4, 4, 6).permute(2, 0, 1)[None]
    want = F.interpolate(square, grid, mode="bilinear", align_corners=False, antialias=False)
    assert torch.equal(got[0], positions[0])
    assert torch.equal(got[1:].reshape(*grid, 6), want[0].permute(1, 2, 0))


def test_positions_of_the_native_grid_are_untouched() -> None:
    positions = pixels(17, 6, seed=3)
    assert resample_positions(positions, (4, 4), (4, 4)) is positions


@pytest.mark.parametrize("shape", [(8, 12), (12, 8), (4, 8), (8, 0), (0, 0), (7, 7)])
def test_sizes_that_do_not_divide_are_refused(shape: tuple[int, int]) -> None:
    encoder = vision_encoder(make_clip())
    with pytest.raises(ValueError, match=rf"images of {shape[0]}x{shape[1]} pixels do not divide .* of 8"):
        encoder.encode(torch.zeros(1, 3, *shape))


# --- attention ----------------------------------------------------------------------------------------------


def mean_of(blocks: int) -> EncodeRequest:
    return EncodeRequest(attention=frozenset({AttentionBlocks(blocks)}))


def mean(encoded: Encoded) -> torch.Tensor:
    """The only mean of attention that was asked for."""
    (attention,) = encoded.attention.values()
    return attention


@pytest.mark.parametrize("blocks", [1, 2, 4, 5, 8])
@pytest.mark.parametrize("grid", [(4, 4), (3, 5)])
def test_attention_is_the_mean_of_the_last_blocks(blocks: int, grid: tuple[int, int]) -> None:
    model = make_clip(layers=5).double()
    images = pixels(2, 3, grid[0] * 8, grid[1] * 8, dtype=torch.float64)
    attention = vision_encoder(model).encode(images, mean_of(blocks)).attention[AttentionBlocks(blocks)]
    maps = block_maps(at_size(model, grid), images)
    assert deviation(maps[-1], maps[-2]) > 0.1  # or the wrong blocks would pass
    assert deviation(attention, torch.stack(maps[-blocks:]).mean(0)) < 1e-12


def test_several_requests_are_kept_from_one_pass() -> None:
    """Means of attention, the class token's rows, the blocks' inputs and votes: by the maps of all blocks."""
    model, grid = make_clip(layers=5).double(), (3, 5)
    images = pixels(2, 3, grid[0] * 8, grid[1] * 8, dtype=torch.float64)
    encoder, maps = vision_encoder(model), block_maps(at_size(model, grid), images)
    means = AttentionBlocks(3), AttentionBlocks(3, skip_last=True), AttentionBlocks(9), AttentionBlocks(2)
    uneven = AttentionBlocks(3, oldest_per_head=True)
    request = EncodeRequest(frozenset({*means, uneven}), frozenset({1, 3, 9}), tokens=2, votes=True)
    got = encoder.encode(images, request)
    expected = dict(zip(means, (maps[2:], maps[2:4], maps, maps[3:]), strict=True))
    for blocks, chosen in expected.items():
        assert deviation(got.attention[blocks], torch.stack(chosen).mean(0)) < 1e-12
    heads = encoder.blocks[0].heads
    assert deviation(got.attention[uneven], (maps[2] / heads + maps[3] + maps[4]) / 3) < 1e-12 and heads > 1
    votes = sum((one > one.mean((1, 2), keepdim=True)).int() for one in maps)
    assert got.votes is not None and torch.equal(got.votes.int(), votes) and 0 < votes.float().mean() < 5
    for last, row in got.class_attention.items():
        rows = class_rows(at_size(model, grid), images)[-last:]
        assert deviation(row, torch.stack(rows).mean(0)) < 1e-12
    assert len(got.tokens) == 2
    activations = [run_block_keeping_all(*pair) for pair in zip(encoder.blocks[-2:], got.tokens, strict=True)]
    assert deviation(activations[0].output, got.tokens[1]) < 1e-12
    assert deviation(activations[1].output, got.last_block.output) < 1e-12
    with pytest.raises(ValueError, match="encoded for other settings"):
        got.check(EncodeRequest(tokens=3))
    got.check(request)


def test_padding_does_not_vote() -> None:
    encoder = vision_encoder(make_clip(layers=3).double())
    images = [pixels(3, 8 * h, 8 * w, dtype=torch.float64) for h, w in ((3, 5), (2, 2))]
    request = EncodeRequest(class_attention=frozenset({2}), votes=True)
    together, alone = encoder.encode(images, request), encoder.encode(images[1:], request)
    assert together.votes is not None and alone.votes is not None
    assert torch.equal(together.votes[1, :4, :4], alone.votes[0])
    assert not together.votes[1, 4:].any() and not together.votes[1, :, 4:].any()
    assert deviation(together.class_attention[2][1, :4], alone.class_attention[2][0]) < 1e-12
    assert not together.class_attention[2][1, 4:].any()


def test_attention_is_not_renormalised() -> None:
    attention = vision_encoder(make_clip()).encode(pixels(1, 3, 32, 32), mean_of(8)).attention[AttentionBlocks(8)]
    sums = attention.sum(-1)
    assert (attention >= 0).all() and (sums < 1).all() and sums.std() > 1e-3


def test_attention_only_where_asked_for() -> None:
    encoder = vision_encoder(make_clip())
    images = pixels(1, 3, 32, 32)
    alone = encoder.encode(images)
    assert not alone.attention and not alone.class_attention and not alone.tokens and alone.votes is None
    with_maps = encoder.encode(images, mean_of(8))
    assert [kept.dtype for kept in with_maps.attention.values()] == [torch.float32]
    assert deviation(with_maps.last_block.output, encoder.encode(images).last_block.output) < 1e-5


# --- batches ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_a_batch_equals_its_images(dtype: torch.dtype, tolerance: float) -> None:
    encoder = vision_encoder(make_clip(layers=4).to(dtype))
    images = pixels(5, 3, 24, 40, dtype=dtype)
    together = encoder.encode(images, mean_of(3))
    for index in range(5):
        alone = encoder.encode(images[index : index + 1], mean_of(3))
        assert deviation(together.last_block.output[index : index + 1], alone.last_block.output) < tolerance
        assert deviation(mean(together)[index : index + 1], mean(alone)) < tolerance


# --- precision ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 0.005)])
def test_the_last_block_and_the_head_stay_wide(dtype: torch.dtype, tolerance: float) -> None:
    encoder = vision_encoder(make_clip(layers=6))
    narrow = encoder.to("cpu", dtype)
    assert narrow.dtype == dtype and narrow.blocks[0].ln_1.bias.dtype == dtype
    assert narrow.blocks[-1].ls_1 is None and narrow.mean == encoder.mean
    for part in (narrow.blocks[-1].in_proj_weight, narrow.blocks[-1].ln_2.weight, narrow.head.projection):
        assert part.dtype == torch.float32
    assert torch.equal(narrow.blocks[-1].out_weight, encoder.blocks[-1].out_weight)  # never narrowed on the way
    assert narrow.blocks[-1].mlp.fc_weight.dtype == narrow.blocks[-1].mlp.proj_bias.dtype == dtype  # but for the MLP
    images = pixels(2, 3, 24, 40)
    got, want = (one.encode(images, mean_of(8)) for one in (narrow, encoder))
    assert mean(got).dtype == got.last_block.output.dtype == torch.float32
    assert 0 < deviation(got.last_block.output, want.last_block.output) < tolerance
    assert deviation(mean(got), mean(want)) < tolerance
    assert encoder.dtype == torch.float32  # a copy: the original stays


def test_maps_of_narrow_blocks_are_averaged_wide() -> None:
    block = vision_encoder(make_clip()).to("cpu", torch.bfloat16).blocks[0]
    x, total = pixels(1, 17, 32, dtype=torch.bfloat16), torch.zeros(1, 16, 16)
    output = run_block_with_map(block, x, [(total, 1 / block.heads)])
    q, k, _ = project_qkv(block, block.ln_1(x))
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(total, attention_map(q, k).float().mean(1)[:, 1:, 1:], rtol=1e-6, atol=0)


def test_to_keeps_what_it_is_not_told_to_change() -> None:
    encoder = vision_encoder(make_clip(ls_init=0.1))
    same = encoder.to("cpu")
    assert same.dtype == torch.float32 and torch.equal(same.stem[0].weight, encoder.stem[0].weight)
    double = encoder.to(dtype=torch.float64)
    assert double.head.projection.dtype == double.blocks[-1].ln_1.weight.dtype == torch.float64
    assert double.blocks[0].ls_2 is not None and double.blocks[0].ls_2.dtype == torch.float64


# --- open_clip's other attention module ---------------------------------------------------------------------


def with_attention(model: Any, **options: Any) -> Any:
    """``model`` with every ``nn.MultiheadAttention`` replaced by open_clip's own ``Attention``."""
    model = copy.deepcopy(model)
    for block in model.visual.transformer.resblocks:
        old = block.attn
        new = Attention(old.embed_dim, old.num_heads, **options)
        new.load_state_dict(old.state_dict(), strict=False)
        block.attn = new.eval().requires_grad_(False)
    return model


def test_open_clips_own_attention_module_gives_the_same() -> None:
    model = make_clip(ls_init=0.1, layers=4)
    images = pixels(1, 3, 24, 40)
    other = vision_encoder(with_attention(model))
    assert torch.equal(features(other, images), features(vision_encoder(model), images))


@pytest.mark.parametrize(
    ("option", "parameter"),
    [
        ("qk_norm", "ln_k.bias"),
        ("scaled_cosine", "logit_scale"),
        ("scale_heads", "head_scale"),
        ("inner_norm", "ln_inner"),
    ],
)
def test_attention_of_another_form_is_refused(option: str, parameter: str) -> None:
    with pytest.raises(ModelError, match=rf"another form \(.*attn\.{parameter}"):
        vision_encoder(with_attention(make_clip(), **{option: True}))


def test_attention_without_bias_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no transformer\.resblocks\.0\.attn\.in_proj_bias"):
        vision_encoder(with_attention(make_clip(), qkv_bias=False))


def test_a_layer_without_parameters_that_changes_the_result_is_refused() -> None:
    model = with_attention(make_clip())
    model.visual.transformer.resblocks[1].attn.ln_q = nn.LayerNorm(16, elementwise_affine=False)
    with pytest.raises(ModelError, match=r"another form \(transformer\.resblocks\.1\.attn\.ln_q\)"):
        vision_encoder(model)


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.Hardswish()])
def test_another_activation_is_refused(layer: nn.Module) -> None:
    model = make_clip()
    model.visual.transformer.resblocks[1].mlp.gelu = layer
    with pytest.raises(ModelError, match=r"activation .* is not supported; clipes knows GELU, QuickGELU and SiLU"):
        vision_encoder(model)


@pytest.mark.parametrize("images", [torch.zeros(3, 16, 16), torch.zeros(1, 1, 16, 16), [torch.zeros(16, 16, 3)]])
def test_what_is_no_image_is_refused(images: Any) -> None:
    with pytest.raises(ValueError, match=r"an image is \(3, H, W\), not .*; give \(B, 3, H, W\) or a list"):
        vision_encoder(make_clip()).encode(images)
    with pytest.raises(ValueError, match="no images to encode; give one at least"):
        vision_encoder(make_clip()).encode([])
