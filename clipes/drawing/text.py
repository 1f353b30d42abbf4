"""Text in plots: its width, cutting it to a width, and removing control characters."""

from __future__ import annotations

import unicodedata
import warnings

_MAX_LENGTH = 200  # characters: a longer text is cut to this before it is measured


def cut_text(text: str, width: float, size: float) -> str:
    """``text`` on one line of at most ``width`` inches; a longer one is cut and ends in an ellipsis."""
    text = " ".join(plain_text(text[:_MAX_LENGTH]).split())
    if text_width(text, size) <= width:
        return text
    return next(cut for n in range(len(text) - 1, -1, -1) if text_width(cut := f"{text[:n]}…", size) <= width or n == 0)


def plain_text(text: str) -> str:
    """``text`` with U+FFFD for control and direction characters, and a space for each kind of white space."""
    return "".join("\ufffd" if unicodedata.category(c)[0] == "C" else " " if c.isspace() else c for c in text)


def text_width(text: str, size: float) -> float:
    """The width in inches of a line of text of ``size`` points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        return float(text_to_path.get_text_width_height_descent(text, FontProperties(size=size), False)[0]) / 72
