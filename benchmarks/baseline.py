"""How the original CLIP-ES works, stated literally and in our own words: the yardstick of ``benchmarks/run.py``.

One picture at a time and two passes over the data. The first: every block keeps its head-averaged attention; for each
label the last block runs again, forward and backward by autograd through its parameters; maps go to numpy; the affinity
is dense on the CPU, its square formed again for each label; the maps are saved at the picture's size. The second reads
picture and maps again for the dense CRF of pydensecrf2 (``pip install ".[oracle]"``), decides, and writes a PNG.
It gives what clipes gives with ``clipes.VOC12``: tests/test_baseline.py compares them. On a GPU the original's encoder
computes in float16; this one stays in float32, so that there it takes longer than the original.

Axes: S = 1 + N tokens, D width, (h, w) patch grid, N = h * w, C labels of the picture, (H, W) its size.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

BLOCKS = 8
SINKHORN_ROUNDS = 3
BOX_THRESHOLD = 0.4
IGNORE_BELOW = 0.95


class Baseline:
    """The original's way from a picture and its labels to a mask.

    Takes an open_clip model, unit text features (K + M, E) of K classes and M background words, and the mean and
    standard deviation (3,) that pictures are normalised with. Class ids are 1..K.
    """

    def __init__(
        self,
        model: Any,
        text: Tensor,
        class_count: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device | str = "cpu",
    ):
        self.device = torch.device(device)
        visual = model.visual.to(self.device)
        self.visual, self.text, self.class_count = visual, text.float().to(self.device), class_count
        self.patch = visual.conv1.kernel_size[0]
        self.logit_scale = float(model.logit_scale.detach().exp())
        self.mean, self.std = (torch.tensor(values).reshape(3, 1, 1) for values in (mean, std))
        # The original's parameters all ask for a gradient, so that a backward pass computes those of the tail too.
        self.block, self.norm = (
            copy.deepcopy(part).requires_grad_(True) for part in (visual.transformer.resblocks[-1], visual.ln_post)
        )
        self.projection = visual.proj.detach().clone().requires_grad_(True)

    def first_pass(self, path: Path, class_ids: Sequence[int], folder: Path) -> None:
        """Save the maps of the picture's labels at its own size, as ``folder``/stem.npy."""
        image = read(path)
        x, maps = self.encode(self.prepare(image))
        cams, last = self.cams(x, class_ids, self.grid(image))
        refined = refine(cams, [*maps, last])
        save_maps(folder / f"{path.stem}.npy", class_ids, enlarge(refined, (image.height, image.width)))

    def grid(self, image: Image.Image) -> tuple[int, int]:
        """The patch grid (h, w): the sides divided by the patch, rounded up."""
        return -(-image.height // self.patch), -(-image.width // self.patch)

    def prepare(self, image: Image.Image) -> Tensor:
        """Bicubic resize by Pillow to whole patches, then scaled and normalised: (3, h * P, w * P) float32."""
        h, w = self.grid(image)
        resized = np.array(image.resize((w * self.patch, h * self.patch), Image.Resampling.BICUBIC))
        pixels = torch.from_numpy(resized.transpose(2, 0, 1)).contiguous().float().div(255)
        return (pixels - self.mean) / self.std

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """All blocks but the last: tokens (S, 1, D), and the mean attention (1, S, S) of each."""
        visual = self.visual
        patches = visual.conv1(pixels[None].to(self.device))  # (1, D, h, w)
        x = torch.cat([visual.class_embedding.expand(1, 1, -1), patches.flatten(2).mT], 1)
        x = visual.ln_pre(x + positions(visual.positional_embedding, patches.shape[-2:]))
        x, maps = x.transpose(0, 1), []
        for block in visual.transformer.resblocks[:-1]:
            x, attention = run_block(block, x, block.ln_1(x))
            maps.append(attention)
        return x, maps

    def cams(
        self, x: Tensor, class_ids: Sequence[int], grid: tuple[int, int]
    ) -> tuple[list[NDArray[np.float32]], Tensor]:
        """The maps (h, w) of the labels in [0, 1], and the last block's mean attention (1, S, S).

        The last block, the head and the softmax run forward and backward once for each label.
        """
        chosen = [i - 1 for i in class_ids] + list(range(self.class_count, len(self.text)))
        text, maps = self.text[chosen], []
        for label in range(len(class_ids)):
            normed = self.block.ln_1(x)
            normed.retain_grad()
            output, attention = run_block(self.block, x, normed)
            tokens = output.transpose(0, 1)  # (1, S, D)
            feature = self.norm(tokens)[:, 1:].mean(1) @ self.projection
            logits = self.logit_scale * (feature / feature.norm(dim=-1, keepdim=True)) @ text.T
            self.block.zero_grad()
            self.norm.zero_grad()
            self.projection.grad = None
            logits.softmax(-1)[0, label].backward()
            gradient = normed.grad
            if gradient is None:
                raise RuntimeError("no gradient at the last block's first norm; gradients are turned off")
            activations = normed.detach()[1:, 0].cpu().numpy()  # (N, D)
            weights = gradient[1:, 0].cpu().numpy().mean(0)
            maps.append(min_max(min_max(np.maximum(activations @ weights, 0).reshape(grid))))
        return maps, attention.detach()


def second_pass(path: Path, folder: Path, out: Path, crf: bool = True) -> None:
    """Read the picture and its maps in ``folder`` again; write ``out``/stem.png of class ids, 255 for ignored pixels.

    Without the CRF the best score decides, and no pixel is ignored.
    """
    image = read(path)
    class_ids, cams = load_maps(folder / f"{path.stem}.npy")
    scores = stack_scores(cams)
    mask = decide(dense_crf(image, scores), class_ids, IGNORE_BELOW) if crf else decide(scores, class_ids, None)
    save_mask(mask, out / f"{path.stem}.png")


def read(path: Path) -> Image.Image:
    """The picture, decoded."""
    return Image.open(path).convert("RGB")


def positions(embedding: Tensor, grid: Sequence[int]) -> Tensor:
    """Positional embeddings (1 + g * g, D), the square resampled bilinearly to ``grid``."""
    side = math.isqrt(len(embedding) - 1)
    square = embedding[1:].T.reshape(1, -1, side, side)
    resampled = F.interpolate(square, tuple(grid), mode="bilinear", align_corners=False)
    return torch.cat([embedding[:1], resampled.flatten(2)[0].T])


def run_block(block: Any, x: Tensor, normed: Tensor) -> tuple[Tensor, Tensor]:
    """A block's output (S, 1, D) and mean attention (1, S, S), as ``nn.MultiheadAttention`` gives it on request."""
    attention = block.attn
    attended, mean = F.multi_head_attention_forward(
        normed,
        normed,
        normed,
        embed_dim_to_check=x.shape[-1],
        num_heads=attention.num_heads,
        in_proj_weight=attention.in_proj_weight,
        in_proj_bias=attention.in_proj_bias,
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=attention.out_proj.weight,
        out_proj_bias=attention.out_proj.bias,
        training=False,
        need_weights=True,
        average_attn_weights=True,
    )
    if mean is None:
        raise RuntimeError("torch returned no attention weights")
    x = x + block.ls_1(attended)
    return x + block.ls_2(block.mlp(block.ln_2(x))), mean


def min_max(x: NDArray[Any]) -> NDArray[Any]:
    """Scaled to [0, 1]."""
    shifted = x - x.min()
    scaled: NDArray[Any] = shifted / (1e-7 + shifted.max())
    return scaled


def refine(cams: Sequence[NDArray[np.float32]], attention: Sequence[Tensor]) -> list[NDArray[np.float32]]:
    """The maps (h, w) spread along the affinity, whose N x N x N square is taken for each label, on the CPU."""
    mean = torch.stack([weights[:, 1:, 1:] for weights in attention])[-BLOCKS:].mean(0)[0].float().cpu()
    refined = []
    sinkhorn = mean
    for _ in range(SINKHORN_ROUNDS):
        sinkhorn = sinkhorn / sinkhorn.sum(0, keepdim=True)
        sinkhorn = sinkhorn / sinkhorn.sum(1, keepdim=True)
    affinity = (sinkhorn + sinkhorn.T) / 2
    for cam in cams:
        squared = affinity @ affinity
        squared = squared * torch.from_numpy(box_mask(cam)).reshape(1, -1)
        refined.append(min_max((squared @ torch.from_numpy(cam).reshape(-1, 1)).reshape(cam.shape).numpy()))
    return refined


def box_mask(cam: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 inside the boxes of the regions above the threshold, whose ends stop short of the last row and column."""
    levels = (cam * 255).astype(np.uint8)
    regions, _ = ndimage.label(levels > int(BOX_THRESHOLD * levels.max()), structure=np.ones((3, 3)))
    mask = np.zeros(cam.shape, np.float32)
    for rows, columns in ndimage.find_objects(regions):
        bottom, right = min(rows.stop, cam.shape[0] - 1), min(columns.stop, cam.shape[1] - 1)
        mask[rows.start : bottom, columns.start : right] = 1
    return mask


def enlarge(cams: Sequence[NDArray[np.float32]], size: tuple[int, int]) -> NDArray[np.float32]:
    """Each map bilinearly to (H, W), half-pixel centres, as OpenCV does: (C, H, W)."""
    return np.stack([np.asarray(Image.fromarray(cam).resize(size[::-1], Image.Resampling.BILINEAR)) for cam in cams])


def save_maps(path: Path, class_ids: Sequence[int], cams: NDArray[np.float32]) -> None:
    """A pickled dict of class ids and float16 maps, which is what the original leaves between its passes."""
    kept: Any = {"keys": np.array(class_ids), "attn_highres": cams.astype(np.float16)}
    np.save(path, kept)


def load_maps(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """What :func:`save_maps` wrote: (C,), (C, H, W)."""
    kept = np.load(path, allow_pickle=True).item()
    return kept["keys"], kept["attn_highres"].astype(np.float32)


def stack_scores(cams: NDArray[np.float32]) -> NDArray[np.float32]:
    """The background's score before those of the labels: (C + 1, H, W)."""
    return np.concatenate([1 - cams.max(0, keepdims=True), cams])


def dense_crf(image: Image.Image, scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """The marginals (C + 1, H, W) of ten mean-field iterations, by pydensecrf2."""
    from pydensecrf.densecrf import DenseCRF2D

    field = DenseCRF2D(image.width, image.height, len(scores))
    field.setUnaryEnergy(np.ascontiguousarray(-np.log(scores.clip(1e-5, 1)).reshape(len(scores), -1)))
    field.addPairwiseGaussian(sxy=1, compat=3)
    field.addPairwiseBilateral(sxy=67, srgb=3, rgbim=np.array(image), compat=4)
    return np.array(field.inference(10), dtype=np.float32).reshape(scores.shape)


def decide(
    scores: NDArray[np.float32], class_ids: Sequence[int] | NDArray[np.int64], below: float | None
) -> NDArray[np.uint8]:
    """The id (H, W) of the best score; 255 where that is lower than ``below``."""
    mask = np.array([0, *class_ids], np.uint8)[scores.argmax(0)]
    if below is not None:
        mask[scores.max(0) < below] = 255
    return mask


def save_mask(mask: NDArray[np.uint8], path: Path) -> None:
    """A grey PNG with Pillow's defaults."""
    Image.fromarray(mask).save(path)
