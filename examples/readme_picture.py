"""The README's pictures, out of a demo's folder: ``python examples/readme_picture.py clipes-demo``."""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

TITLES = ("picture", "initial maps", "refined maps", "mask", "truth")
SIDE, GAP, HEAD = 168, 8, 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="folder that `clipes demo --out` wrote")
    parser.add_argument("--scenes", type=int, nargs="+", default=[0, 1, 2, 3], help="which of its pictures")
    parser.add_argument("--panels", nargs="+", default=TITLES, help="which panels of each")
    parser.add_argument("--out", type=Path, default=Path("docs/demo.png"))
    options = parser.parse_args()

    width = len(options.panels) * (SIDE + GAP) - GAP
    sheet = Image.new("RGB", (width, HEAD + len(options.scenes) * (SIDE + GAP) - GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(16)
    for column, title in enumerate(options.panels):
        left = column * (SIDE + GAP)
        draw.text((left + SIDE / 2, HEAD / 2), title, fill="black", font=font, anchor="mm")
        for row, scene in enumerate(options.scenes):
            file = options.demo / "pictures" / f"{scene:05d}-{title.replace(' ', '-')}.png"
            panel = Image.open(file).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(panel, (left, HEAD + row * (SIDE + GAP)))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out, optimize=True)


if __name__ == "__main__":
    main()
