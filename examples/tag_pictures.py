"""The pictures of docs/tags.md: ``python examples/tag_pictures.py`` (needs playwright and Chromium).

Draws 200 scenes, gives a quarter of them a wrong label, tags and checks them with the bundled model, and photographs
both pages.
"""

import argparse
import os
import random
import shutil
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from clipes.cli import main as clipes
from clipes.commands.demo_run import write_scenes
from clipes.scenes import THINGS

WIDTH, HEIGHT, LOWER = 1400, 800, 420
WRONG = 0.25  # share of the images with a wrong label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--scenes", type=int, default=200)
    options = parser.parse_args()
    out = options.out.resolve()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        write_scenes(Path(), options.scenes)
        write_wrong_labels(Path("labels.csv"), Path("web.csv"))
        clipes(["tag", "images", "--calibrate", "labels.csv", "--out", "tags.csv"])
        clipes(
            ["tag", "images", "--check", "web.csv", "--out", "doubts.csv", "--thresholds", "tags.csv.thresholds.json"]
        )
        with sync_playwright() as started:
            browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            view = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
            photograph(view, Path("tags.csv.html"), "scores", out / "tags-page.jpg")
            photograph(view, Path("doubts.csv.html"), "classes", out / "doubts-page.jpg")
        os.chdir(out)


def write_wrong_labels(labels: Path, web: Path) -> None:
    """A table of labels in which some images have another class in place of one of theirs."""
    chance = random.Random(7)
    head, *rows = labels.read_text(encoding="utf-8").splitlines()
    lines = [head]
    for row in rows:
        image, names = row.split(",")
        parts = names.split(";")
        if chance.random() < WRONG:
            others = [thing for thing in THINGS if thing not in parts]
            parts[chance.randrange(len(parts))] = chance.choice(others)
        lines.append(f"{image},{';'.join(parts)}")
    web.write_text("\n".join(lines), encoding="utf-8")


def photograph(view: Page, page: Path, section: str, out: Path) -> None:
    """The page's head with its first images, and the beginning of one of its sections below."""
    view.goto(page.resolve().as_uri())
    head = Image.open(BytesIO(view.screenshot())).convert("RGB")
    lower = Image.open(BytesIO(view.locator(f"#{section}").screenshot())).convert("RGB")
    height = min(LOWER, lower.height)
    sheet = Image.new("RGB", (WIDTH, HEIGHT + height), head.getpixel((0, 0)))
    sheet.paste(head, (0, 0))
    sheet.paste(lower.crop((0, 0, lower.width, height)), ((WIDTH - lower.width) // 2, HEIGHT))
    sheet.save(out, quality=88)


if __name__ == "__main__":
    main()
