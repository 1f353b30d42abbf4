"""One picture on its way to a mask, every stage as a picture: ``python examples/walkthrough.py --out walkthrough``.

With your own photograph and a downloaded model:
``python examples/walkthrough.py dog.jpg --labels dog,person --model ViT-B-16 --pretrained openai --classes voc12``
All flags of ``clipes generate`` that change a mask work here, too; docs/walkthrough.md explains the pictures.
"""

import argparse
from pathlib import Path

import numpy as np

import clipes
from clipes.clip.weights import load_clip
from clipes.commands.flags import add_config_flags, read_config
from clipes.commands.model import add_clip_flags, add_vocabulary_flags, clip_settings, vocabulary_settings
from clipes.evaluation import confusion_matrix, mean_iou
from clipes.explain.stages import trace_stages
from clipes.explain.walkthrough import choose_focus, describe, draw_walkthrough
from clipes.vocabulary import load_vocabulary

SEED, SIZE = 3_104_034, (108, 150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("image", nargs="?", help="a file; left out, a scene is drawn")
    parser.add_argument("--labels", metavar="A,B", help="what the image shows")
    parser.add_argument("--out", type=Path, default=Path("walkthrough"), help="folder (default: %(default)s)")
    parser.add_argument("--label", help="the label to follow (default: the first)")
    patch = "the patch to follow (default: the brightest)"
    parser.add_argument("--patch", type=int, nargs=2, metavar=("ROW", "COLUMN"), help=patch)
    add_clip_flags(parser, batch=False)
    add_vocabulary_flags(parser, auto=False)
    add_config_flags(parser)
    options = parser.parse_args()
    if (options.image is None) != (options.labels is None):
        parser.error("an image needs its --labels; a drawn scene has its own")

    vocabulary = load_vocabulary(**vocabulary_settings(options))
    config = read_config(options, vocabulary.preset)
    generator = clipes.MaskGenerator(load_clip(**clip_settings(options)), vocabulary, config)
    scene = None if options.image else clipes.scenes.draw_scene(SEED, SIZE)
    given = [label.strip() for label in (options.labels or "").split(",")]
    image, labels = (options.image, given) if scene is None else (scene.image, scene.labels)

    stages = trace_stages(generator, image, labels)
    chosen = choose_focus(stages, options.label, options.patch and tuple(options.patch))
    print(*describe(stages, chosen), sep="\n")
    if scene is not None:  # whose truth is known; every pixel decided
        for title, one in (("initial", stages.initial), ("propagated", stages.propagated), ("final", stages.result)):
            winner = np.array([0, *one.class_ids])[one.scores.argmax(0)]
            matrix = confusion_matrix(winner, scene.mask, one.num_classes)
            print(f"mean IoU with the truth: {title} {mean_iou(matrix):.3f}")
    for path in draw_walkthrough(options.out, stages, chosen):
        print(path)


if __name__ == "__main__":
    main()
