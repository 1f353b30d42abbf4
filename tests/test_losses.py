"""clipes.losses: which pixels count, what is returned where none does, what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from clipes.losses import confidence_guided_loss


def draw(seed: int, batch: int = 2, classes: int = 3, size: tuple[int, int] = (4, 5), ignore: int = 255):
    """Logits, a mask with ids of all kinds and ignored pixels, and confidences, of a seed."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, classes + 1, *size, generator=generator)
    mask = torch.randint(0, classes + 2, (batch, *size), generator=generator)
    confidence = torch.rand(batch, *size, generator=generator)
    return logits, mask.masked_fill(mask == classes + 1, ignore), confidence


def by_pixel(logits, mask, confidence, threshold: float, ignore: int = 255) -> float:
    """The definition, pixel by pixel: the mean of -log softmax over those that count; 0 if none does."""
    losses = []
    batch, _, height, width = logits.shape
    for b in range(batch):
        for row in range(height):
            for column in range(width):
                true = int(mask[b, row, column])
                if true == ignore or float(confidence[b, row, column]) < threshold:
                    continue
                values = [float(value) for value in logits[b, :, row, column]]
                losses.append(math.log(sum(math.exp(value) for value in values)) - values[true])
    return sum(losses) / len(losses) if losses else 0.0


@given(st.integers(0, 999), st.integers(1, 3), st.integers(1, 5), st.floats(0, 1))
def test_equals_the_definition(seed, batch, classes, threshold):
    logits, mask, confidence = draw(seed, batch, classes, size=(3, 2))
    loss = confidence_guided_loss(logits.double(), mask, confidence.double(), threshold)
    assert float(loss) == pytest.approx(by_pixel(logits, mask, confidence.double(), threshold), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint16])
def test_is_cross_entropy_where_all_is_certain(dtype):
    logits, mask, _ = draw(1)
    loss = confidence_guided_loss(logits, mask.to(dtype), torch.ones(mask.shape))
    torch.testing.assert_close(loss, F.cross_entropy(logits, mask, ignore_index=255))


def test_a_confidence_at_the_threshold_counts():
    logits, mask, _ = draw(2, batch=1, size=(1, 2), ignore=1)
    confidence = torch.tensor([[[0.95, torch.nextafter(torch.tensor(0.95), torch.tensor(0.0))]]])
    expected = F.cross_entropy(logits[..., :1], mask[..., :1])
    torch.testing.assert_close(confidence_guided_loss(logits, mask, confidence), expected)


def test_the_threshold_is_the_papers_unless_told_otherwise():
    logits, mask, confidence = draw(3, size=(20, 20))
    loss = confidence_guided_loss(logits, mask, confidence)
    assert loss == confidence_guided_loss(logits, mask, confidence, 0.95, 255)
    assert loss != confidence_guided_loss(logits, mask, confidence, 0.9)


@pytest.mark.parametrize("uncertain", ["confidence", "mask"])
def test_no_counted_pixel_gives_nothing_to_learn(uncertain):
    logits, mask, confidence = draw(4)
    logits.requires_grad_()
    if uncertain == "mask":
        mask, confidence = torch.full_like(mask, 255), torch.ones_like(confidence)
    loss = confidence_guided_loss(logits, mask, confidence * 0.5 if uncertain == "confidence" else confidence)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss == 0
    assert torch.equal(gradient, torch.zeros_like(logits))


def test_uncertain_pixels_get_no_gradient_and_certain_ones_do():
    logits, mask, confidence = draw(5)
    (gradient,) = torch.autograd.grad(
        confidence_guided_loss(logits.requires_grad_(), mask, confidence, threshold=0.6), logits
    )
    counted = (mask != 255) & (confidence >= 0.6)
    assert 0 < counted.sum() < counted.numel()
    assert torch.equal(gradient.abs().sum(1) > 0, counted)


def test_gradient_is_exact():
    logits, mask, confidence = draw(6, size=(2, 3))
    logits = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: confidence_guided_loss(x, mask, confidence, threshold=0.4), logits)


@pytest.mark.parametrize(
    ("given", "returned"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float64, torch.float64)],
)
def test_half_precision_is_computed_in_full(given, returned):
    logits, mask, confidence = draw(7)
    low = logits.to(given).requires_grad_()
    loss = confidence_guided_loss(low, mask, confidence, threshold=0.3)
    assert loss.dtype == returned
    assert float(loss.detach()) == pytest.approx(by_pixel(low.detach(), mask, confidence, 0.3), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, low)
    assert gradient.dtype == given


