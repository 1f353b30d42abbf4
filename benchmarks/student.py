"""What a network learns from generated masks, and what from the truth: ``python benchmarks/student.py``.

The same network, from the same start and on the same pictures, three times. Writes benchmarks/student.md.
"""

import argparse
import sys
from pathlib import Path

import torch
from environment import describe, parse_options

from clipes.scenes import THINGS, draw_scenes

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from train_student import BATCH, TEST_SEED, TRAIN_SEED, Student, generated, mean_iou, segmented, tensors, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threshold", type=float, default=0.95)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("student.md"))
    options = parse_options(parser, scenes=8, test=4, steps=2)
    given = " ".join(f"--{name} {value}" for name, value in vars(options).items() if name != "out")
    seen, unseen = list(draw_scenes(options.scenes, TRAIN_SEED)), list(draw_scenes(options.test, TEST_SEED))
    (images, truth), (unseen_images, unseen_truth) = tensors(seen), tensors(unseen)
    masks, confidence = generated(seen)
    lessons = {
        "student of the masks, confidence-guided": (masks, confidence, options.threshold),
        "student of the masks, every pixel": (masks, confidence, 0.0),
        "student of the truth": (truth, torch.ones_like(confidence), 0.0),
    }
    weights = sum(weight.numel() for weight in Student(len(THINGS)).parameters())
    lines = ["# A network trained on the masks", "", f"`python benchmarks/student.py {given}`", "", describe(), ""]
    lines += [f"Students of {weights:,} weights learn from {options.steps} batches of {BATCH} views. They are given no"]
    lines += ["labels of the unseen scenes; the masks in the first row are made with them.", ""]
    lines += ["| on unseen scenes | pixels learnt from | mIoU |", "| --- | --- | --- |"]
    lines += [f"| the masks themselves | | {mean_iou(generated(unseen)[0], unseen_truth):.3f} |"]
    for name, (mask, sure, threshold) in lessons.items():
        student = train(images, mask, sure, threshold, options.steps, options.seed)
        share, miou = (sure >= threshold).float().mean(), mean_iou(segmented(student, unseen_images), unseen_truth)
        lines.append(f"| {name} | {share:.1%} | {miou:.3f} |")
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
