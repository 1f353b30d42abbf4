"""Gradients through the parts of a block, in closed form, for all pairs of an image and a label at once.

Axes: as in :mod:`clipes.cams.gradcam`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from clipes.clip.layout import Layout
from clipes.clip.mlp import Mlp, activation_slope
from clipes.clip.pairs import Pairs
from clipes.clip.rotary import Rotation
from clipes.clip.transformer import Block, BlockActivations, Norm, layer_scale, split_heads


def feature_gradient(
    features: Tensor, probabilities: Tensor, label: Tensor, text: Tensor, best_name: Tensor, logit_scale: float
) -> Tensor:
    """Gradient (P, E) of each pair's probability with respect to its image's feature, ``features`` (P, E).

    It flows only through the ``best_name`` (P, K + M) of the V names.
    """
    own = probabilities.gather(1, label[:, None])
    others = probabilities.scatter(1, label[:, None], 0.0)
    # 1 - own as the sum of the others: exact where the label's probability is close to 1.
    slopes = own * (-others).scatter(1, label[:, None], others.sum(1, keepdim=True))
    norm = features.norm(dim=-1, keepdim=True)
    unit = features / norm
    by_name = slopes.new_zeros(*slopes.shape, text.shape[1]).scatter(2, best_name[..., None], slopes[..., None])
    grad_unit = logit_scale * by_name.flatten(1) @ text.flatten(0, 1)
    grad: Tensor = (grad_unit - unit * (unit * grad_unit).sum(-1, keepdim=True)) / norm
    return grad


def linear_vjp(grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient at a linear layer's input, computed in the weight's dtype and returned in the gradient's."""
    return (grad.to(weight.dtype) @ weight).to(grad.dtype)


def feed_forward_vjp(
    norm: Norm, mlp: Mlp, x: Tensor, hidden: Tensor, pairs: Pairs, grad: Tensor, scale: Tensor | None = None
) -> Tensor:
    """Gradient (P, R, D) before a feed-forward part and its residual connection, from the gradient after them.

    Takes the part's input ``x`` (B, R, D), the MLP's ``hidden`` values (B, R, H), and its layer ``scale`` (D,).
    """
    grad_hidden = linear_vjp(layer_scale(grad, scale), mlp.proj_weight)
    grad_hidden = grad_hidden * pairs.gather_images(activation_slope(hidden, mlp.activation))
    return grad + norm.backward(x, linear_vjp(grad_hidden, mlp.fc_weight), pairs)


def mlp_vjp(block: Block, after_attention: Tensor, hidden: Tensor, pairs: Pairs, grad: Tensor) -> Tensor:
    """:func:`feed_forward_vjp` of a block."""
    return feed_forward_vjp(block.ln_2, block.mlp, after_attention, hidden, pairs, grad, block.ls_2)


def context_gradient(block: Block, activations: BlockActivations, pairs: Pairs, grad: Tensor) -> tuple[Tensor, Tensor]:
    """From the gradient (P, S, D) at a block's output: that after the attention's residual connection (P, S, D), and
    that at the heads' context (P, A, S, d).
    """
    grad = mlp_vjp(block, activations.after_attention, activations.hidden, pairs, grad)
    attended = linear_vjp(layer_scale(grad, block.ls_1), block.out_weight)
    return grad, split_heads(attended, block.heads)


def unturned(layout: Layout, pairs: Pairs) -> Callable[[Tensor], Tensor]:
    """What takes a head's gradient (P, S, d) at its turned queries or keys to that before the turn."""
    if layout.rotation is None:
        return lambda grad: grad
    rotation = Rotation(*(pairs.gather_images(part)[:, 0] for part in (layout.rotation.cos, layout.rotation.sin)))
    return rotation.inverse


def block_vjp(
    block: Block, x: Tensor, activations: BlockActivations, pairs: Pairs, grad: Tensor, grad_context: Tensor
) -> Tensor:
    """The gradient (P, S, D) at a block's input ``x`` (B, S, D), from what :func:`context_gradient` returns."""
    gather, scale = pairs.gather_images, activations.query.shape[-1] ** -0.5
    back = unturned(activations.layout, pairs)
    parts = []
    for head in range(block.heads):  # one head's S x S matrices of all pairs at a time
        query, key, value, attention, context = (
            gather(getattr(activations, name)[:, head]) for name in ("query", "key", "value", "attention", "context")
        )
        own = grad_context[:, head]
        grad_logits = attention * (own @ value.mT - (own * context).sum(-1, keepdim=True))
        parts.append((back(scale * grad_logits @ key), back(scale * grad_logits.mT @ query), attention.mT @ own))
    grad_qkv = torch.cat([grad_part for kind in zip(*parts, strict=True) for grad_part in kind], -1)
    return grad + block.ln_1.backward(x, linear_vjp(grad_qkv, block.in_proj_weight), pairs)
