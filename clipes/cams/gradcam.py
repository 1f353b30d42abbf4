"""Softmax-GradCAM of CLIP-ES (section 3.2, equations 1-4), in closed form: no autograd graph, no hooks.

For a label c of an image, the gradient of its softmax probability (over the image's labels and all
background classes) with respect to u, the output of the last block's ``ln_1``, is averaged over the N patch
positions; that average weighs the channels of u. Only the average is needed, so the in-projection's backward
is a matrix-vector product and the only N x N work is one product with the transposed attention.

Axes: B images, P pairs of an image and one of its labels, K classes, M backgrounds, V names of each, E embedding,
D width, A heads, S = 1 + N tokens, N = h * w patches; tokens and patches are padded to the most of an image.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from clipes.clip.head import Head, image_features, pool_tokens
from clipes.clip.pairs import Pairs
from clipes.clip.transformer import Block, Trace, activation_slope, scaled, split_heads
from clipes.config import Pool


def label_probabilities(features: Tensor, text: Tensor, present: Tensor, logit_scale: float) -> Tensor:
    """Softmax over [the image's labels, all backgrounds] (equation 1).

    The logit of a class is that of its likeliest name. Takes image features (B, E), unit text features (K + M, V, E)
    of V names of each class and background word, and ``present`` (B, K) bool, the labels of each image. Returns
    (B, K + M) in [0, 1]; classes that are not labels of the image get 0.
    """
    return _softmax(name_logits(features, text, logit_scale).amax(-1), present)


def name_logits(features: Tensor, text: Tensor, logit_scale: float) -> Tensor:
    """Logits (B, K + M, V) of image features (B, E) and unit text features (K + M, V, E)."""
    return (logit_scale * F.normalize(features, dim=-1) @ text.flatten(0, 1).T).reshape(-1, *text.shape[:2])


def _softmax(logits: Tensor, present: Tensor) -> Tensor:
    allowed = F.pad(present, (0, logits.shape[1] - present.shape[1]), value=True)
    return logits.masked_fill(~allowed, -torch.inf).softmax(-1)


def softmax_gradcam(
    block: Block, head: Head, trace: Trace, text: Tensor, present: Tensor, pairs: Pairs, pool: Pool = "patch"
) -> Tensor:
    """Class activation maps of all (image, label) pairs of a batch at once.

    Args:
        block, head, trace: the last block, the projection head, and what the block left behind.
        text: unit text features (K + M, V, E), the classes' first; of a class's V names the likeliest counts.
        present: (B, K) bool, the labels of each image.
        pairs: every wanted map's image and label.
        pool: how the image feature is pooled.

    Returns:
        (P, N) in [0, 1], of the tokens' dtype, min-max scaled as in the reference; 0 on padding.
    """
    features = image_features(head, trace, pool)
    logits, likeliest = name_logits(features, text, head.logit_scale).max(-1)
    probabilities = _softmax(logits, present)
    each = pairs.each
    grad = _feature_gradient(each(features), each(probabilities), pairs.label, text, each(likeliest), head.logit_scale)
    # The direction alone goes through the matrix products; its length is given back before the scaling,
    # whose 1e-7 makes the length matter for tiny maps.
    length = grad.norm(dim=-1, keepdim=True)
    direction = grad / length.clamp_min(torch.finfo(grad.dtype).tiny)
    weights = pairs.by_image(_channel_weights(block, head, trace, pairs, direction, pool) * length)
    cams = pairs.of_pairs(weights @ trace.normed[:, 1:].mT).relu()
    patches = each(trace.real[:, 1:])
    return min_max_of(min_max_of(cams, patches), patches)


def min_max_of(maps: Tensor, real: Tensor) -> Tensor:
    """As :func:`min_max`, over the places of each map (P, N) that are ``real`` (P, N), the first among them; the others
    become 0.
    """
    return min_max(torch.where(real, maps, maps[:, :1])) * real


def min_max(maps: Tensor) -> Tensor:
    """Scale each map (..., N) to [0, 1] as the reference does: ``(x - min) / (1e-7 + max(x - min))``."""
    shifted = maps - maps.amin(-1, keepdim=True)
    return shifted / (1e-7 + shifted.amax(-1, keepdim=True))


def _feature_gradient(
    features: Tensor, probabilities: Tensor, label: Tensor, text: Tensor, likeliest: Tensor, logit_scale: float
) -> Tensor:
    """Gradient (P, E) of each pair's probability with respect to its image's feature, ``features`` (P, E).

    It flows through the ``likeliest`` (P, K + M) of the V names alone.
    """
    own = probabilities.gather(1, label[:, None])
    others = probabilities.scatter(1, label[:, None], 0.0)
    # 1 - own as the sum of the others: exact where the label's probability is close to 1.
    slopes = own * (-others).scatter(1, label[:, None], others.sum(1, keepdim=True))
    length = features.norm(dim=-1, keepdim=True)
    unit = features / length
    by_name = slopes.new_zeros(*slopes.shape, text.shape[1]).scatter(2, likeliest[..., None], slopes[..., None])
    grad_unit = logit_scale * by_name.flatten(1) @ text.flatten(0, 1)
    grad: Tensor = (grad_unit - unit * (unit * grad_unit).sum(-1, keepdim=True)) / length
    return grad


def _channel_weights(block: Block, head: Head, trace: Trace, pairs: Pairs, grad_feature: Tensor, pool: Pool) -> Tensor:
    """Mean over the patches of the gradient at ``ln_1``'s output: (P, D), for d feature (P, E)."""
    rows = slice(0, 1) if pool == "cls" else slice(1, None)  # the tokens through which the feature is pooled
    each = pairs.each
    patches = trace.real[:, 1:].sum(1, keepdim=True)
    grad = _output_gradient(head, trace, rows, pairs, grad_feature, pool) * each(trace.real[:, rows, None])
    grad = _middle_gradient(block, trace.middle[:, rows], trace.hidden[:, rows], pairs, grad)
    grad_context = split_heads(_back(scaled(grad, block.ls_1), block.out_weight), block.heads)  # (P, A, R, d)
    value = each(trace.value)
    delta = (grad_context * each(trace.context[:, :, rows])).sum(-1, keepdim=True)
    to_class = each(trace.attention[:, :, rows, :1])  # (P, A, R, 1)
    scale = trace.query.shape[-1] ** -0.5

    grad_value = ((1 - to_class) * grad_context).sum(-2)
    towards_class = (grad_context * value[:, :, :1]).sum(-1, keepdim=True) - delta
    grad_key = -scale * (each(trace.query[:, :, rows]) * (to_class * towards_class)).sum(-2)
    if pool == "cls":
        grad_query = torch.zeros_like(grad_key)  # no patch asks: the class token's query is not a patch's
    else:
        back = _attention_back(trace.attention[:, :, rows], torch.cat([grad_context, delta], -1), pairs)
        share = (value * back[..., :-1]).sum(-1, keepdim=True) - back[..., -1:]
        grad_query = scale * (each(trace.key) * share).sum(-2)
    stacked = torch.cat([g.flatten(1) for g in (grad_query, grad_key, grad_value)], -1)  # (P, 3D)
    # The pooled feature is a mean as well; divided here, where nothing is of a lower precision.
    pooled = 1 if pool == "cls" else each(patches)
    return _back(stacked, block.in_proj_weight) / each(patches) / pooled


def _back(grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient before a linear layer, computed in its weight's floating type, returned in its own."""
    return (grad.to(weight.dtype) @ weight).to(grad.dtype)


def _attention_back(attention: Tensor, grad: Tensor, pairs: Pairs) -> Tensor:
    """The transposed attention (B, A, R, S) of each pair's image times ``grad`` (P, A, R, n): (P, A, S, n)."""
    padded = pairs.by_image(grad).permute(0, 2, 3, 1, 4)  # (B, A, R, C, n)
    product = attention.mT @ padded.flatten(-2)
    return pairs.of_pairs(product.reshape(*product.shape[:-1], *padded.shape[-2:]).permute(0, 3, 1, 2, 4))


def _output_gradient(head: Head, trace: Trace, rows: slice, pairs: Pairs, grad_feature: Tensor, pool: Pool) -> Tensor:
    """Gradient (P, R, D) at the block's output tokens ``rows`` of their sum's feature."""
    grad = (grad_feature @ head.projection.T)[:, None]  # (P, 1, D)
    if not head.norm_after_pool:
        return head.ln_post.backward(trace.output[:, rows], grad, pairs)
    grad = head.ln_post.backward(pool_tokens(trace.output, trace.real, pool)[:, None], grad, pairs)
    return grad.expand(-1, trace.output[:, rows].shape[1], -1)


def _middle_gradient(block: Block, middle: Tensor, hidden: Tensor, pairs: Pairs, grad: Tensor) -> Tensor:
    """Gradient (P, R, D) before the MLP's residual for the gradient after it."""
    grad_hidden = _back(scaled(grad, block.ls_2), block.proj_weight)
    grad_hidden = grad_hidden * pairs.each(activation_slope(hidden, block.activation))
    return grad + block.ln_2.backward(middle, _back(grad_hidden, block.fc_weight), pairs)
