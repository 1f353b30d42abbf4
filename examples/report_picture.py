"""The README's picture of a report: ``python examples/report_picture.py`` (needs playwright and Chromium).

Draws 200 scenes, makes their masks with the bundled model, writes the report, and photographs it.
"""

import argparse
import shutil
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from clipes.cli import main as clipes
from clipes.commands.demo_run import write_scenes
from clipes.report import write_report

WIDTH, HEIGHT, FIGURES = 1400, 1110, 350
BROKEN = {"cut": 700, "empty": 0}  # bytes of a picture that are there


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/report.png"))
    parser.add_argument("--scenes", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        named = write_scenes(folder, options.scenes)
        with open(folder / "labels.csv", "a", encoding="utf-8") as table:
            for picture, size in BROKEN.items():
                whole = (folder / "images" / f"{named[0][0]}.jpg").read_bytes()
                (folder / "images" / f"{picture}.jpg").write_bytes(whole[:size])
                table.write(f"{picture}.jpg,cat\n")
        given = ["--labels", str(folder / "labels.csv"), "--out", str(folder / "scenes"), "--save-confidence"]
        clipes(["generate", str(folder / "images"), *given])
        report = write_report(folder / "scenes", truth=folder / "truth")
        photograph(report.page, options.out)


def photograph(page: Path, out: Path) -> None:
    """The page's head with its first images, and its figures below."""
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        view.goto(page.resolve().as_uri())
        view.wait_for_timeout(1000)
        head = Image.open(BytesIO(view.screenshot())).convert("RGB")
        for _ in range(2):  # the height of cards that were not in sight is known after the first time
            view.evaluate("window.scrollTo(0, figures.offsetTop - 32)")
            view.wait_for_timeout(1000)
        figures = Image.open(BytesIO(view.screenshot())).convert("RGB")
    sheet = head.crop((0, 0, WIDTH, HEIGHT + FIGURES))
    sheet.paste(figures, (0, HEIGHT))
    sheet.save(out, optimize=True)


if __name__ == "__main__":
    main()
