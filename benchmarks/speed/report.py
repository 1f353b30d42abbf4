"""benchmarks/RESULTS.md and the plots, from results-cpu.json and results-cuda.json, those of them that are there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from speed.growth_plot import draw_growth
from speed.profile_table import profile
from speed.stages import STAGES
from speed.subjects import BASELINE

DEVICES = {"cpu": "CPU", "cuda": "GPU"}
PLOTS = {"cpu": "growth.png", "cuda": "growth-cuda.png"}

INTRODUCTION = """# Speed, beside the original's way of working

Made by `benchmarks/run.py` (its help says how, and how long it takes). The baseline, `benchmarks/baseline.py`, is our
own literal statement of how CLIP-ES's code works: one picture at a time, a forward and a full backward pass for each
label, a dense affinity squared for each label, the CRF of pydensecrf2 in a second pass. Both have the same weights, the
same files and the same cores; tests hold their masks together. Times are medians of rounds in which all take turns;
in parentheses the lower and the upper quartile. A ratio is that to the baseline in the same rounds: 2 is twice as fast.
"""

GPU_NOTE = "The baseline's encoder is in float32 here; the original's, on a GPU, in float16."


def write_report(folder: Path) -> None:
    """Write RESULTS.md into ``folder``, and a plot for each device that was measured."""
    lines = [INTRODUCTION]
    for device, title in DEVICES.items():
        results = folder / f"results-{device}.json"
        lines += [f"## {title}", ""]
        if results.exists():
            lines += [GPU_NOTE, ""] if device == "cuda" else []
            lines += _device(json.loads(results.read_text()), folder, device)
        else:
            lines += [f"Not measured: `python benchmarks/run.py --device {device}`.", ""]
    (folder / "RESULTS.md").write_text("\n".join(lines), encoding="utf-8")


def _device(parts: dict[str, Any], folder: Path, device: str) -> list[str]:
    lines: list[str] = []
    makers = {"limits": _limits, "end": _end, "stages": _stages}
    for part, make in makers.items():
        for key in sorted(key for key in parts if key.partition(",")[0] == part):
            lines += make(parts[key]["found"]) + _made(parts[key])
    if "stages" in parts and "limits" in parts:
        whole = parts["end"]["found"] if "end" in parts else None
        lines += profile(parts["stages"]["found"]["cells"], parts["limits"]["found"], whole, device)
    if part := max((parts[key] for key in parts if key.partition(",")[0] == "growth"), key=threads_of, default=None):
        found, (height, width) = part["found"], part["found"]["size"]
        heading = f"{part['about'].split(';')[1].strip()}. {found['model']} at {width} x {height} and 2 labels"
        heading += " with the CRF unless an axis says otherwise;\nbundled model at 112 x 112"
        panels = found["panels"]
        if many := max((parts[key] for key in parts if key.partition(",")[0] == "many"), key=threads_of, default=None):
            panels = [many["found"] if panel["axis"] == many["found"]["axis"] else panel for panel in panels]
            heading += f"; {many['found']['axis']}: {many['threads']} threads"
        draw_growth(panels, heading, folder / PLOTS[device])
        lines += ["### How it grows", "", f"![images/s by what is asked]({PLOTS[device]})", "", *_made(part)]
        lines += _made(many) if many else []
    return lines


def threads_of(part: dict[str, Any]) -> int:
    """The cores that a part was measured on."""
    return int(part["threads"])


def _made(part: dict[str, Any]) -> list[str]:
    return [f"`{part['command']}`, {part['pictures']}, threads: {part['threads']}. {part['about']}", ""]


def _limits(found: dict[str, float]) -> list[str]:
    lines = ["### Limits of the machine", "", "| | measured |", "| --- | --- |"]
    for name, value in found.items():
        per_second = f"{value / 1e9:,.1f} GB/s" if name == "copy" else f"{value / 1e9:,.0f} GFLOP/s"
        what = "copy, bytes read and written" if name == "copy" else f"matrix product, {name}"
        lines.append(f"| {what} | {per_second} |")
    return [*lines, ""]


def spread(values: list[float], digits: int) -> str:
    """Median and quartiles."""
    low, middle, high = (f"{value:,.{digits}f}" for value in values)
    return f"{middle} ({low} to {high})"


def _end(found: dict[str, Any]) -> list[str]:
    height, width = found["size"]
    jobs = found["given"]["jobs"]
    lines = ["### End to end" + (f", {jobs} batches side by side" if jobs > 1 else ""), ""]
    lines += [
        f"{found['model']}, {found['images']} JPEGs of {width} x {height} with {found['labels']} labels to PNGs, "
    ]
    given = ", ".join(f"{name} {value}" for name, value in found["given"].items())
    lines[-1] += f"{found['rounds']} rounds; clipes by MaskWriter ({given}). Memory is that above the start of a run."
    lines += ["", "| | CRF | images/s | ratio | peak memory, MB | GPU busy |", "| --- | --- | --- | --- | --- | --- |"]
    for row in found["rows"]:
        ratio = "1" if row["subject"] == BASELINE else spread(row["ratio"], 2)
        rate, crf = spread(row["images_per_second"], 2), "yes" if row["crf"] else "no"
        busy = "" if row["busy"] is None else f"{row['busy']:.0%}"
        lines.append(f"| {row['subject']} | {crf} | {rate} | {ratio} | {row['peak_megabytes']:,.0f} | {busy} |")
    lines += ["", "| masks of | and of | CRF | equal, all pixels | equal, pixels that both decide | decided by both |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for row in found["agreement"]:
        shares = " | ".join(f"{100 * row[name]:.3f} %" for name in ("all", "of_decided", "decided"))
        lines.append(f"| {row['of']} | {row['with']} | {'yes' if row['crf'] else 'no'} | {shares} |")
    return [*lines, ""]


def _stages(found: dict[str, Any]) -> list[str]:
    lines = ["### Stages", "", f"Milliseconds for a picture, {found['clock']}; quartiles that are equal: one round."]
    groups: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for cell in found["cells"]:
        groups.setdefault((cell["model"], *cell["size"]), []).append(cell)
    for (model, height, width), cells in groups.items():
        lines += ["", f"#### {model}, {width} x {height}", "", *_stage_table(cells)]
    return [*lines, ""]


def _stage_table(cells: list[dict[str, Any]]) -> list[str]:
    names = [name for name in dict.fromkeys(cell["subject"] for cell in cells) if name.startswith("clipes")]
    head = f"| stage | labels | {BASELINE}, ms | " + " | ".join(f"{name}, ms | ratio" for name in names) + " |"
    lines = [head, "| --- " * (3 + 2 * len(names)) + "|"]
    for stage, labels in _rows(cells):
        here = {c["subject"]: c for c in cells if (c["stage"], c["labels"]) == (stage, labels)}
        columns = [spread([1e3 * t for t in here[BASELINE]["seconds"]], 2)]
        for name in names:
            cell = here.get(name)
            columns += [spread([1e3 * t for t in cell["seconds"]], 2), spread(cell["ratio"], 2)] if cell else ["", ""]
        lines.append(f"| {STAGES[stage]} | {labels} | " + " | ".join(columns) + " |")
    return lines


def _rows(cells: list[dict[str, Any]]) -> Iterable[tuple[str, int]]:
    found = {(cell["stage"], cell["labels"]) for cell in cells}
    return sorted(found, key=lambda row: (list(STAGES).index(row[0]), row[1]))
