"""The table of speeds in docs/results.md, from results-cpu.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from speed.subjects import BASELINE

BEGIN, END = "<!-- by benchmarks/run.py -->", "<!-- end -->"

ROWS = (("cam", 1), ("cam", 2), ("cam", 4), ("affinity", 2), ("crf", 2))
NAMES = {"cam": "last block and CAM", "affinity": "affinity", "crf": "dense CRF"}


def write_results_page(path: Path, parts: dict[str, Any]) -> None:
    """Put the table between the marks of the page at ``path``."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{_table(parts)}\n{END}{after}", encoding="utf-8")


def _table(parts: dict[str, Any]) -> str:
    """What the baseline takes, and clipes in both precisions, with the ratios."""
    subjects = (BASELINE, "clipes float32", "clipes bf16")
    lines = ["| | baseline | clipes, float32 | | clipes, bf16 | |", "| --- " * 6 + "|"]
    for key in sorted(key for key in parts if key.partition(",")[0] == "end"):
        cores = parts[key]["threads"]
        where = "on one core" if cores == 1 else f"on {cores} cores"
        for crf in (True, False):
            rows = {row["subject"]: row for row in parts[key]["found"]["rows"] if row["crf"] is crf}
            values = [(f"{rows[name]['images_per_second'][1]:.2f}", rows[name]["ratio"][1]) for name in subjects]
            refined = "with the CRF" if crf else "without it"
            lines.append(_row(f"JPEG to PNG {refined}, images/s, {where}", values))
    cells = [c for c in parts["stages"]["found"]["cells"] if c["model"] == "ViT-B-16" and c["size"] == [375, 500]]
    for stage, labels in ROWS:
        found = {c["subject"]: c for c in cells if (c["stage"], c["labels"]) == (stage, labels)}
        taken = {name: 1e3 * found[name]["seconds"][1] for name in subjects}
        values = [(f"{taken[name]:,.{taken[name] < 100:d}f}", found[name]["ratio"][1]) for name in subjects]
        lines.append(_row(f"{NAMES[stage]}, {labels} label{'s' * (labels > 1)}, ms", values))
    return "\n".join(lines)


def _row(name: str, values: list[tuple[str, float]]) -> str:
    (base, _), *others = values
    return f"| {name} | {base} | " + " | ".join(f"{value} | {ratio:.1f}×" for value, ratio in others) + " |"  # noqa: RUF001
