"""What background words are worth on scenes: ``python benchmarks/background.py``.

Masks with no background words, with the shipped sets, and with those that ``suggest_background`` finds by the same
scenes' labels, which sees no truth. The seed serves for nothing else. Writes benchmarks/background.md.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from environment import describe, parse_options
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

import clipes
from clipes.clip.weights import CLIP, load_clip
from clipes.config import ArgmaxConfig
from clipes.datasets import Sample
from clipes.evaluation import confusion_matrix, mean_iou
from clipes.generator import MaskGenerator
from clipes.prompting.background import BackgroundTable, judge_background, suggest_background
from clipes.scenes import THINGS, Scene, draw_scenes
from clipes.vocabulary import Vocabulary, load_vocabulary

SEED = 9_500_000
FULL = replace(clipes.config.CLIP_ES_SCENES, mask=ArgmaxConfig(clipes.config.CLIP_ES_SCENES.mask.background_power))
INITIAL = replace(FULL, affinity=None, refine=None)
SETS = ("voc12", "general", "scenes")
FOUND = "suggested"


def save(scenes: Sequence[Scene], folder: Path) -> list[Sample]:
    samples = []
    for index, scene in enumerate(scenes):
        path = folder / f"{index:04}.png"
        Image.fromarray(scene.image).save(path)
        samples.append(Sample(path.stem, path, scene.labels))
    return samples


def vocabularies(clip: CLIP, samples: Sequence[Sample], found: BackgroundTable) -> dict[str, Vocabulary]:
    own = load_vocabulary("scenes")
    with warnings.catch_warnings():  # that `tree` and `house` are classes here is part of what is measured
        warnings.simplefilter("ignore")
        given = {name: load_vocabulary("scenes", name).background_names for name in SETS}
    loose = suggest_background(clip, own, samples, FULL, sample=len(samples), near=1)
    repeats = [row.word for row in found.rows if not row.reason or row.reason.startswith("the same")]
    words = {
        "none": (),
        **given,
        FOUND: found.words,
        f"{FOUND}, first 10": found.words[:10],
        f"{FOUND}, near-synonyms kept": loose.words,
        f"{FOUND}, repeats kept": tuple(repeats[:25]),
    }
    return {name: replace(own, background_names=chosen) for name, chosen in words.items()}


def confusions(scenes: Sequence[Scene], generator: MaskGenerator) -> NDArray[np.int64]:
    """(B, K + 1, K + 1), of each scene."""
    masks = [generator(scene.image, scene.labels).mask for scene in scenes]
    return np.stack([confusion_matrix(mask, one.mask, len(THINGS)) for mask, one in zip(masks, scenes, strict=True)])


def interval(counts: NDArray[np.int64], others: NDArray[np.int64]) -> str:
    """The bootstrap's 95 % interval of how much better ``counts`` are, over the scenes."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, len(counts), len(counts)) for _ in range(1000)]
    gains = [mean_iou(counts[one].sum(0)) - mean_iou(others[one].sum(0)) for one in drawn]
    low, high = np.percentile(gains, (2.5, 97.5))
    return f"{low:+.3f} to {high:+.3f}"


def table(clip: CLIP, scenes: Sequence[Scene], samples: Sequence[Sample], found: BackgroundTable) -> list[str]:
    several = [scene for scene in scenes if len(scene.labels) > 1]
    heads = [f"{stage}, {count}" for count in (len(several), len(scenes)) for stage in ("initial", "mask")]
    lines = [f"| background words | count | labels keep | {' | '.join(heads)} | better than `scenes` by |"]
    lines.append("| --- " * 8 + "|")
    rows, last = {}, {}
    for name, vocabulary in tqdm(vocabularies(clip, samples, found).items(), disable=None):
        words = vocabulary.background_names
        kept = judge_background(clip, vocabulary, samples, FULL, sample=len(samples)).kept if words else 1.0
        rows[name] = [name, str(len(words)), f"{kept:.3f}"]
        for chosen in (several, scenes):
            for config in (INITIAL, FULL):
                counts = None
                if words or chosen is several:
                    counts = confusions(chosen, MaskGenerator(clip, vocabulary, config))
                rows[name].append("-" if counts is None else f"{mean_iou(counts.sum(0)):.3f}")
        last[name] = counts
    for name, cells in rows.items():
        better = "-" if last[name] is None or name == "scenes" else interval(last[name], last["scenes"])
        lines.append(f"| {' | '.join([*cells, better])} |")
    return lines


def words_table(found: BackgroundTable) -> list[str]:
    lines = ["| word | wins | alone | with the others | without it, labels gain | takes from |", "| --- " * 6 + "|"]
    for row in found.rows:
        if row.p_joint is not None and row.gain is not None:
            figures = f"{row.p_pairwise:.3f} | {row.p_joint:.3f} | {row.gain:+.3f}"
            lines.append(f"| {row.word} | {row.wins} | {figures} | {row.takes_from} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("background.md"))
    options = parse_options(parser, count=4)
    clip = load_clip("tiny", device="cpu")
    scenes = list(draw_scenes(options.count, SEED))
    with tempfile.TemporaryDirectory() as folder:
        samples = save(scenes, Path(folder))
        start = time.perf_counter()
        found = suggest_background(clip, load_vocabulary("scenes"), samples, FULL, sample=options.count)
        seconds = time.perf_counter() - start
        lines = table(clip, scenes, samples, found)
    grounds = load_vocabulary("scenes").background_names
    ranks = sorted(found.words.index(word) + 1 for word in grounds if word in found.words)
    missed = [f"`{row.word}` ({row.reason})" for row in found.rows if row.word in grounds and row.reason]
    first, second = found.near_pair or ("", "")
    text = f"""# Background words on scenes

`python benchmarks/background.py --count {options.count}`

{describe()}

mIoU of masks in which every pixel is decided, without and with the affinity and the CRF of
`clipes.config.CLIP_ES_SCENES`. Of a single label and no word the softmax has nothing to decide, so the first two
columns are of the scenes of several labels, the others of all. *Labels keep*: the probability left to the labels, on
average. The last column is the bootstrap's 95 % interval over the {len(scenes)} scenes.

{chr(10).join(lines)}

`suggest_background` chose {len(found.words)} of {len(found.rows)} words by {found.images} scenes in {seconds:.0f} s.
Of the {len(grounds)} grounds that scenes are drawn on, {len(ranks)} are among them, at places
{", ".join(map(str, ranks))}; the others: {", ".join(missed) or "none"}.
The limit for near-synonyms was {found.near_limit:.3f}, the cosine of `{first}` and `{second}`. Words that the bundled
model never saw have one feature, or nearly: all but one of them are left out as the same to the model.

{chr(10).join(words_table(found))}
"""
    options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
