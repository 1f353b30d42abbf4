"""Slow, obvious statements of every stage, written from the paper and the reference's numbers.

Nothing here is shared with the library but the weights: loops, N x N products, autograd.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


def layer_norm(x: Tensor, layer) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + layer.eps) * layer.weight.to(x) + layer.bias.to(x)


def activation(x: Tensor, layer) -> Tensor:
    if type(layer).__name__ == "QuickGELU":
        return x * torch.sigmoid(1.702 * x)
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def block_from_normed(block, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """One residual block, given its input x (S, D) and u = ln_1(x); returns output and mean attention (S, S)."""
    heads = block.attn.num_heads
    width = x.shape[-1]
    qkv = u @ block.attn.in_proj_weight.to(x).T + block.attn.in_proj_bias.to(x)
    outputs, maps = [], []
    for head in range(heads):
        part = slice(head * width // heads, (head + 1) * width // heads)
        q, k, v = (qkv[:, i * width : (i + 1) * width][:, part] for i in range(3))
        attention = torch.softmax(q @ k.T / math.sqrt(q.shape[-1]), dim=-1)
        maps.append(attention)
        outputs.append(attention @ v)
    attended = torch.cat(outputs, -1) @ block.attn.out_proj.weight.to(x).T + block.attn.out_proj.bias.to(x)
    if hasattr(block.ls_1, "gamma"):
        attended = attended * block.ls_1.gamma.to(x)
    x = x + attended
    hidden = layer_norm(x, block.ln_2) @ block.mlp.c_fc.weight.to(x).T + block.mlp.c_fc.bias.to(x)
    fed = activation(hidden, block.mlp.gelu) @ block.mlp.c_proj.weight.to(x).T + block.mlp.c_proj.bias.to(x)
    if hasattr(block.ls_2, "gamma"):
        fed = fed * block.ls_2.gamma.to(x)
    return x + fed, torch.stack(maps).mean(0)


def tokens_before_blocks(visual, pixels: Tensor) -> Tensor:
    """Normalised pixels (3, h * P, w * P) to tokens (1 + N, D)."""
    size = visual.conv1.kernel_size[0]
    h, w = pixels.shape[1] // size, pixels.shape[2] // size
    kernel = visual.conv1.weight.to(pixels).reshape(visual.conv1.out_channels, -1)
    patches = [
        kernel @ pixels[:, r * size : (r + 1) * size, c * size : (c + 1) * size].reshape(-1)
        for r in range(h)
        for c in range(w)
    ]
    positions = visual.positional_embedding.to(pixels)
    side = math.isqrt(len(positions) - 1)
    square = positions[1:].T.reshape(1, -1, side, side)
    grid = F.interpolate(square, (h, w), mode="bilinear", align_corners=False)[0].flatten(1).T
    x = torch.stack(
        [visual.class_embedding.to(pixels) + positions[0], *(p + g for p, g in zip(patches, grid, strict=True))]
    )
    return x if isinstance(visual.ln_pre, torch.nn.Identity) else layer_norm(x, visual.ln_pre)


def encode(visual, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Input of the last block (1 + N, D), and every earlier block's mean attention."""
    x, maps = tokens_before_blocks(visual, pixels), []
    for block in visual.transformer.resblocks[:-1]:
        x, attention = block_from_normed(block, x, layer_norm(x, block.ln_1))
        maps.append(attention)
    return x, maps


def image_feature(visual, output: Tensor, pool: str) -> Tensor:
    """Last block's output (1 + N, D) to the unnormalised image feature (E,)."""

    def pooled(tokens):
        return tokens[0] if pool == "cls" else tokens[1:].mean(0)

    if visual.final_ln_after_pool:
        feature = layer_norm(pooled(output), visual.ln_post)
    else:
        feature = pooled(layer_norm(output, visual.ln_post))
    return feature @ visual.proj.to(output)


