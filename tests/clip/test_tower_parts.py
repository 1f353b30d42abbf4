"""Each part of a tower's description alone, against torch's or timm's; its gradient against autograd."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from timm.layers import AttentionPoolLatent, RotaryEmbeddingCat, apply_rot_embed_cat, resample_abs_pos_embed
from torch import Tensor, nn
from torch.nn import functional as F

from clipes.cams.backward import attended_vjp, feed_forward_vjp, mlp_vjp
from clipes.cams.head_backward import attention_pool_vjp
from clipes.clip.attention_pool import AttentionPool
from clipes.clip.mlp import Activation, Mlp, activate, activation_slope
from clipes.clip.norm import Norm
from clipes.clip.pairs import Pairs
from clipes.clip.positions import resample_positions
from clipes.clip.rotary import RotaryPositions
from clipes.clip.stem import PatchLayer, patch_size, patches_of
from clipes.clip.transformer import Block, attended, joined, mlp_and_residual

PAIRS = Pairs([[0, 1], [2]])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def norm(width: int, seed: int = 0) -> Norm:
    return Norm(1 + 0.2 * draw(width, seed=seed), 0.2 * draw(width, seed=seed + 1), 1e-5)


def mlp(gated: bool, inner: bool, activation: Activation = "gelu", width: int = 12, hidden: int = 20) -> Mlp:
    rows = hidden * (2 if gated else 1)
    layers = draw(rows, width, seed=1) / 3, draw(rows, seed=2), draw(width, hidden, seed=3) / 4, draw(width, seed=4)
    return Mlp(activation, *layers, gated=gated, norm=norm(hidden) if inner else None)


def near(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


# --- activations and MLPs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", get_args(Activation))
def test_activations_and_their_slopes(activation: Activation) -> None:
    x = (3 * draw(500)).requires_grad_()
    own = {"gelu": nn.GELU(), "gelu_tanh": nn.GELU(approximate="tanh"), "silu": nn.SiLU()}
    theirs = x * torch.sigmoid(1.702 * x) if activation == "quick_gelu" else own[activation](x)
    near(activate(x, activation), theirs)
    (slope,) = torch.autograd.grad(theirs.sum(), x)
    near(activation_slope(x.detach(), activation), slope)


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("gated", [False, True])
def test_the_gradient_of_an_mlp(gated: bool, inner: bool) -> None:
    layer, x = mlp(gated, inner, "silu" if gated else "gelu_tanh"), draw(2, 5, 12, seed=7).requires_grad_()
    hidden, output = layer.hidden(x), layer(x)
    if gated:
        gates, values = (
            F.linear(x, w, b) for w, b in zip(layer.fc_weight.chunk(2), layer.fc_bias.chunk(2), strict=True)
        )
        between = F.silu(gates) * values
        between = layer.norm(between) if layer.norm else between
        near(output, F.linear(between, layer.proj_weight, layer.proj_bias))
    grads = draw(3, 5, 12, seed=8)
    got = feed_forward_vjp(layer, hidden.detach(), PAIRS, grads)
    for pair, image in enumerate(PAIRS.image_indices):
        (want,) = torch.autograd.grad(output[image], x, grads[pair], retain_graph=True)
        near(got[pair], want[image])


# --- blocks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["plain", "inner norms", "norms after"])
def test_the_gradient_of_what_follows_attention(form: str) -> None:
    after = form == "norms after"
    block = Block(
        heads=3,
        ln_1=None,
        in_proj_weight=draw(36, 12),
        in_proj_bias=draw(36),
        out_weight=draw(12, 12, seed=5) / 3,
        out_bias=draw(12, seed=6),
        ls_1=None if after else draw(12, seed=7),
        ln_2=None if after else norm(12, 3),
        mlp=mlp(gated=form == "inner norms", inner=form == "inner norms"),
        ls_2=None if after else draw(12, seed=9),
        ln_context=norm(12, 4) if form == "inner norms" else None,
        ln_attended=norm(12, 5) if after else None,
        ln_fed=norm(12, 6) if after else None,
    )
    context, x = draw(2, 3, 5, 4, seed=11).requires_grad_(), draw(2, 5, 12, seed=12)
    between, hidden, output = mlp_and_residual(block, x, context)
    near(between, x + attended(block, context))
    assert block.ln_attended is None or not torch.equal(joined(block, context), attended(block, context))
    grads = draw(3, 5, 12, seed=13)
    before = mlp_vjp(block, between.detach(), hidden.detach(), PAIRS, grads)
    got = attended_vjp(block, context.detach(), PAIRS, before)
    for pair, image in enumerate(PAIRS.image_indices):
        wanted = torch.autograd.grad(output[image], (between, context), grads[pair], retain_graph=True)
        near(before[pair], wanted[0][image])
        near(got[pair], wanted[1][image])


# --- attention pooling --------------------------------------------------------------------------------------


def pool_and_module() -> tuple[AttentionPool, AttentionPoolLatent]:
    module = AttentionPoolLatent(12, num_heads=3, mlp_ratio=2, norm_layer=nn.LayerNorm).double()
    for index, value in enumerate(module.parameters()):
        value.data.copy_(draw(*value.shape, seed=index) / (3 if value.ndim > 1 else 1))
    key, value = (part.detach() for part in module.kv.weight.chunk(2))
    query = (module.q(module.latent[0, 0]).reshape(3, 1, 4) @ key.reshape(3, 4, 12))[:, 0] / 2
    layers = (module.mlp.fc1.weight, module.mlp.fc1.bias, module.mlp.fc2.weight, module.mlp.fc2.bias)
    return AttentionPool(
        query=query.detach(),
        value_weight=value,
        value_bias=module.kv.bias.chunk(2)[1].detach(),
        out_weight=module.proj.weight.detach(),
        out_bias=module.proj.bias.detach(),
        norm=Norm(module.norm.weight.detach(), module.norm.bias.detach(), module.norm.eps),
        mlp=Mlp("gelu", *(one.detach() for one in layers)),
        with_prefix=False,
    ), module.eval()


def test_attention_pooling_and_its_gradient() -> None:
    """The closed form of the gradient, with padding, against autograd through timm's module."""
    pool, module = pool_and_module()
    tokens, lengths = draw(2, 6, 12, seed=21), (6, 4)
    mask = torch.arange(6) < torch.tensor(lengths)[:, None]
    grads = draw(3, 1, 12, seed=22)
    got = attention_pool_vjp(pool, tokens, mask, PAIRS, grads)
    for pair, image in enumerate(PAIRS.image_indices):
        own = tokens[image : image + 1, : lengths[image]].clone().requires_grad_()
        pooled = module(own)
        near(pool(tokens, mask)[image], pooled[0])
        (want,) = torch.autograd.grad(pooled, own, grads[pair])
        near(got[pair, : lengths[image]], want[0])
        assert not got[pair, lengths[image] :].any()
        near(pool.alone(own[0]), module(own[0][:, None]))


