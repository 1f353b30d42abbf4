"""The profile in RESULTS.md: each stage's share of the time, and how near it is to what it could be at best."""

from __future__ import annotations

from typing import Any

from speed.parts import LIBRARY
from speed.stages import PICTURE_STAGES, STAGES

FAR = 0.5
"""Of its limit: a stage that reaches less is explained."""

HOST = {
    "decode": "The file is checked, turned by its EXIF and converted besides.",
    "png": "The ids are checked first, and the palette and the file's frame are written.",
}
REASONS = {
    "cpu": {
        **HOST,
        "resize": "The levels become floats and are normalised after the resampling, which is the library's call.",
        "encode": "Norms, activations, softmax and the sum over heads move memory instead of multiplying, and products "
        "with a head's few columns reach less than square ones.",
        "cam": "As the blocks before; and the derivatives of activations and norms only move memory.",
        "affinity": "It takes a copy of the matrix in float64, and its sums in that, twice the bytes counted; the "
        "boxes of the maps are many small steps.",
        "decide": "Enlarging, the background's score, division and maximum each pass over the maps by themselves, and "
        "what the user may ask for (maps, scores, confidence) is made as well.",
        "crf": "Splat, blur and slice gather in no order in memory; the lattice is built for each picture; neither "
        "that nor the blur is among the bytes counted.",
    },
    "cuda": HOST,
}
"""By device; what is said was seen there."""


def profile(
    cells: list[dict[str, Any]], limits: dict[str, float], whole: dict[str, Any] | None, device: str
) -> list[str]:
    """A table for each of clipes' precisions: the first model and size, 2 labels (or the most that were measured)."""
    model, size = cells[0]["model"], cells[0]["size"]
    main = [cell for cell in cells if (cell["model"], cell["size"]) == (model, size)]
    numbers = sorted({cell["labels"] for cell in main})
    labels = 2 if 2 in numbers else numbers[-1]
    chosen = {(c["subject"], c["stage"]): c for c in main if c["labels"] == labels or c["stage"] in PICTURE_STAGES}
    lines = ["### Profile", ""]
    lines += [
        f"{model}, {size[1]} x {size[0]}, {labels} labels. What reaches less than {FAR:.0%} of its limit is explained."
    ]
    for name in dict.fromkeys(c["subject"] for c in main if c["subject"].startswith("clipes")):
        own = {stage: chosen[name, stage] for stage in STAGES if (name, stage) in chosen}
        calls = {stage: chosen[LIBRARY, stage]["seconds"][1] for stage in STAGES if (LIBRARY, stage) in chosen}
        lines += ["", f"#### {name}", "", *_table(own, calls, limits, REASONS[device]), "", *_whole(name, own, whole)]
    return lines


def _table(
    own: dict[str, dict[str, Any]], calls: dict[str, float], limits: dict[str, float], reasons: dict[str, str]
) -> list[str]:
    lines = [
        "| stage | ms | share of the time | reaches | of its limit | why |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    total = sum(cell["seconds"][1] for cell in own.values())
    for stage, cell in own.items():
        taken = cell["seconds"][1]
        reaches, part = _reached(stage, cell, calls, limits)
        why = reasons.get(stage, "") if part < FAR else ""
        lines.append(f"| {STAGES[stage]} | {1e3 * taken:,.2f} | {taken / total:.1%} | {reaches} | {part:.0%} | {why} |")
    return lines


def _reached(stage: str, cell: dict[str, Any], calls: dict[str, float], limits: dict[str, float]) -> tuple[str, float]:
    """What a stage reaches, in words, and the least time that it could take as a share of its time."""
    taken, amounts = cell["seconds"][1], cell["work"]
    if not amounts:
        return f"the library's call takes {1e3 * calls[stage]:,.2f} ms", calls[stage] / taken
    lower = {"clipes bf16": "bfloat16", "clipes fp16": "float16"}.get(cell["subject"], "float32")
    exact = "tf32" if lower == "float16" else "float32"
    ceilings = {"bytes": limits["copy"], "float32": limits[exact], "lower": limits[lower]}
    least = sum(amount / ceilings[kind] for kind, amount in amounts.items())
    unit = "GB/s" if "bytes" in amounts else "GFLOP/s"
    return f"{sum(amounts.values()) / taken / 1e9:,.1f} {unit}", least / taken


def _whole(name: str, own: dict[str, dict[str, Any]], whole: dict[str, Any] | None) -> list[str]:
    """What the stages come to, beside what a picture takes end to end."""
    total = 1e3 * sum(cell["seconds"][1] for cell in own.values())
    said = f"The stages come to {total:,.1f} ms"
    rows = [row for row in whole["rows"] if row["subject"] == name and row["crf"]] if whole else []
    if rows:
        each = 1e3 / rows[0]["images_per_second"][1]
        said += f"; end to end a picture takes {each:,.1f} ms on the wall, with the record, the catalogue and the files"
    return [said + ".", ""]