def probabilities(visual, output: Tensor, text: Tensor, logit_scale: float, pool: str) -> Tensor:
    """Softmax over the first axis of text (C + M, V, E): the image's labels, then all backgrounds; of V names the
    likeliest counts."""
    feature = image_feature(visual, output, pool)
    logits = [max(logit_scale * name @ (feature / feature.norm()) for name in names) for names in text]
    return torch.softmax(torch.stack(logits), dim=0)


def min_max(x: Tensor) -> Tensor:
    x = x - x.min()
    return x / (1e-7 + x.max())


def gradcam(
    visual, x: Tensor, label_text: Tensor, background_text: Tensor, logit_scale: float, pool: str = "patch"
) -> tuple[Tensor, Tensor]:
    """One backward pass per label: maps (C, N); and the last block's mean attention."""
    block = visual.transformer.resblocks[-1]
    u = layer_norm(x, block.ln_1).detach().requires_grad_()
    output, attention = block_from_normed(block, x.detach(), u)
    scores = probabilities(visual, output, torch.cat([label_text, background_text]), logit_scale, pool)
    maps = []
    for label in range(len(label_text)):
        (gradient,) = torch.autograd.grad(scores[label], u, retain_graph=True)
        weights = gradient[1:].mean(0)
        maps.append(min_max(min_max(torch.relu(u.detach()[1:] @ weights))))
    return torch.stack(maps), attention.detach()


def affinity(attention: Tensor, rounds: int = 3) -> Tensor:
    """Mean patch-to-patch attention (N, N) to the symmetric affinity (N, N)."""
    d = attention.clone()
    for _ in range(rounds):
        d = d / d.sum(0, keepdim=True)
        d = d / d.sum(1, keepdim=True)
    return (d + d.T) / 2


def box_mask(cam: NDArray[np.float64], threshold: float, boxes: str) -> NDArray[np.float64]:
    """Flood fill with eight neighbours; the union of the regions' bounding boxes."""
    h, w = cam.shape
    levels = [[int(cam[r, c] * 255) for c in range(w)] for r in range(h)]
    least = int(threshold * max(map(max, levels)))
    mask = np.zeros((h, w))
    seen = np.zeros((h, w), bool)
    for start in np.ndindex(h, w):
        if seen[start] or levels[start[0]][start[1]] <= least:
            continue
        seen[start] = True
        region, queue = [start], deque([start])
        while queue:
            r, c = queue.popleft()
            for near in ((r + dr, c + dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1)):
                if 0 <= near[0] < h and 0 <= near[1] < w and not seen[near] and levels[near[0]][near[1]] > least:
                    seen[near] = True
                    region.append(near)
                    queue.append(near)
        top, bottom = min(r for r, _ in region), max(r for r, _ in region) + 1
        left, right = min(c for _, c in region), max(c for _, c in region) + 1
        if boxes == "paper":
            bottom, right = min(bottom, max(1, h - 1)), min(right, max(1, w - 1))
        mask[top:bottom, left:right] = 1
    return mask


def refine(
    cam: Tensor, attention: Tensor, grid: tuple[int, int], threshold: float, boxes: str, rounds: int = 3, steps: int = 2
) -> Tensor:
    """A map (N,) to its refined map (N,), with the N x N x N product of the reference."""
    a = affinity(attention, rounds)
    mask = torch.from_numpy(box_mask(cam.double().reshape(grid).numpy(), threshold, boxes)).reshape(-1).to(cam)
    return min_max((torch.linalg.matrix_power(a, steps) * mask) @ cam)


