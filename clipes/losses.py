"""The loss for training a segmentation network on generated masks (CLIP-ES section 3.5).

Axes: B images, K classes of the data set, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_ROUNDING = 1e-3  # interpolated confidences may lie slightly outside [0, 1]


def confidence_guided_loss(
    logits: Tensor, mask: Tensor, confidence: Tensor, threshold: float = 0.95, ignore_index: int = 255
) -> Tensor:
    """Cross-entropy that ignores pixels of low confidence (CGL, CLIP-ES section 3.5).

    A pixel counts if its mask value is not ``ignore_index`` and its confidence is at least ``threshold``. The loss is
    the mean of the cross-entropy over the pixels that count. The original code writes the same decision into its
    masks: 255 where the confidence is below 0.95.

    Pixels that are ``ignore_index`` in the mask (``Config.mask``) never count. To choose the threshold in training,
    make the masks with :class:`clipes.config.ArgmaxConfig`.

    Args:
        logits: (B, K+1, H, W) of any float dtype, background first. The loss is computed in float64 for float64 logits,
            otherwise in float32.
        mask: (B, H, W) of any integer dtype: 0 background, 1..K, or ``ignore_index``.
        confidence: (B, H, W) of any float dtype, in [0, 1]: the score of the mask's own class at each pixel.
        threshold: the lowest confidence that counts, in [0, 1]. 0.95 suits the CRF's scores, which are close to 0 and
            1. With 0 the loss is plain cross-entropy.
        ignore_index: the mask value of undecided pixels: 255, or 65535 for more than 254 classes.

    Returns:
        A scalar tensor, float32 or float64. If no pixel counts, it is 0 and its gradient is zero.

    Raises:
        TypeError: a tensor has the wrong kind of dtype, such as integer confidences read from a PNG.
        ValueError: shapes do not match, or a value is outside the ranges above. Checking the values waits for the
            device once per call.

    >>> logits = torch.tensor([2.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 1, 3)  # background is likely everywhere
    >>> mask, confidence = torch.tensor([[[0, 1, 255]]]), torch.tensor([[[0.99, 0.6, 1.0]]])
    >>> confidence_guided_loss(logits, mask, confidence)
    tensor(0.1269)
    >>> confidence_guided_loss(logits, mask, confidence, threshold=0.5)
    tensor(1.1269)
    """
    _check_shapes(logits, mask, confidence)
    mask = mask.long()  # before the comparisons, because 65535 does not fit into uint8
    _check_values(logits.shape[1], mask, confidence, threshold, ignore_index)
    counted = (mask != ignore_index) & (confidence >= threshold)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    # Averaged here: the reductions of cross_entropy are not deterministic on CUDA, and its mean over no pixel is nan.
    losses = F.cross_entropy(
        logits, mask.masked_fill(~counted, ignore_index), ignore_index=ignore_index, reduction="none"
    )
    return losses.sum() / counted.sum().clamp(min=1)


def _check_shapes(logits: Tensor, mask: Tensor, confidence: Tensor) -> None:
    if not logits.is_floating_point():
        raise TypeError(f"logits are {logits.dtype}; give the network's float output, before any softmax or argmax")
    if mask.is_floating_point() or mask.is_complex() or mask.dtype == torch.bool:
        raise TypeError(f"mask holds {mask.dtype}, not class ids; give an integer tensor such as uint8 or int64")
    if not confidence.is_floating_point():
        raise TypeError(f"confidence is {confidence.dtype}; give floats in [0, 1]; divide those of an 8-bit PNG by 255")
    if logits.ndim != 4 or logits.shape[1] < 2:
        raise ValueError(f"logits have shape {tuple(logits.shape)}; give (B, K+1, H, W), the background first")
    expected = (logits.shape[0], *logits.shape[2:])
    for name, tensor in (("mask", mask), ("confidence", confidence)):
        if tensor.shape != expected:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, but logits {tuple(logits.shape)} need {expected}; resize the"
                " logits to the mask's size, or drop an axis of one channel"
            )


def _check_values(channels: int, mask: Tensor, confidence: Tensor, threshold: float, ignore_index: int) -> None:
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold!r}; it must be in [0, 1]")
    if 0 <= ignore_index < channels:
        raise ValueError(
            f"ignore_index {ignore_index} is one of the classes 0..{channels - 1}; use 65535 above 254 classes"
        )
    wrong = (mask != ignore_index) & ((mask < 0) | (mask >= channels))
    outside = ~((confidence >= -_ROUNDING) & (confidence <= 1 + _ROUNDING))  # negated, so that nan is outside
    wrong_mask, wrong_confidence = torch.stack([wrong.any(), outside.any()]).tolist()
    if wrong_mask:
        raise ValueError(
            f"mask holds {mask[wrong][0]}, but logits of {channels} channels allow 0..{channels - 1} and {ignore_index}"
            " (ignore); give the network a channel for the background and each class"
        )
    if wrong_confidence:
        raise ValueError(
            f"confidence holds {confidence[outside][0]:g}, outside [0, 1]; divide those of an 8-bit PNG by 255"
        )
