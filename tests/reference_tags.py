"""Slow, obvious statements of tagging: a pair of patches, a class, an image at a time, over open_clip's weights."""

from __future__ import annotations

import math

import numpy as np
import torch
from reference import activation, block_from_normed, box_mask, layer_norm, min_max, tokens_before_blocks
from reference_sources import dense, scaled
from torch import Tensor


def votes(maps: list[Tensor]) -> Tensor:
    """In how many blocks each pair of patches is above the mean of the block's head-mean attention (S, S)."""
    count = torch.zeros(len(maps[0]) - 1, len(maps[0]) - 1)
    for attention in maps:
        pairs = attention[1:, 1:]
        for i in range(len(pairs)):
            for j in range(len(pairs)):
                count[i, j] += float(pairs[i, j] > pairs.mean())
    return count


def shares(feature: Tensor, text: Tensor, scale: float) -> Tensor:
    """The softmax over all classes and words; of the names of each, the likeliest counts."""
    feature = feature / feature.norm()
    return torch.softmax(torch.stack([max(scale * name @ feature for name in names) for names in text]), 0)


def tagclip_dense(visual, pixels: Tensor, text: Tensor, scale: float, grid, blocks: int, least: int, boxes: str):
    """Scores (N, K + M): an N x N affinity for each class, its columns outside the class's boxes 0."""
    x, maps = tokens_before_blocks(visual, pixels), []
    for block in visual.transformer.resblocks:
        x, attention = block_from_normed(block, x, layer_norm(x, block.ln_1))
        maps.append(attention)
    affinity = sum(one[1:, 1:] for one in maps[-1 - blocks : -1]) / len(maps[-1 - blocks : -1])
    affinity = affinity * (votes(maps) >= least)
    features = dense(visual, tokens_before_blocks(visual, pixels), grid, "identity", True, 5.0)
    coarse = torch.stack([shares(feature, text, scale) for feature in features])
    first = affinity @ coarse
    result = torch.zeros_like(first)
    for c in range(len(text)):
        scaled_map = min_max(first[:, c]).double().reshape(grid).numpy()
        inside = box_mask(scaled_map, float(scaled_map.mean()) * 255 / (scaled_map * 255).astype(int).max(), boxes)
        columns = affinity * torch.from_numpy(inside).reshape(-1).to(affinity)
        result[:, c] = columns @ coarse[:, c]
    return result


def seen_feature(visual, pixels: Tensor, visible: Tensor) -> Tensor:
    """The image feature (E,) where the class token may see itself and some patches (N,) alone, in every block."""
    x = tokens_before_blocks(visual, pixels)
    for block in visual.transformer.resblocks:
        u = layer_norm(x, block.ln_1)
        width, heads = x.shape[-1], block.attn.num_heads
        qkv = u @ block.attn.in_proj_weight.to(x).T + block.attn.in_proj_bias.to(x)
        contexts = []
        for head in range(heads):
            part = slice(head * width // heads, (head + 1) * width // heads)
            q, k, v = (qkv[:, i * width : (i + 1) * width][:, part] for i in range(3))
            logits = q @ k.T / math.sqrt(q.shape[-1])
            logits[0, 1:][~visible] = -1000.0
            contexts.append(torch.softmax(logits, -1) @ v)
        attended = torch.cat(contexts, -1) @ block.attn.out_proj.weight.to(x).T + block.attn.out_proj.bias.to(x)
        x = x + scaled(block.ls_1, attended)
        hidden = layer_norm(x, block.ln_2) @ block.mlp.c_fc.weight.to(x).T + block.mlp.c_fc.bias.to(x)
        fed = activation(hidden, block.mlp.gelu) @ block.mlp.c_proj.weight.to(x).T + block.mlp.c_proj.bias.to(x)
        x = x + scaled(block.ls_2, fed)
    return layer_norm(x[0], visual.ln_post) @ visual.proj.to(x)


def bank(patches: np.ndarray, text: np.ndarray, count: int, scale: float, temperature: float):
    """PIAA's classifier (W, b) after both rounds, by loops over classes and patches, in float64."""

    def softmax(row):
        e = np.exp(row - row.max())
        return e / e.sum()

    def fitted(chosen, share):
        means = []
        for c, word in enumerate(text):
            own = [i for i, label in chosen.items() if label == c]
            total = sum(share[i][c] for i in own)
            means.append(sum(share[i][c] * patches[i] for i in own) / total if own else word)
        centred = np.stack([patches[i] - means[label] for i, label in chosen.items()])
        centred = centred - centred.mean(0)
        scatter = centred.T @ centred
        size, n = len(scatter), len(centred)
        trace = np.trace(scatter) / (n - 1)
        precision = size * np.linalg.pinv(scatter + trace * np.eye(size))
        weight = np.stack([precision @ mean for mean in means], 1)
        bias = [math.log(1 / len(text)) - mean @ precision @ mean / 2 for mean in means]
        return weight, np.array(bias)

    share = {i: softmax(scale * text @ patch) for i, patch in enumerate(patches)}
    entropies = {i: -sum(p * math.log(p) for p in row if p > 0) for i, row in share.items()}
    chosen = {}
    for c in range(len(text)):
        own = sorted((i for i in share if int(share[i].argmax()) == c), key=entropies.__getitem__)
        chosen |= dict.fromkeys(own[:count], c)
    weight, bias = fitted(chosen, share)
    share = {i: softmax(temperature * (patches[i] @ weight + bias)) for i in chosen}
    again = {}
    for c in range(len(text)):
        own = [i for i in chosen if int(share[i].argmax()) == c]
        if len(own) > 1:
            values = np.array([share[i][c] for i in own])
            again |= {i: c for i in own if share[i][c] >= values.mean() + values.std(ddof=1)}
    return fitted(again, share)


def best_f1(scores, shown) -> float:
    """The highest F1 of any threshold of 0 or more."""
    best = 0.0
    for threshold in (0.0, *scores):
        chosen = [score > threshold for score in scores]
        hits = sum(a and b for a, b in zip(chosen, shown, strict=True))
        if sum(chosen) + sum(shown):
            best = max(best, 2 * hits / (sum(chosen) + sum(shown)))
    return best
