"""Softmax-GradCAM of CLIP-ES (section 3.2, equations 1-4), in closed form: no autograd graph, no hooks.

For a label c of an image, the gradient of its softmax probability (over the image's labels and all
background classes) with respect to u, the output of the last block's ``ln_1``, is averaged over the N patch
positions; that average weighs the channels of u. Only the average is needed, so the in-projection's backward
is a matrix-vector product and the only N x N work is one product with the transposed attention.

Axes: B images, P pairs of an image and one of its labels, K classes, M backgrounds, V names of each, E embedding,
D width, A heads, S = 1 + N tokens, R of them pooled, N = h * w patches; tokens and patches are padded to the largest
number in the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from clipes.clip.head import Head, image_features, pool_tokens
from clipes.clip.pairs import Pairs
from clipes.clip.transformer import Block, BlockActivations, activation_slope, layer_scale, split_heads
from clipes.config import Pooling

from .scaling import masked_min_max


def label_probabilities(features: Tensor, text: Tensor, label_mask: Tensor, logit_scale: float) -> Tensor:
    """Softmax over [the image's labels, all backgrounds] (equation 1).

    A class's logit is the highest of its names' logits. Takes image features (B, E), unit text features (K + M, V, E)
    of V names of each class and background word, and ``label_mask`` (B, K) bool, the labels of each image. Returns
    (B, K + M) in [0, 1]; classes that are not labels of the image get 0.
    """
    return _softmax(name_logits(features, text, logit_scale).amax(-1), label_mask)


def name_logits(features: Tensor, text: Tensor, logit_scale: float) -> Tensor:
    """Logits (B, K + M, V) of image features (B, E) and unit text features (K + M, V, E)."""
    return (logit_scale * F.normalize(features, dim=-1) @ text.flatten(0, 1).T).reshape(-1, *text.shape[:2])


def _softmax(logits: Tensor, label_mask: Tensor) -> Tensor:
    allowed = F.pad(label_mask, (0, logits.shape[1] - label_mask.shape[1]), value=True)
    return logits.masked_fill(~allowed, -torch.inf).softmax(-1)


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
    probabilities = _softmax(logits, label_mask)
    gather = pairs.gather_images
    grad = _feature_gradient(
        gather(features), gather(probabilities), pairs.label, text, gather(best_name), head.logit_scale
    )
    # Multiply the unit gradient, which is safe in half precision, and restore its norm afterwards: the 1e-7 in
    # min_max makes the result depend on the scale.
    norm = grad.norm(dim=-1, keepdim=True)
    direction = grad / norm.clamp_min(torch.finfo(grad.dtype).tiny)
    weights = pairs.pad_per_image(_channel_weights(block, head, activations, pairs, direction, pool) * norm)
    cams = pairs.unpad(weights @ activations.normed[:, 1:].mT).relu()
    patch_mask = gather(activations.token_mask[:, 1:])
    return masked_min_max(masked_min_max(cams, patch_mask), patch_mask)


def _feature_gradient(
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


def _channel_weights(
    block: Block, head: Head, activations: BlockActivations, pairs: Pairs, grad_feature: Tensor, pool: Pooling
) -> Tensor:
    """Mean over the patches of the gradient at ``ln_1``'s output, (P, D), from the feature's gradient (P, E)."""
    rows = slice(0, 1) if pool == "cls" else slice(1, None)  # the R tokens that are pooled
    gather = pairs.gather_images
    patches = activations.token_mask[:, 1:].sum(1, keepdim=True)
    grad = _head_vjp(head, activations, rows, pairs, grad_feature, pool)
    grad = grad * gather(activations.token_mask[:, rows, None])
    grad = _mlp_vjp(block, activations.after_attention[:, rows], activations.hidden[:, rows], pairs, grad)
    grad_context = split_heads(_linear_vjp(layer_scale(grad, block.ls_1), block.out_weight), block.heads)  # (P,A,R,d)
    value = gather(activations.value)
    delta = (grad_context * gather(activations.context[:, :, rows])).sum(-1, keepdim=True)
    to_class = gather(activations.attention[:, :, rows, :1])  # (P, A, R, 1)
    scale = activations.query.shape[-1] ** -0.5

    grad_value = ((1 - to_class) * grad_context).sum(-2)
    grad_to_class = (grad_context * value[:, :, :1]).sum(-1, keepdim=True) - delta
    grad_key = -scale * (gather(activations.query[:, :, rows]) * (to_class * grad_to_class)).sum(-2)
    if pool == "cls":
        grad_query = torch.zeros_like(grad_key)  # only the class token queries, so patch queries have no gradient
    else:
        back = _attention_vjp(activations.attention[:, :, rows], torch.cat([grad_context, delta], -1), pairs)
        grad_logit = (value * back[..., :-1]).sum(-1, keepdim=True) - back[..., -1:]
        grad_query = scale * (gather(activations.key) * grad_logit).sum(-2)
    grad_qkv = torch.cat([g.flatten(1) for g in (grad_query, grad_key, grad_value)], -1)  # (P, 3D)
    # The second 1 / N comes from mean pooling. It is applied here, in float32, to avoid half-precision underflow.
    pooled = 1 if pool == "cls" else gather(patches)
    return _linear_vjp(grad_qkv, block.in_proj_weight) / gather(patches) / pooled


def _linear_vjp(grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient at a linear layer's input, computed in the weight's dtype and returned in the gradient's."""
    return (grad.to(weight.dtype) @ weight).to(grad.dtype)


def _attention_vjp(attention: Tensor, grad: Tensor, pairs: Pairs) -> Tensor:
    """The transposed attention (B, A, R, S) of each pair's image times ``grad`` (P, A, R, n): (P, A, S, n)."""
    padded = pairs.pad_per_image(grad).permute(0, 2, 3, 1, 4)  # (B, A, R, C, n)
    product = attention.mT @ padded.flatten(-2)
    return pairs.unpad(product.reshape(*product.shape[:-1], *padded.shape[-2:]).permute(0, 3, 1, 2, 4))


def _head_vjp(
    head: Head, activations: BlockActivations, rows: slice, pairs: Pairs, grad_feature: Tensor, pool: Pooling
) -> Tensor:
    """Gradient (P, R, D) at the block's output tokens ``rows``, if the feature pooled their sum."""
    grad = (grad_feature @ head.projection.T)[:, None]  # (P, 1, D)
    if not head.norm_after_pool:
        return head.ln_post.backward(activations.output[:, rows], grad, pairs)
    pooled = pool_tokens(activations.output, activations.token_mask, pool)
    grad = head.ln_post.backward(pooled[:, None], grad, pairs)
    return grad.expand(-1, activations.output[:, rows].shape[1], -1)


def _mlp_vjp(block: Block, after_attention: Tensor, hidden: Tensor, pairs: Pairs, grad: Tensor) -> Tensor:
    """Gradient (P, R, D) before the MLP and its residual connection, from the gradient after them."""
    grad_hidden = _linear_vjp(layer_scale(grad, block.ls_2), block.proj_weight)
    grad_hidden = grad_hidden * pairs.gather_images(activation_slope(hidden, block.activation))
    return grad + block.ln_2.backward(after_attention, _linear_vjp(grad_hidden, block.fc_weight), pairs)
