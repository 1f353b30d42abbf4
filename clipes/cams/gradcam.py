"""Softmax-GradCAM of CLIP-ES (section 3.2, equations 1-4), in closed form: no autograd graph, no hooks.

For a label c of an image, the gradient of its softmax probability (over the image's labels and all
background classes) with respect to u, the output of the last block's ``ln_1``, is averaged over the N patch
positions; that average weighs the channels of u. Only the average is needed, so the in-projection's backward
is a matrix-vector product and the only N x N work is one product with the transposed attention.

Axes: B images, P pairs of an image and one of its labels, K classes, M backgrounds, V names of each, E embedding,
D width, A heads, S tokens, R of them pooled, N = h * w of them patches; tokens and patches are padded to the largest
number in the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clipes.clip.head import Head, averages, image_features, pooled_rows
from clipes.clip.pairs import Pairs
from clipes.clip.transformer import Block, BlockActivations
from clipes.config import Pooling

from .backward import attended_vjp, feature_gradient, linear_vjp, mlp_vjp, unturned
from .head_backward import head_vjp
from .probabilities import label_softmax, name_logits
from .scaling import masked_min_max


def softmax_gradcam(
    block: Block,
    head: Head,
    activations: BlockActivations,
    text: Tensor,
    label_mask: Tensor,
    pairs: Pairs,
    pool: Pooling = "patch",
) -> Tensor:
    """Class activation maps of all (image, label) pairs of a batch at once.

    Args:
        block, head, activations: the last block, the projection head, and what the block computed.
        text: unit text features (K + M, V, E), the classes first; only the most likely of a class's V names counts.
        label_mask: (B, K) bool, the labels of each image.
        pairs: the image and label of every map.
        pool: how the image feature is pooled.

    Returns:
        (P, N) in [0, 1], of the tokens' dtype, min-max scaled twice as in the original code; 0 on padding.
    """
    features = image_features(head, activations, pool)
    logits, best_name = name_logits(features, text, head.logit_scale).max(-1)
    probabilities = label_softmax(logits, label_mask)
    gather = pairs.gather_images
    grad = feature_gradient(
        gather(features), gather(probabilities), pairs.label, text, gather(best_name), head.logit_scale
    )
    # Multiply the unit gradient, which is safe in half precision, and restore its norm afterwards: the 1e-7 in
    # min_max makes the result depend on the scale.
    norm = grad.norm(dim=-1, keepdim=True)
    direction = grad / norm.clamp_min(torch.finfo(grad.dtype).tiny)
    weights = pairs.pad_per_image(_channel_weights(block, head, activations, pairs, direction, pool) * norm)
    cams = pairs.unpad(weights @ activations.normed[:, activations.layout.patches].mT).relu()
    patch_mask = gather(activations.patch_mask)
    return masked_min_max(masked_min_max(cams, patch_mask), patch_mask)


def _channel_weights(
    block: Block, head: Head, activations: BlockActivations, pairs: Pairs, grad_feature: Tensor, pool: Pooling
) -> Tensor:
    """Mean over the patches of the gradient at ``ln_1``'s output, (P, D), from the feature's gradient (P, E)."""
    rows, prefix = pooled_rows(head, activations.layout, pool), activations.layout.prefix  # R tokens are pooled
    gather = pairs.gather_images
    patches = activations.patch_mask.sum(1, keepdim=True)
    grad = head_vjp(head, activations, rows, pairs, grad_feature, pool)
    grad = grad * gather(activations.token_mask[:, rows, None])
    grad = mlp_vjp(block, activations.after_attention[:, rows], activations.hidden[:, rows], pairs, grad)
    grad_context = attended_vjp(block, activations.context[:, :, rows], pairs, grad)  # (P, A, R, d)
    delta = (grad_context * gather(activations.context[:, :, rows])).sum(-1, keepdim=True)
    to_prefix = gather(activations.attention[:, :, rows, :prefix])  # (P, A, R, tokens before the patches)
    grad_value = ((1 - to_prefix.sum(-1, keepdim=True)) * grad_context).sum(-2)
    of_logits = _logits_vjp if activations.layout.rotation is None else _turned_logits_vjp
    grad_query, grad_key = of_logits(activations, rows, pairs, grad_context, delta)
    grad_qkv = torch.cat([g.flatten(1) for g in (grad_query, grad_key, grad_value)], -1)  # (P, 3D)
    # The second 1 / N comes from mean pooling. It is applied here, in float32, to avoid half-precision underflow.
    pooled = gather(patches) if averages(head, pool) else 1
    return linear_vjp(grad_qkv, block.in_proj_weight) / gather(patches) / pooled


def _logits_vjp(
    activations: BlockActivations, rows: slice, pairs: Pairs, grad_context: Tensor, delta: Tensor
) -> tuple[Tensor, Tensor]:
    """The sums (P, A, d) over the patches of the gradients at queries and keys, from that at the context of ``rows``.

    ``delta`` (P, A, R, 1) is the product of context and gradient. No matrix of all tokens is formed: all keys together
    have no gradient, because logits that all change alike change no softmax, so that of the patches is less that of the
    tokens before them.
    """
    gather, layout = pairs.gather_images, activations.layout
    query, value = gather(activations.query[:, :, rows]), gather(activations.value)
    scale = query.shape[-1] ** -0.5
    grad_key = torch.zeros_like(grad_context[:, :, 0])
    for token in range(layout.prefix):
        to_token = gather(activations.attention[:, :, rows, token, None])  # (P, A, R, 1)
        grad_to = (grad_context * value[:, :, token, None]).sum(-1, keepdim=True) - delta
        grad_key = grad_key - scale * (query * (to_token * grad_to)).sum(-2)
    before = layout.prefix - rows.start  # of the pooled tokens, those that are no patches, whose queries do not count
    if before >= grad_context.shape[-2]:
        return torch.zeros_like(grad_key), grad_key
    of_patches = torch.cat([grad_context, delta], -1)[:, :, before:]
    back = _attention_vjp(activations.attention[:, :, layout.patches], of_patches, pairs)
    grad_logit = (value * back[..., :-1]).sum(-1, keepdim=True) - back[..., -1:]
    return scale * (gather(activations.key) * grad_logit).sum(-2), grad_key


def _turned_logits_vjp(
    activations: BlockActivations, rows: slice, pairs: Pairs, grad_context: Tensor, delta: Tensor
) -> tuple[Tensor, Tensor]:
    """As :func:`_logits_vjp` with rotary positions: each patch turns its own gradient back, before the sum.

    One head's matrices of all pairs, each (P, R, S), are formed at a time.
    """
    gather, patches = pairs.gather_images, activations.layout.patches
    back, scale = unturned(activations.layout, pairs), activations.query.shape[-1] ** -0.5
    sums = []
    for head in range(grad_context.shape[1]):
        query, key, value, attention = (
            gather(getattr(activations, name)[:, head]) for name in ("query", "key", "value", "attention")
        )
        grad_logits = scale * attention[:, rows] * (grad_context[:, head] @ value.mT - delta[:, head])
        grad_query = torch.zeros_like(query)
        grad_query[:, rows] = grad_logits @ key
        grads = back(grad_query), back(grad_logits.mT @ query[:, rows])
        sums.append(torch.stack([grad[:, patches].sum(1) for grad in grads]))
    grad_queries, grad_keys = torch.stack(sums, 2)  # (P, A, d) each
    return grad_queries, grad_keys


def _attention_vjp(attention: Tensor, grad: Tensor, pairs: Pairs) -> Tensor:
    """The transposed attention (B, A, R, S) of each pair's image times ``grad`` (P, A, R, n): (P, A, S, n)."""
    padded = pairs.pad_per_image(grad).permute(0, 2, 3, 1, 4)  # (B, A, R, C, n)
    product = attention.mT @ padded.flatten(-2)
    return pairs.unpad(product.reshape(*product.shape[:-1], *padded.shape[-2:]).permute(0, 3, 1, 2, 4))
