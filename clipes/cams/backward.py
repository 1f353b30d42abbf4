"""Gradients through the parts of a block, in closed form, for all pairs of an image and a label at once.

Axes: as in :mod:`clipes.cams.gradcam`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from clipes.clip.layout import Layout
from clipes.clip.mlp import Mlp
from clipes.clip.norm import normed_vjp
from clipes.clip.pairs import Pairs
from clipes.clip.rotary import Rotation
from clipes.clip.transformer import Block, BlockActivations, joined, layer_scale, merge_heads, split_heads


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


def feed_forward_vjp(mlp: Mlp, hidden: Tensor, pairs: Pairs, grad: Tensor) -> Tensor:
    """Gradient (P, R, D) at an MLP's input from that at its output, and its ``hidden`` values (B, R, H)."""
    grad_activated = linear_vjp(grad, mlp.proj_weight)
    if mlp.norm is not None:
        grad_activated = mlp.norm.backward(mlp.activated(hidden), grad_activated, pairs)
    return linear_vjp(mlp.activated_vjp(hidden, grad_activated, pairs), mlp.fc_weight)


def mlp_vjp(block: Block, after_attention: Tensor, hidden: Tensor, pairs: Pairs, grad: Tensor) -> Tensor:
    """Gradient (P, R, D) before the MLP and its residual connection, from the gradient after them."""
    grad_fed = layer_scale(grad, block.ls_2)
    if block.ln_fed is not None:
        grad_fed = block.ln_fed.backward(block.mlp.output(hidden), grad_fed, pairs)
    return grad + normed_vjp(block.ln_2, after_attention, feed_forward_vjp(block.mlp, hidden, pairs, grad_fed), pairs)


def attended_vjp(block: Block, context: Tensor, pairs: Pairs, grad: Tensor) -> Tensor:
    """Gradient (P, A, R, d) at the heads' ``context`` (B, A, R, d) from that at what the attention adds (P, R, D)."""
    grad = layer_scale(grad, block.ls_1)
    if block.ln_attended is not None:
        grad = block.ln_attended.backward(joined(block, context), grad, pairs)
    grad = linear_vjp(grad, block.out_weight)
    return split_heads(normed_vjp(block.ln_context, merge_heads(context), grad, pairs), block.heads)


def context_gradient(block: Block, activations: BlockActivations, pairs: Pairs, grad: Tensor) -> tuple[Tensor, Tensor]:
    """From the gradient (P, S, D) at a block's output: that after the attention's residual connection (P, S, D), and
    that at the heads' context (P, A, S, d).
    """
    grad = mlp_vjp(block, activations.after_attention, activations.hidden, pairs, grad)
    return grad, attended_vjp(block, activations.context, pairs, grad)


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
    return grad + normed_vjp(block.ln_1, x, linear_vjp(grad_qkv, block.in_proj_weight), pairs)
