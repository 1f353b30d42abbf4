"""Train a small segmentation network on generated masks: ``python examples/train_student.py``.

The last stage of weakly supervised segmentation, in small: clipes makes masks of drawn scenes from their labels, a
network learns from them by the confidence-guided loss and then segments unseen scenes without labels.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from clipes import config, evaluation, load
from clipes.losses import confidence_guided_loss
from clipes.scenes import THINGS, Scene, draw_scenes

TRAIN_SEED, TEST_SEED = 5_000_000, 6_000_000
BATCH, VIEW, RATE = 16, 64, 3e-3


class Block(nn.Module):
    """Two 3 x 3 convolutions and a way round them."""

    def __init__(self, inputs: int, width: int, stride: int = 1):
        super().__init__()
        first = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        second = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.through, self.round = nn.Sequential(*first, *second), nn.Conv2d(inputs, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.through(x) + self.round(x))


class Student(nn.Module):
    """Pictures (B, 3, H, W) in 0..255, sides divisible by 16, to logits (B, K+1, H, W): down to 1/16, up to 1/4."""

    def __init__(self, classes: int):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.quarter, self.eighth = Block(24, 48, 2), Block(48, 96, 2)
        self.sixteenth = nn.Sequential(Block(96, 128, 2), Block(128, 96))
        self.to_eighth, self.to_quarter = Block(96, 48), Block(48, 48)
        self.head = nn.Conv2d(48, classes + 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        quarter = self.quarter(self.stem(images / 127.5 - 1))
        eighth = self.eighth(quarter)
        x = self.to_eighth(eighth + F.interpolate(self.sixteenth(eighth), scale_factor=2.0))
        x = self.to_quarter(quarter + F.interpolate(x, scale_factor=2.0))
        return F.interpolate(self.head(x), scale_factor=4.0, mode="bilinear")


def view(*picture: Tensor) -> list[Tensor]:
    """A window of an image, its mask and its confidence, mostly around a thing of the mask, half of them mirrored."""
    height, width = picture[1].shape
    things = picture[1].nonzero()
    place = torch.randint(height, ()), torch.randint(width, ())
    row, column = things[torch.randint(len(things), ())] if len(things) and torch.rand(()) < 0.7 else place
    top, left = (min(max(int(at) - VIEW // 2, 0), side - VIEW) for at, side in ((row, height), (column, width)))
    parts = [part[..., top : top + VIEW, left : left + VIEW] for part in picture]
    return [part.flip(-1) for part in parts] if torch.rand(()) < 0.5 else parts


def train(images: Tensor, masks: Tensor, confidence: Tensor, threshold: float, steps: int, seed: int) -> Student:
    """A student of images (n, 3, H, W) and masks (n, H, W), both uint8, and their confidence (n, H, W)."""
    torch.manual_seed(seed)
    student = Student(len(THINGS)).to(memory_format=torch.channels_last)  # almost twice as fast on a CPU
    optimizer = torch.optim.AdamW(student.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in tqdm(range(steps), "training", disable=None):
        chosen = torch.randint(len(images), (BATCH,))
        views = [view(*picture) for picture in zip(images[chosen], masks[chosen], confidence[chosen], strict=True)]
        image, mask, sure = (torch.stack(parts) for parts in zip(*views, strict=True))
        gain, shift = 0.8 + 0.4 * torch.rand(BATCH, 1, 1, 1), 12 * torch.randn(BATCH, 3, 1, 1)  # light and colours
        loss = confidence_guided_loss(student(image * gain + shift), mask, sure, threshold)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return student.eval()


def tensors(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor]:
    """Pictures (n, 3, H, W) and true masks (n, H, W), both uint8."""
    images, truth = np.stack([scene.image for scene in scenes]), np.stack([scene.mask for scene in scenes])
    return torch.from_numpy(images).movedim(-1, 1), torch.from_numpy(truth)


def generated(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor]:
    """Masks (n, H, W) uint8 made from the labels, no pixel ignored, and their confidence (n, H, W)."""
    settings = replace(config.CLIP_ES_SCENES, mask=config.ArgmaxConfig(2.0))  # no pixel ignored: the loss decides
    results = load(config=settings).generate([s.image for s in scenes], [s.labels for s in scenes])
    pairs = [(result.mask, result.confidence) for result in tqdm(results, "masks", len(scenes), disable=None)]
    masks, confidence = (torch.from_numpy(np.stack(parts)) for parts in zip(*pairs, strict=True))
    return masks, confidence


@torch.inference_mode()
def segmented(student: Student, images: Tensor) -> Tensor:
    """The student's masks (n, H, W); it sees no label."""
    return torch.cat([student(part.float()).argmax(1) for part in images.split(BATCH)])


def mean_iou(masks: Tensor, truth: Tensor) -> float:
    return evaluation.mean_iou(evaluation.confusion_matrix(masks.numpy(), truth.numpy(), len(THINGS)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=1000, help="scenes to learn from")
    parser.add_argument("--test", type=int, default=200, help="unseen scenes")
    parser.add_argument("--steps", type=int, default=2000, help=f"batches of {BATCH} views")
    parser.add_argument("--seed", type=int, default=0, help="of the student's start and of its views")
    parser.add_argument("--threshold", type=float, default=0.95, help="lowest confidence that counts")
    options = parser.parse_args()

    seen, unseen = list(draw_scenes(options.scenes, TRAIN_SEED)), list(draw_scenes(options.test, TEST_SEED))
    student = train(tensors(seen)[0], *generated(seen), options.threshold, options.steps, options.seed)
    images, truth = tensors(unseen)
    print(f"mean IoU of {options.test} unseen scenes")
    print(f"masks made with their labels: {mean_iou(generated(unseen)[0], truth):.3f}")
    print(f"student, without labels:      {mean_iou(segmented(student, images), truth):.3f}")


if __name__ == "__main__":
    main()