def upsample(cam: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Bilinear, half-pixel centres, edges repeated: (h, w) to (H, W)."""
    h, w = cam.shape
    out = np.zeros(size)
    for row, column in np.ndindex(*size):
        y = min(max((row + 0.5) * h / size[0] - 0.5, 0), h - 1)
        x = min(max((column + 0.5) * w / size[1] - 0.5, 0), w - 1)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
        fy, fx = y - top, x - left
        out[row, column] = (cam[top, left] * (1 - fx) + cam[top, right] * fx) * (1 - fy) + (
            cam[bottom, left] * (1 - fx) + cam[bottom, right] * fx
        ) * fy
    return out


def scores(cams: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """(C, H, W) to (C + 1, H, W), background first, every pixel summing to one."""
    background = (1 - cams.max(0)) ** power
    stacked = np.concatenate([background[None], cams])
    return stacked / stacked.sum(0)


def decision(stacked: NDArray[np.float64], class_ids: list[int], ignore_below: float | None) -> NDArray[np.int64]:
    ids = np.array([0, *class_ids])
    out = np.zeros(stacked.shape[1:], np.int64)
    for pixel in np.ndindex(*out.shape):
        column = stacked[(slice(None), *pixel)]
        best = int(np.argmax(column))
        out[pixel] = 255 if ignore_below is not None and column[best] < ignore_below else ids[best]
    return out


def agreed(much: NDArray, little: NDArray, class_ids: list[int], conflict: str) -> NDArray[np.int64]:
    """Scores (C + 1, H, W) against much and little background: ids, 255 where they agree on nothing."""
    ids, out = [0, *class_ids], np.zeros(much.shape[1:], np.int64)
    for pixel in np.ndindex(*out.shape):
        first, second = list(much[:, pixel[0], pixel[1]]), list(little[:, pixel[0], pixel[1]])
        winner, other = first.index(max(first)), second.index(max(second))
        if max(first + second) < 1e-5:
            out[pixel] = 255
        elif winner != 0 and other != 0:
            out[pixel] = ids[winner]
        elif winner == 0 and other == 0:
            out[pixel] = 0
        elif winner == 0:
            out[pixel] = 255
        else:
            out[pixel] = 0 if conflict == "background" else ids[winner]
    return out


def cams_of_image(
    model,
    pixels: Tensor,
    label_text: Tensor,
    background_text: Tensor,
    *,
    pool="patch",
    blocks=8,
    threshold=0.4,
    boxes="paper",
) -> tuple[Tensor, Tensor]:
    """The whole path on one image on the patch grid: initial (C, N) and refined (C, N) maps."""
    visual, scale = model.visual, float(model.logit_scale.detach().exp())
    size = visual.conv1.kernel_size[0]
    grid = (pixels.shape[1] // size, pixels.shape[2] // size)
    with torch.no_grad():
        x, maps = encode(visual, pixels)
    initial, last = gradcam(visual, x, label_text, background_text, scale, pool)
    attention = torch.stack([*maps, last][-blocks:]).mean(0)[1:, 1:]
    return initial, torch.stack([refine(cam, attention, grid, threshold, boxes) for cam in initial])


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(values - values.max())
    return exponentials / exponentials.sum()


def pixel_adaptive_refinement(
    image: NDArray[np.uint8],
    stacked: NDArray[np.float64],
    iterations: int = 10,
    dilations: tuple[int, ...] = (1, 2, 4, 8, 12, 24),
    colour_scale: float = 0.3,
    position_weight: float = 0.01,
    half: bool = True,
) -> NDArray[np.float64]:
    """Image (H, W, 3) and scores (C + 1, H, W): a loop over pixels and neighbours; sums to one only at the end."""
    colours, maps, size = image.astype(np.float64), stacked.astype(np.float64), image.shape[:2]
    if half:
        small = (math.ceil(size[0] / 2), math.ceil(size[1] / 2))
        colours = np.stack([upsample(colours[..., channel], small) for channel in range(3)], axis=-1)
        maps = np.stack([upsample(row, small) for row in maps])
    h, w = colours.shape[:2]
    steps = [(d * r, d * c) for d in dilations for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)]
    distances = np.array([math.sqrt(r * r + c * c) for r, c in steps])
    position = softmax(-((distances / (distances.std(ddof=1) + 1e-8) / colour_scale) ** 2))
    near, kernel = {}, {}
    for r, c in np.ndindex(h, w):
        near[r, c] = [(min(max(r + down, 0), h - 1), min(max(c + right, 0), w - 1)) for down, right in steps]
        around = np.array([colours[pixel] for pixel in near[r, c]])  # (n, 3)
        difference = np.abs(around - colours[r, c]) / (around.std(axis=0, ddof=1) + 1e-8) / colour_scale
        kernel[r, c] = softmax(-(difference**2).mean(axis=1)) + position_weight * position
    for _ in range(iterations):
        spread = np.zeros_like(maps)
        for r, c in np.ndindex(h, w):
            for (row, column), weight in zip(near[r, c], kernel[r, c], strict=True):
                spread[:, r, c] += weight * maps[:, row, column]
        maps = spread
    if half:
        maps = np.stack([upsample(row, size) for row in maps])
    return maps / maps.sum(0)


def pixel_adaptive_mask_refinement(
    image: NDArray[np.uint8],
    stacked: NDArray[np.float64],
    iterations: int = 10,
    dilations: tuple[int, ...] = (1, 2, 4, 8, 12, 24),
    colour_scale: float = 0.1,
) -> NDArray[np.float64]:
    """Image (H, W, 3) and rows (R, H, W): a loop over pixels; each distance's deviation sees the pixel once more."""
    colours, maps = image.astype(np.float64), stacked.astype(np.float64)
    h, w = colours.shape[:2]
    square = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    for _ in range(iterations):
        spread = np.zeros_like(maps)
        for r, c in np.ndindex(h, w):
            nine_each = [
                (min(max(r + d * down, 0), h - 1), min(max(c + d * right, 0), w - 1))
                for d in dilations
                for down, right in square
            ]
            deviation = np.array([colours[pixel] for pixel in nine_each]).std(axis=0, ddof=1)
            others = [pixel for pixel, step in zip(nine_each, square * len(dilations), strict=True) if step != (0, 0)]
            differences = [
                np.mean(np.abs(colours[pixel] - colours[r, c]) / (1e-8 + colour_scale * deviation)) for pixel in others
            ]
            for (row, column), weight in zip(others, softmax(-np.array(differences)), strict=True):
                spread[:, r, c] += weight * maps[:, row, column]
        maps = spread
    return maps


# --- evaluation


def class_counts(mask: NDArray, truth: NDArray, classes: int, ignore: int) -> list[list[int]]:
    """Pixel by pixel: pixels of each class in the truth, in the mask, in both, and in the truth but ignored."""
    in_truth, in_mask, in_both, ignored = ([0] * (classes + 1) for _ in range(4))
    for given, true in zip(mask.ravel().tolist(), truth.ravel().tolist(), strict=True):
        if true == ignore:
            continue
        in_truth[true] += 1
        if given == ignore:
            ignored[true] += 1
        else:
            in_mask[given] += 1
            in_both[given] += given == true
    return [in_truth, in_mask, in_both, ignored]


def boundary(region: NDArray[np.bool_], void: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What 3 x 3 erosions take from a region (Cheng et al. 2021, their code): outside the image is not the region.

    Void pixels count as the region while it is eroded, and belong to no boundary.
    """
    h, w = region.shape
    left = region | void
    for _ in range(max(1, round(0.02 * math.sqrt(h * h + w * w)))):
        padded = np.pad(left, 1)
        left = np.array([[padded[r : r + 3, c : c + 3].all() for c in range(w)] for r in range(h)])
    return region & ~void & ~left


def boundary_counts(mask: NDArray, truth: NDArray, classes: int, ignore: int) -> list[list[int]]:
    """Intersection and union of the boundaries, class by class."""
    both, either = [], []
    for index in range(classes + 1):
        of_mask, of_truth = (boundary(ids == index, truth == ignore) for ids in (mask, truth))
        both.append(int((of_mask & of_truth).sum()))
        either.append(int((of_mask | of_truth).sum()))
    return [both, either]


def mean_of_ratios(both: list[int], either: list[int]) -> float:
    ratios = [part / whole for part, whole in zip(both, either, strict=True) if whole]
    return sum(ratios) / len(ratios) if ratios else math.nan


# --- dense CRF


def gaussian_kernel(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """All pairs of n points with features (n, d), each point with itself included."""
    return np.array([np.exp(-((features - feature) ** 2).sum(1) / 2) for feature in features])


def simplex(feature: NDArray[np.float64]) -> list[tuple[tuple[int, ...], float]]:
    """The d + 1 lattice vertices around a point, each with a barycentric coordinate (Adams et al. 2010, section 3)."""
    d = len(feature)
    embedding = np.zeros((d + 1, d))
    for i in range(d):
        embedding[: i + 1, i], embedding[i + 1, i] = 1, -(i + 1)
        embedding[:, i] /= math.sqrt((i + 1) * (i + 2))
    place = embedding @ feature * (d + 1) * math.sqrt(2 / 3)
    origin = [(d + 1) * round(p / (d + 1)) for p in place]
    order = sorted(range(d + 1), key=lambda i: place[i] - origin[i], reverse=True)
    while sum(origin) > 0:  # back to the plane: the coordinate that rounding raised most goes down, and is first
        order.insert(0, order.pop())
        origin[order[0]] -= d + 1
    while sum(origin) < 0:
        order.append(order.pop(0))
        origin[order[-1]] += d + 1
    offset = [(place[i] - origin[i]) / (d + 1) for i in order]
    corners = []
    for colour in range(d + 1):
        vertex = list(origin)
        for rank, i in enumerate(order):
            vertex[i] += colour if rank <= d - colour else colour - (d + 1)
        weight = offset[d - colour] - offset[d - colour + 1] if colour else 1 + offset[d] - offset[0]
        corners.append((tuple(vertex), weight))
    return corners


def lattice_filter(features: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values (n, C), about as by ``gaussian_kernel`` times a factor: splat, blur, slice (Adams et al. 2010, section 3).

    Only corners of the points' simplices are there to receive. The divisor is of Krähenbühl and Koltun's code.
    """
    d = features.shape[1]
    points = [simplex(feature) for feature in features]
    lattice: dict[tuple[int, ...], NDArray[np.float64]] = {}
    for corners, value in zip(points, values, strict=True):
        for vertex, weight in corners:
            lattice[vertex] = lattice.get(vertex, 0) + weight * value
    for axis in range(d + 1):
        step = [d if i == axis else -1 for i in range(d + 1)]
        blurred = {}
        for vertex, value in lattice.items():
            before, after = (tuple(v + side * s for v, s in zip(vertex, step, strict=True)) for side in (-1, 1))
            blurred[vertex] = value + (lattice.get(before, 0) + lattice.get(after, 0)) / 2
        lattice = blurred
    return np.array([sum(weight * lattice[vertex] for vertex, weight in corners) for corners in points]) / (1 + 2.0**-d)


def lattice_kernel(features: NDArray[np.float64]) -> NDArray[np.float64]:
    return lattice_filter(features, np.eye(len(features)))


def mean_field(image: NDArray[np.uint8], stacked: NDArray, config, kernel=gaussian_kernel) -> NDArray[np.float64]:
    """Image (H, W, 3) and scores (C + 1, H, W): algorithm 1 of Krähenbühl & Koltun (2011) with a Potts cost."""
    places = np.array([(column, row) for row, column in np.ndindex(image.shape[:2])])
    smooth = places / config.smooth_sigma
    alike = np.hstack([places / config.bilateral_sigma, image.reshape(-1, 3) / config.colour_sigma])
    tie = np.zeros((len(places), len(places)))
    for weight, features in ((config.smooth_weight, smooth), (config.bilateral_weight, alike)):
        pairs = kernel(features)
        norm = np.sqrt(pairs.sum(1))
        tie += weight * pairs / norm[:, None] / norm[None, :]
    cost = -np.log(np.clip(stacked.reshape(len(stacked), -1).astype(np.float64), 1e-5, 1))
    marginals = np.array([softmax(pixel) for pixel in -cost.T]).T
    for _ in range(config.iterations):
        energy = cost.copy()
        for label in range(len(cost)):
            for other in range(len(cost)):
                if other != label:
                    energy[label] += tie @ marginals[other]
        marginals = np.array([softmax(pixel) for pixel in -energy.T]).T
    return marginals.reshape(stacked.shape)
