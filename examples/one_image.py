"""One picture and its labels to a mask, an overlay and a list of segments: ``python examples/one_image.py``.

With your own photograph and a downloaded model:
``python examples/one_image.py --image dog.jpg --labels dog --model ViT-B-16 --pretrained openai --classes voc12``
"""

import argparse
from pathlib import Path

import clipes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", help="a file; left out, a scene is drawn")
    parser.add_argument("--labels", nargs="+", default=[])
    parser.add_argument("--model")
    parser.add_argument("--pretrained")
    parser.add_argument("--classes")
    parser.add_argument("--out", type=Path, default=Path("."))
    options = parser.parse_args()

    generator = clipes.load(options.model, options.pretrained, classes=options.classes)
    if options.image:
        result = generator(options.image, options.labels)
    else:
        scene = clipes.scenes.draw_scene(seed=7)
        result = generator(scene.image, scene.labels)

    options.out.mkdir(parents=True, exist_ok=True)
    result.save(options.out / "mask.png")
    result.overlay().save(options.out / "overlay.png")
    for segment in result.segments():
        print(f"{segment.label:12} {segment.mask.mean():6.1%} of the picture, confidence {segment.confidence:.2f}")


if __name__ == "__main__":
    main()