def test_order_of_the_batch_does_not_matter():
    logits, mask, confidence = (part.double() if part.is_floating_point() else part for part in draw(8, batch=4))
    order = torch.tensor([2, 0, 3, 1])
    one = confidence_guided_loss(logits, mask, confidence, threshold=0.5)
    other = confidence_guided_loss(logits[order], mask[order], confidence[order], threshold=0.5)
    torch.testing.assert_close(one, other, rtol=1e-14, atol=0)


def test_many_classes_ignore_65535():
    logits, mask, confidence = draw(9, classes=300, ignore=65535)
    mask[0, 0, 0], confidence[0, 0, 0] = 255, 1.0
    loss = confidence_guided_loss(logits, mask.to(torch.uint16), confidence, 0.5, ignore_index=65535)
    assert float(loss) == pytest.approx(by_pixel(logits, mask, confidence, 0.5, ignore=65535), rel=1e-6)


def test_narrow_masks_of_many_classes():
    logits, mask, confidence = draw(10, classes=300, size=(8, 8))
    loss = confidence_guided_loss(logits, mask.clamp(max=255).to(torch.uint8), confidence, 0.5, ignore_index=65535)
    assert float(loss) == pytest.approx(by_pixel(logits, mask.clamp(max=255), confidence, 0.5, ignore=65535), rel=1e-6)


def test_interpolated_confidences_may_round():
    logits, mask, confidence = draw(11)
    confidence[0, 0, :2] = torch.tensor([1 + 1e-6, -1e-6])
    assert confidence_guided_loss(logits, mask, confidence, threshold=0.2).isfinite()


def test_arguments_are_left_as_they_are():
    logits, mask, confidence = draw(12)
    copies = [part.clone() for part in (logits, mask, confidence)]
    confidence_guided_loss(logits, mask, confidence, threshold=0.5)
    assert all(torch.equal(*pair) for pair in zip((logits, mask, confidence), copies, strict=True))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"logits": lambda x: x.argmax(1)}, TypeError, "logits are torch.int64; give the network's float output"),
        ({"mask": lambda x: x.float()}, TypeError, "mask holds torch.float32, not class ids; give an integer"),
        ({"mask": lambda x: x > 0}, TypeError, "mask holds torch.bool, not class ids"),
        ({"confidence": lambda x: (255 * x).byte()}, TypeError, r"confidence is torch.uint8.*PNG by 255"),
        ({"logits": lambda x: x[0]}, ValueError, r"logits have shape \(4, 4, 5\); give \(B, K\+1, H, W\)"),
        ({"logits": lambda x: x[:, :1]}, ValueError, r"logits have shape \(2, 1, 4, 5\); give \(B, K\+1, H, W\)"),
        (
            {"mask": lambda x: x[:, None]},
            ValueError,
            r"mask has shape \(2, 1, 4, 5\), but logits \(2, 4, 4, 5\) need \(2, 4, 5\); resize the logits",
        ),
        ({"confidence": lambda x: x[:1]}, ValueError, r"confidence has shape \(1, 4, 5\), but logits .* drop an axis"),
        ({"threshold": lambda _: 95}, ValueError, r"threshold is 95; it must be in \[0, 1\]"),
        ({"threshold": lambda _: math.nan}, ValueError, "threshold is nan"),
        ({"threshold": lambda _: -0.1}, ValueError, "threshold is -0.1"),
        ({"ignore_index": lambda _: 3}, ValueError, r"ignore_index 3 is one of the classes 0\.\.3; use 65535 above"),
        ({"ignore_index": lambda _: 0}, ValueError, "ignore_index 0 is one of the classes"),
        (
            {"mask": lambda x: x.masked_fill(x == 255, 4)},
            ValueError,
            r"mask holds 4, but logits of 4 channels allow 0\.\.3 and 255 \(ignore\); give the network a channel",
        ),
        ({"mask": lambda x: x - 1}, ValueError, "mask holds -1, but logits of 4 channels allow"),
        ({"confidence": lambda x: 1 + x}, ValueError, r"confidence holds 1\.\d+, outside \[0, 1\]; divide .* by 255"),
        ({"confidence": lambda x: -0.1 - x}, ValueError, r"confidence holds -0\.\d+, outside"),
        ({"confidence": lambda x: x.masked_fill(x > 0.5, math.nan)}, ValueError, "confidence holds nan, outside"),
    ],
)
def test_what_is_refused(change, error, message):
    logits, mask, confidence = draw(13)
    arguments = {"logits": logits, "mask": mask, "confidence": confidence, "threshold": 0.5, "ignore_index": 255}
    arguments |= {name: changed(arguments[name]) for name, changed in change.items()}
    with pytest.raises(error, match=message):
        confidence_guided_loss(**arguments)
