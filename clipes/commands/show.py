"""``clipes show``: one picture's maps, mask and confidence as a figure, in a file and in the terminal."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipes.io.atomic import SOFTWARE, owned, write_bytes
from clipes.io.paths import MAX_NAME

from .arguments import add_command, nonempty, path
from .flags import add_config_flags, read_config
from .inline import escapes
from .model import add_clip_flags, add_vocabulary_flags, load_model, load_words
from .terminal import DONE, printable, report_failures, short

if TYPE_CHECKING:
    from clipes.result import PseudoMask

MAX_WIDTH = 40
"""How many characters of a name are printed."""


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "make one picture's mask and look at it: a figure of maps, mask and confidence"
    details = (
        "The figure is written to a file and, where the terminal can show pictures (kitty, Ghostty, WezTerm, "
        "Konsole, iTerm2, mintty; not inside tmux or screen), shown there."
    )
    show = add_command(commands, "show", run, help, details)
    show.add_argument("image", type=path, help="one picture")
    show.add_argument("--labels", type=nonempty, required=True, metavar="NAMES", help="what it shows: dog,person")
    out = ".png, .svg or .pdf file (default: the picture's name with -clipes.png, in this folder); what something else "
    show.add_argument("--out", type=path, metavar="FILE", help=f"{out}has written is never replaced")
    overlay = "the picture with the mask on it instead of the figure: a .png, for which matplotlib is not needed"
    show.add_argument("--overlay", action="store_true", help=overlay)
    add_clip_flags(show, batch=False)
    add_vocabulary_flags(show, auto=False)
    add_config_flags(show)
    show.shorten_help(
        ("--labels", "--out", "--overlay", "--model", "--pretrained", "--classes", "--background", "--ignore-below"),
        ("clipes show dog.jpg --labels dog,person --model ViT-B-16 --pretrained openai --classes voc12",),
    )


def run(options: argparse.Namespace) -> int:
    """Check everything that can be checked without the model, then make the mask, write, print and show."""
    from clipes.io.images import ImageError, open_image

    out = options.out or Path(f"{options.image.stem}-clipes.png")
    _check_out(out, options.image, options.overlay)
    vocabulary = load_words(options)
    labels = [label for label in map(str.strip, options.labels.split(",")) if label]
    if not labels:
        raise ValueError(f"--labels is {options.labels!r}, which names no class; say what the picture shows")
    vocabulary.ids(labels)
    config = read_config(options, vocabulary.preset)
    if options.image.is_dir():
        raise ValueError(f"{options.image} is a folder; give one picture, or use `clipes generate`")
    try:
        image = open_image(options.image)
    except ImageError as error:
        return report_failures([str(error)])

    clip = load_model(options)
    from clipes.generator import MaskGenerator

    result = MaskGenerator(clip, vocabulary, config)(image, labels)
    screen = _write(out, result, options.overlay)
    _print_shares(result)
    print(f"Look at {printable(out)}")
    if sys.stdout and (shown := escapes(screen, os.environ, sys.stdout)):
        sys.stdout.flush()
        sys.stdout.buffer.write(shown)
    return DONE


def _check_out(out: Path, image: Path, overlay: bool) -> None:
    """Check that the result can be written to ``out``.

    Raises ValueError for a wrong suffix, a name that is too long, or an existing file that `clipes show` did not write;
    OSError if the folder cannot be written to.
    """
    if overlay and out.suffix.lower() != ".png":
        raise ValueError(f"an overlay is a PNG file, not {out.name!r}; end its name in .png")
    if not overlay:
        from clipes.drawing.figure import check_plot

        check_plot(out)
    if os.path.lexists(out):
        if out.exists() and image.exists() and out.samefile(image):
            raise ValueError(f"{out} is the picture itself; give another --out")
        if not owned(out, "figure"):
            raise ValueError(f"{out} is there and not of `clipes show`; move it away or give another --out")
    if len(os.fsencode(out.name)) > MAX_NAME:
        raise ValueError(f"{short(out.name, MAX_WIDTH)} is above {MAX_NAME} bytes long; give a shorter --out")
    folder = next(folder for folder in (out.absolute().parent, *out.absolute().parents) if os.path.lexists(folder))
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder; give another --out")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written to; give an --out elsewhere")


def _write(out: Path, result: PseudoMask, overlay: bool) -> bytes:
    """Write the file; returns a PNG file to be shown on the screen."""
    if overlay:
        from clipes.drawing.overlay import overlay_png

        data = overlay_png(result.overlay(legend=True), SOFTWARE["figure"])
        write_bytes(out, data)
        return data
    from clipes.drawing.figure import figure_png, save_figure

    figure = result.figure()
    save_figure(out, figure, SOFTWARE["figure"])
    return figure_png(figure)


def _print_shares(result: PseudoMask) -> None:
    from clipes.ids import ignore_index

    segments = {segment.label: segment for segment in result.segments()}
    width = max(len("ignored"), *(len(short(label, MAX_WIDTH)) for label in result.labels))
    for label in result.labels:
        share = "nowhere"
        if segment := segments.get(label):
            share = f"{segment.mask.mean():6.1%} of the picture, confidence {segment.confidence:.2f}"
        print(f"{short(label, MAX_WIDTH):{width}}  {share}")
    ignored = float((result.mask == ignore_index(result.num_classes)).mean())
    if ignored:
        print(f"{'ignored':{width}}  {ignored:6.1%}")