# --- stems and positions ------------------------------------------------------------------------------------


def test_a_stem_is_its_convolutions() -> None:
    kernels = draw(5, 3, 4, 4), draw(7, 5, 2, 2, seed=1)
    stem = PatchLayer(kernels[0], draw(5), "gelu"), PatchLayer(kernels[1])
    pixels = draw(2, 3, 16, 24, seed=2)
    want = F.conv2d(F.gelu(F.conv2d(pixels, kernels[0], draw(5), stride=4)), kernels[1], stride=2)
    assert patch_size(stem) == 8
    near(patches_of(stem, pixels), want.flatten(2).mT)


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_antialiased_positions_are_timms(prefix: int) -> None:
    """Of a grid that is not square; the rows before it stay."""
    positions = draw(prefix + 24, 7).float()
    got = resample_positions(positions, (4, 6), (9, 5), "antialiased")
    want = resample_abs_pos_embed(positions[None], [9, 5], [4, 6], num_prefix_tokens=prefix)
    torch.testing.assert_close(got, want[0], rtol=0, atol=1e-6)
    assert torch.equal(got[:prefix], positions[:prefix])


@pytest.mark.parametrize("indexing", ["xy", "ij"])
@pytest.mark.parametrize("reference", [None, (4, 6)])
def test_rotary_positions_are_timms(indexing: str, reference: tuple[int, int] | None) -> None:
    """Images of two grids, padded: the patches turn as timm's do, the class token and padding do not."""
    rope = RotaryEmbeddingCat(16, in_pixels=False, ref_feat_shape=reference, grid_offset=1.0, grid_indexing=indexing)
    own = RotaryPositions(tuple(10000.0 ** (-i / 4) for i in range(4)), reference, 1.0, indexing == "xy")
    grids, x = [(3, 5), (2, 2)], draw(2, 3, 16, 16, seed=4)
    turn = own.rotation(grids, 1, x)
    got = turn(x)
    for index, (h, w) in enumerate(grids):
        want = apply_rot_embed_cat(x[index, :, 1 : 1 + h * w], rope.get_embed([h, w]).double())
        torch.testing.assert_close(got[index, :, 1 : 1 + h * w], want, rtol=0, atol=1e-5)
        assert torch.equal(got[index, :, :1], x[index, :, :1])
        assert torch.equal(got[index, :, 1 + h * w :], x[index, :, 1 + h * w :])
    near(turn.inverse(got), x)
    near((turn(x) * x.flip(2)).sum(), (x * turn.inverse(x.flip(2))).sum())  # the inverse is the transpose
