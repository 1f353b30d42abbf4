"""Prompt sharpness on unseen scenes, and what it costs for many templates: ``python benchmarks/sharpness.py``.

Writes benchmarks/sharpness.md, docs/sharpness.png and docs/sharpness-miou.png. ``--vit FILE`` also times a ViT-B/16
with these weights; where there is no such file, random ones are written there: the cost does not depend on them.
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from environment import describe, parse_options
from PIL import Image
from tqdm import tqdm

import clipes
from clipes.cams.compute import encode_images
from clipes.cams.probabilities import label_probabilities
from clipes.clip.head import image_features
from clipes.clip.text import text_features
from clipes.clip.weights import CLIP, load_clip
from clipes.datasets import Sample
from clipes.io.images import open_image
from clipes.io.masks import write_mask
from clipes.prompting.analysis import TemplateAnalysis, analyse_templates
from clipes.prompting.plots import plot_miou, plot_sharpness
from clipes.prompting.sharpness import prompt_sharpness, rank_correlation
from clipes.scenes import draw_scenes
from clipes.vocabulary import Vocabulary, load_vocabulary
from clipes.vocabulary.class_file import shipped

SEED = 9_000_000  # serves for nothing else
SETS = shipped()["templates"]
PAPER = (*SETS["clip-es"], *SETS["clip-es-runner-up"])
VOC_TRAIN = 1464  # images
ROOT = Path(__file__).parents[1]


def write_scenes(folder: Path, count: int, size: int) -> list[Sample]:
    """``count`` scenes with two labels or more: folder/photos and folder/truth."""
    several = (scene for scene in draw_scenes(10 * count, SEED, (size, size)) if len(scene.labels) > 1)
    samples = []
    (folder / "photos").mkdir(parents=True)
    for index, scene in enumerate(islice(several, count)):
        path = folder / "photos" / f"{index:05}.png"
        Image.fromarray(scene.image).save(path)
        write_mask(folder / "truth" / path.name, scene.mask, len(clipes.scenes.THINGS))
        samples.append(Sample(path.stem, path, tuple(scene.labels)))
    return samples


def report(found: TemplateAnalysis) -> list[str]:
    """The table of all templates and what it says."""
    rows = found.table()
    lines = ["| rank | template | sharpness | worse than the best by | macro | mIoU |", "| --- " * 6 + "|"]
    for row in rows:
        name = f"**{row['template']}**" if row["template"] in PAPER else row["template"]
        own = f"{row['sharpness']:.4f} [{row['low']:.4f}, {row['high']:.4f}]"
        worse = f"[{row['over_best_low']:+.4f}, {row['over_best_high']:+.4f}]"
        lines.append(f"| {row['rank']} | {name} | {own} | {worse} | {row['macro']:.4f} | {row['miou']:.4f} |")
    macro = rank_correlation(found.macro, found.miou)
    low, high = found.miou.min(), found.miou.max()
    spread = f"{found.sharpness.min():.4f} and {found.sharpness.max():.4f}"
    names = {"lowest sharpness": found.best, "best mIoU": found.templates[int(found.miou.argmax())]}
    miou = dict(zip(found.templates, found.miou, strict=True))
    named = [f"{what}: {name!r}, mIoU {miou[name]:.4f}" for what, name in names.items()]
    paper = [f"{name!r} {miou[name]:.4f}" for name in PAPER]
    correlation = "{:.2f} [{:.2f}, {:.2f}]".format
    notes = f"""
{found.images} scenes with two labels or more, {found.judged} of them judged, masks without refinement by colours.
In brackets the middle 95 % of 2,000 bootstrap draws of the scenes: of the sharpness, and of its difference from the
lowest in the same draws. Bold: the paper's templates.

Spearman's rank correlation of sharpness and mIoU over the {len(rows)} templates: **{correlation(*found.correlation)}**
(in brackets the middle 95 % of bootstrap draws of the templates, which are no independent draws: many differ by one
word); of the macro average and mIoU {correlation(*macro)}. In the paper mIoU falls as sharpness rises (VOC, ViT-B/16).

mIoU lies between {low:.4f} and {high:.4f}, sharpness between {spread}; {len(found.rivals)} templates
cannot be told from the best by these scenes.
{"; ".join(named)}; the paper's: {", ".join(paper)}."""
    return [*notes.split("\n"), "", *lines]


def naive(clip: CLIP, vocabulary: Vocabulary, samples: list[Sample], template: str) -> float:
    """The sharpness of one template by itself: every image is read and encoded for it."""
    alone, head = replace(vocabulary, templates=(template,)), clip.vision.head
    text = text_features(clip.text, alone.sentences()).to(head.projection)
    config, rows = replace(clipes.config.CLIP_ES_SCENES, affinity=None), []
    for sample in samples:
        ids = torch.tensor(alone.ids(sample.labels)) - 1
        present = torch.zeros(1, len(alone.class_names), dtype=torch.bool).index_fill(1, ids, True)
        for _, encoded in encode_images(clip.vision, [open_image(sample.image)], config):
            with torch.inference_mode():
                features = image_features(head, encoded.last_block, config.pool)
                rows.append(label_probabilities(features, text, present, head.logit_scale)[0, ids].numpy())
    return prompt_sharpness(rows)


