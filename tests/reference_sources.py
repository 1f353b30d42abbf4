"""Slow, obvious statements of the sources of maps, written from the papers: a head, a patch, a label at a time."""

from __future__ import annotations

import math

import torch
from reference import activation, block_from_normed, layer_norm, min_max, probabilities
from torch import Tensor


def inputs_of_blocks(visual, tokens: Tensor) -> tuple[list[Tensor], Tensor]:
    """The tokens (S, D) that enter every block, and those that leave the last."""
    inputs, x = [], tokens
    for block in visual.transformer.resblocks:
        inputs.append(x)
        x, _ = block_from_normed(block, x, layer_norm(x, block.ln_1))
    return inputs, x


def heads_of(block, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Query, key and value (S, d) of each head, for the block's input (S, D)."""
    qkv = layer_norm(x, block.ln_1) @ block.attn.in_proj_weight.to(x).T + block.attn.in_proj_bias.to(x)
    parts = [part.split(x.shape[-1] // block.attn.num_heads, dim=-1) for part in qkv.split(x.shape[-1], dim=-1)]
    return list(zip(*parts, strict=True))


def projected(block, context: Tensor) -> Tensor:
    return context @ block.attn.out_proj.weight.to(context).T + block.attn.out_proj.bias.to(context)


def scaled(layer, values: Tensor) -> Tensor:
    return values * layer.gamma.to(values) if hasattr(layer, "gamma") else values


def self_attention(first: Tensor, second: Tensor, bias: float | Tensor = 0.0) -> Tensor:
    return torch.softmax(first @ second.T / math.sqrt(first.shape[-1]) + bias, dim=-1)


def dense(visual, pixels_tokens: Tensor, grid, attention: str, residual: bool, sigma: float) -> Tensor:
    """Unit features (N, E) of the patches with another attention in the last block."""
    (*_, x), _ = inputs_of_blocks(visual, pixels_tokens)
    block = visual.transformer.resblocks[-1]
    bias = torch.zeros(len(x), len(x)).to(x)
    for i in range(len(x) - 1):
        for j in range(len(x) - 1):
            distance = (i // grid[1] - j // grid[1]) ** 2 + (i % grid[1] - j % grid[1]) ** 2
            bias[1 + i, 1 + j] = math.exp(-distance / (2 * sigma**2))
    contexts = []
    for q, k, v in heads_of(block, x):
        maps = {
            "identity": lambda: torch.eye(len(x)).to(x),
            "qk": lambda q=q, k=k: self_attention(q, k),
            "qq": lambda q=q: self_attention(q, q),
            "kk": lambda k=k: self_attention(k, k),
            "qq+kk": lambda q=q, k=k: self_attention(q, q) + self_attention(k, k),
            "kk+distance": lambda k=k: self_attention(k, k, bias),
        }
        contexts.append(maps[attention]() @ v)
    tokens = projected(block, torch.cat(contexts, -1))
    if residual:
        tokens = x + scaled(block.ls_1, tokens)
        hidden = layer_norm(tokens, block.ln_2) @ block.mlp.c_fc.weight.to(x).T + block.mlp.c_fc.bias.to(x)
        fed = activation(hidden, block.mlp.gelu) @ block.mlp.c_proj.weight.to(x).T + block.mlp.c_proj.bias.to(x)
        tokens = tokens + scaled(block.ls_2, fed)
    features = layer_norm(tokens[1:], visual.ln_post) @ visual.proj.to(x)
    return torch.stack([feature / feature.norm() for feature in features])


def dense_maps(features: Tensor, label_text: Tensor, background_text: Tensor, scale: float) -> Tensor:
    """Each label's softmax probability at every patch, over the labels and all words, min-max scaled: (C, N)."""
    shares = []
    for feature in features:
        logits = [max(scale * name @ feature for name in names) for names in (*label_text, *background_text)]
        shares.append(torch.softmax(torch.stack(logits), 0)[: len(label_text)])
    return torch.stack([min_max(row) for row in torch.stack(shares, 1)])


def patch_text(
    visual, tokens: Tensor, text: Tensor, labels, classes, *, blocks, temperature, heads, norm, everything
) -> Tensor:
    """ExCEL's maps (C, N): the second stream, then feature surgery against (K + M, V, E) texts."""
    inputs, output = inputs_of_blocks(visual, tokens)
    last = list(zip(visual.transformer.resblocks, inputs, strict=True))[-blocks:]
    x = last[0][1]
    for block, original in last:
        per_head = heads_of(block, original)
        maps = [sum(self_attention(part, part) for part in head) / 3 for head in per_head]
        if heads == "sum":
            maps = [sum(maps)] * len(maps)
        context = torch.cat([one @ v for one, (_, _, v) in zip(maps, per_head, strict=True)], -1)
        x = x + scaled(block.ls_1, projected(block, context))
    x = torch.cat([output[:1], x[1:]])
    features = layer_norm(x, visual.ln_post) @ visual.proj.to(x)
    features = features / features.norm(dim=0 if norm == "channel" else 1, keepdim=True)
    competitors = [c for c in range(len(text)) if everything or c in labels or c >= classes]
    chosen = {c: max(text[c], key=lambda name: float(features[0] @ name)) for c in competitors}
    shares = torch.softmax(torch.stack([temperature * features[0] @ chosen[c] for c in competitors]), 0)
    weights = dict(zip(competitors, shares / shares.mean(), strict=True))
    common = sum(weights[c] * features * chosen[c] for c in competitors) / len(competitors)  # (S, E)
    maps = [(weights[c] * features * chosen[c] - common).sum(-1) for c in labels]
    return torch.stack([min_max(one)[1:] for one in maps])


def getam(
    visual, tokens: Tensor, label_text: Tensor, background_text: Tensor, scale: float, *, blocks: int, pool: str
) -> Tensor:
    """GETAM's maps (C, N): whole gradients at the attention of each block, by autograd."""
    resblocks = visual.transformer.resblocks
    x, maps = tokens, []
    for index, block in enumerate(resblocks):
        per_head = heads_of(block, x)
        attention = torch.stack([self_attention(q, k) for q, k, _ in per_head])
        if index >= len(resblocks) - blocks:
            if not maps:
                attention = attention.detach().requires_grad_()
            else:
                attention.retain_grad()
            maps.append(attention)
        context = torch.cat([one @ v for one, (_, _, v) in zip(attention, per_head, strict=True)], -1)
        x = x + scaled(block.ls_1, projected(block, context))
        hidden = layer_norm(x, block.ln_2) @ block.mlp.c_fc.weight.to(x).T + block.mlp.c_fc.bias.to(x)
        fed = activation(hidden, block.mlp.gelu) @ block.mlp.c_proj.weight.to(x).T + block.mlp.c_proj.bias.to(x)
        x = x + scaled(block.ls_2, fed)
    shares = probabilities(visual, x, torch.cat([label_text, background_text]), scale, pool)
    found = []
    for label in range(len(label_text)):
        gradients = torch.autograd.grad(shares[label], maps, retain_graph=True, allow_unused=True)
        total = torch.zeros_like(maps[0][0])
        for attention, gradient in zip(maps, gradients, strict=True):
            gradient = torch.zeros_like(attention) if gradient is None else gradient
            total += torch.relu(attention * gradient).mean(0) * torch.relu(gradient).mean(0)
        row = total.detach()[0, 1:]
        found.append(min_max(row / row.max()) if row.max() > 0 else row)
    return torch.stack(found)
