"""The CRF beside pydensecrf2, on one core: ``python benchmarks/crf.py --images FOLDER``. Writes benchmarks/crf.md.

The images are resized to 500 pixels on the longer side where they are larger; without a folder, scenes are drawn.
Needs ``pip install pydensecrf2`` (and a compiler). The scores are smooth random fields: how long a mean field takes
depends on the picture's colours and on the number of labels, not on the scores.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from environment import describe, parse_options
from PIL import Image
from tqdm import tqdm

from clipes.config import CrfConfig
from clipes.refine.compiled import compiled_mean_field, library
from clipes.refine.crf import mean_field
from clipes.scenes import draw_scenes

CONFIG = CrfConfig()
SEED = 8_000_000


def compiled(image: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return compiled_mean_field(library(), image, scores, CONFIG)


def portable(image: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return mean_field([torch.from_numpy(image)], [torch.from_numpy(scores)], CONFIG)[0].numpy()


def pydensecrf(image: np.ndarray, scores: np.ndarray) -> np.ndarray:
    from pydensecrf.densecrf import DenseCRF2D

    height, width = image.shape[:2]
    crf = DenseCRF2D(width, height, len(scores))
    crf.setUnaryEnergy(np.ascontiguousarray(-np.log(scores.clip(1e-5, 1)).reshape(len(scores), -1)))
    crf.addPairwiseGaussian(sxy=CONFIG.smooth_sigma, compat=CONFIG.smooth_weight)
    crf.addPairwiseBilateral(
        sxy=CONFIG.bilateral_sigma, srgb=CONFIG.colour_sigma, rgbim=image, compat=CONFIG.bilateral_weight
    )
    return np.array(crf.inference(CONFIG.iterations)).reshape(scores.shape)


RUNS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "pydensecrf2": pydensecrf,
    "clipes, compiled": compiled,
    "clipes, torch": portable,
}


def random_scores(size: tuple[int, int], labels: int, seed: int) -> np.ndarray:
    """Smooth fields (labels + 1, H, W) that sum to one."""
    coarse = np.random.default_rng(seed).random((labels + 1, 24, 32)).astype(np.float32) ** 3
    height, width = size
    fields = [np.asarray(Image.fromarray(field).resize((width, height), Image.Resampling.BILINEAR)) for field in coarse]
    scores = np.stack(fields).clip(1e-6)
    return np.ascontiguousarray(scores / scores.sum(0))


def pictures(folder: Path | None, size: tuple[int, int]) -> list[np.ndarray]:
    """The photographs of a folder, or three scenes of ``size``."""
    if folder is None:
        return [scene.image for scene in draw_scenes(3, SEED, size)]
    images = [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.jpg"))]
    for image in images:
        image.thumbnail((500, 500))
    return [np.array(image) for image in images]


def side_by_side(images: list[np.ndarray], rounds: int) -> list[str]:
    """Milliseconds of CPU time, interleaved, median over the rounds, mean over the images."""
    lines = ["| labels | " + " | ".join(f"{name}, ms" for name in RUNS) + " | ratio, compiled | ratio, torch |"]
    lines += ["| --- " * (len(RUNS) + 3) + "|"]
    worst, equal = dict.fromkeys(RUNS, 0.0), dict.fromkeys(RUNS, 1.0)
    for labels in tqdm((1, 2, 4), disable=None):
        times: dict[str, list[float]] = {name: [] for name in RUNS}
        for index, image in enumerate(images):
            scores = random_scores(image.shape[:2], labels, index)
            spent: dict[str, list[float]] = {name: [] for name in RUNS}
            for _ in range(rounds + 1):
                results = {}
                for name, run in RUNS.items():
                    start = time.process_time()
                    results[name] = run(image, scores)
                    spent[name].append(time.process_time() - start)
            for name, result in results.items():
                times[name].append(1000 * float(np.median(spent[name][1:])))
                oracle = results["pydensecrf2"]
                worst[name] = max(worst[name], float(np.abs(result - oracle).max()))
                equal[name] = min(equal[name], float((result.argmax(0) == oracle.argmax(0)).mean()))
        mean = {name: float(np.mean(values)) for name, values in times.items()}
        base, fast, plain = mean.values()
        lines.append(f"| {labels} | {base:.0f} | {fast:.0f} | {plain:.0f} | {base / fast:.1f} | {base / plain:.1f} |")
    lines.append("")
    for name in list(RUNS)[1:]:
        lines.append(f"- {name}: equal labels on {100 * equal[name]:.3f} % of the pixels at least, ")
        lines[-1] += f"max difference of the marginals {worst[name]:.1e}."
    return lines


def large_image(size: tuple[int, int]) -> np.ndarray:
    """A scene of ``size``, (H, W), with noise as a camera's, so that its colours are not few."""
    small = next(draw_scenes(1, SEED, (size[0] // 4, size[1] // 4))).image
    image = np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)).astype(np.int16)
    noise = np.random.default_rng(0).integers(-4, 5, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def memory(field: str) -> float:
    """A field of this process's status, in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def run_large(name: str, size: tuple[int, int], path: Path) -> None:
    """In a process of its own: one mean field of two labels; writes the result, prints seconds and memory."""
    torch.set_num_threads(1)
    image, scores = large_image(size), random_scores(size, 2, 0)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    start = time.process_time()
    result = RUNS[name](image, scores)
    spent = time.process_time() - start
    peak = memory("VmHWM") - before
    np.save(path, result)
    print(json.dumps({"seconds": spent, "megabytes": peak}))


def large(folder: Path, size: tuple[int, int]) -> list[str]:
    lines = [f"| {size[0]} x {size[1]}, 2 labels | seconds | peak memory above the start, GB | MB per megapixel |"]
    lines += ["| --- | --- | --- | --- |"]
    results = {}
    for name in tqdm(RUNS, disable=None):
        path = folder / "large.npy"
        command = [sys.executable, __file__, "--large", name, "--size", *map(str, size), "--out", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines.append(f"| {name} | did not finish ({done.stderr.strip().splitlines()[-1:]}) | | |")
            continue
        found = json.loads(done.stdout)
        megapixels = size[0] * size[1] / 1e6
        per = found["megabytes"] / megapixels
        lines.append(f"| {name} | {found['seconds']:.1f} | {found['megabytes'] / 1024:.2f} | {per:.0f} |")
        results[name] = np.load(path)
        path.unlink()
    lines.append("")
    for name, result in results.items():
        if name != "pydensecrf2" and "pydensecrf2" in results:
            oracle = results["pydensecrf2"]
            same = 100 * float((result.argmax(0) == oracle.argmax(0)).mean())
            lines.append(f"- {name}: equal labels on {same:.4f} %, max difference {np.abs(result - oracle).max():.1e}.")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="folder of .jpg photographs")
    parser.add_argument("--scene", type=int, nargs=2, default=[375, 500], help="H and W of the scenes in their place")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, nargs=2, default=[3000, 4000], help="H and W of the large picture")
    parser.add_argument("--large", choices=tuple(RUNS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("crf.md"))
    options = parse_options(parser, rounds=1, scene=[60, 80], size=[60, 80])
    torch.set_num_threads(1)
    if options.large:
        run_large(options.large, tuple(options.size), options.out)
        return
    images = pictures(options.images, tuple(options.scene))
    sizes = ", ".join(f"{image.shape[1]} x {image.shape[0]}" for image in images)
    command = f"`python benchmarks/crf.py{' --images FOLDER' if options.images else ''} --rounds {options.rounds}`"
    lines = ["# The CRF beside pydensecrf2, on one core", "", command, "", describe(), ""]
    kind = "photographs" if options.images else "scenes"
    lines += [
        f"{len(images)} {kind} ({sizes}). CPU time of one call, ten iterations, as CLIP-ES sets them; the compiled"
    ]
    lines += ["path keeps the spatial lattice of a size that it has seen, as in a run over a data set.", ""]
    lines += [*side_by_side(images, options.rounds), "", *large(options.out.parent, tuple(options.size))]
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
