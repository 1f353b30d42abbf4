"""How large the files of a run are: ``python benchmarks/files.py``. Writes benchmarks/files.md.

Scenes of 375 x 500 pixels with the bundled model; a ViT-B/16 has patches four times as large, so that its maps on the
patch grid are a quarter of these.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from environment import describe, parse_options
from tqdm import tqdm

import clipes
from clipes.scenes import draw_scenes

SEED = 8_000_000
SIZE = (375, 500)


def sizes(result: clipes.PseudoMask, folder: Path) -> list[int]:
    """Bytes of the mask, the confidence, the maps on the patch grid and the maps at both sizes."""
    result.save(folder / "mask.png")
    result.save_confidence(folder / "confidence.png")
    result.save_cams(folder / "patch.npz", full=False)
    result.save_cams(folder / "full.npz")
    return [(folder / name).stat().st_size for name in ("mask.png", "confidence.png", "patch.npz", "full.npz")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("files.md"))
    options = parse_options(parser, count=1)
    generator = clipes.load()
    found: dict[int, list[list[int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for scene in tqdm(draw_scenes(options.count, SEED, SIZE), total=options.count, disable=None):
            if scene.labels:
                result = generator(scene.image, scene.labels)
                found.setdefault(len(scene.labels), []).append(sizes(result, Path(folder)))
    lines = [
        "# Sizes of a run's files",
        "",
        f"`python benchmarks/files.py --count {options.count}`",
        "",
        describe(),
        "",
    ]
    lines += [f"Mean over scenes of {SIZE[0]} x {SIZE[1]} pixels, in kB.", ""]
    lines += ["| labels | scenes | mask | confidence | maps, patch grid | maps, patch grid and full size |"]
    lines += ["| --- " * 6 + "|"]
    for labels, rows in sorted(found.items()):
        cells = " | ".join(f"{size:.1f}" for size in np.mean(rows, axis=0) / 1000)
        lines.append(f"| {labels} | {len(rows)} | {cells} |")
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