def cost(name: str, clip: CLIP, size: int, images: int, each: int, rounds: int) -> str:
    """A row of the table of costs: one pass for 80 templates against 80 passes, interleaved."""
    vocabulary = load_vocabulary("scenes", templates="imagenet")
    templates = vocabulary.templates
    with tempfile.TemporaryDirectory() as folder:
        samples = write_scenes(Path(folder), images, size)
        os.environ["CLIPES_CACHE"] = f"{folder}/cache"
        start = time.process_time()
        for template in templates:
            text_features(clip.text, replace(vocabulary, templates=(template,)).sentences())
        text = time.process_time() - start
        shared, single = [], []
        for turn in tqdm(range(rounds), name, disable=None):
            start = time.process_time()
            found = analyse_templates(clip, vocabulary, samples)
            shared.append(time.process_time() - start)
            for place in range(turn * each, (turn + 1) * each):
                start = time.process_time()
                value = naive(clip, vocabulary, samples, templates[place])
                single.append(time.process_time() - start)
                np.testing.assert_allclose(value, found.sharpness[place], rtol=1e-3)
    one_pass, one_template = np.median(shared), np.median(single)
    ratio = 80 * one_template / one_pass
    many = VOC_TRAIN / images
    with_text = (80 * one_template * many + text) / (one_pass * many + text)
    cells = [name, f"{size} x {size}", images, f"{one_pass:.2f}", f"{one_template:.2f}", f"**{ratio:.0f}**"]
    return f"| {' | '.join(map(str, [*cells, f'{text:.1f}', f'{with_text:.0f}']))} |"


def costs(vit: Path | None, images: int) -> list[str]:
    titles = [
        "model",
        "pixels",
        "images",
        "shared, s",
        "one template, s",
        "ratio for 80",
        "text once, s",
        "ratio with text",
    ]
    lines = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    lines.append(cost("bundled", load_clip("tiny", device="cpu"), 112, images, *((8, 5) if images > 8 else (1, 1))))
    if vit:
        if not vit.exists():
            make_weights(vit)
        lines.append(cost("ViT-B/16, random", load_clip("ViT-B-16", vit, device="cpu"), 224, 16, 2, 3))
    notes = f"""
Shared: `analyse_templates`, all 80 ImageNet templates in one pass over the images, intervals and all. One template: the
same figure (checked) with a pass of its own, as a loop over templates would do it 80 times. Median processor time of
one thread, both ways in turns; the naive way is timed on 40 (ViT: 6) of the 80 templates. Both read the text from the
cache; text: what it costs to encode it once, in either way; with text: the ratio with that in both, reckoned for the
{VOC_TRAIN:,} images of VOC's train split."""
    return [*lines, *notes.split("\n")]


def make_weights(path: Path) -> None:
    """A randomly initialised ViT-B/16."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = open_clip.create_model("ViT-B-16").state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=320, help="scenes with two labels or more")
    parser.add_argument("--images", type=int, default=128, help="scenes for the table of costs")
    parser.add_argument("--vit", type=Path, metavar="FILE", help="weights of a ViT-B/16, .safetensors")
    parser.add_argument("--out", type=Path, default=ROOT, help="where benchmarks/ and docs/ are")
    options = parse_options(parser, count=4, images=4)
    torch.set_num_threads(1)
    templates = tuple(dict.fromkeys((*PAPER, *SETS["imagenet"])))
    with tempfile.TemporaryDirectory() as folder:
        samples = write_scenes(Path(folder), options.count, 112)
        found = analyse_templates(
            load_clip("tiny", device="cpu"),
            load_vocabulary("scenes", templates=templates),
            samples,
            truth=Path(folder, "truth"),
            progress=lambda items, total, unit: tqdm(items, "analysis", total, disable=None),
        )
    docs = options.out / "docs"
    title = f"Prompt sharpness of {len(templates)} templates over {found.images} scenes"
    plot_sharpness(docs / "sharpness.png", templates, found.sharpness, found.over_best, title, PAPER)
    title = "{} templates, rank correlation {:.2f} [{:.2f}, {:.2f}]".format(len(templates), *found.correlation)
    plot_miou(docs / "sharpness-miou.png", templates, found.sharpness, found.miou, title, PAPER)
    command = f"`python benchmarks/sharpness.py --count {options.count}{' --vit FILE' if options.vit else ''}`"
    lines = [
        "# Prompt sharpness",
        "",
        command,
        "",
        describe(),
        "",
        "## Cost of many templates",
        "",
        *costs(options.vit, options.images),
    ]
    lines += ["", "## On scenes, with the bundled model", *report(found)]
    out = options.out / "benchmarks" / "sharpness.md"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
