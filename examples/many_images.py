"""A loop over many pictures with results kept in memory: ``python examples/many_images.py``.

For files in, files out use the command: ``clipes generate IMAGES --labels labels.csv --out masks``.
"""

import argparse
from collections import Counter

import numpy as np

import clipes
from clipes.evaluation import confusion_matrix, mean_iou


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="scenes to draw")
    options = parser.parse_args()

    generator = clipes.load()
    scenes = list(clipes.scenes.draw_scenes(options.count, seed=3))
    results = generator.generate((s.image for s in scenes), (s.labels for s in scenes))

    confusion = np.zeros((17, 17), np.int64)
    pixels: Counter[str] = Counter()
    for scene, result in zip(scenes, results, strict=True):
        confusion += confusion_matrix(result.mask, scene.mask, classes=16)
        pixels.update({segment.label: int(segment.mask.sum()) for segment in result.segments()})

    print(f"mean IoU of {options.count} scenes: {mean_iou(confusion):.3f}")
    for label, count in pixels.most_common():
        print(f"{label:10} {count:8d} pixels")


if __name__ == "__main__":
    main()
