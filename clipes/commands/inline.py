"""Pictures in a terminal, by kitty's graphics protocol or iTerm2's inline images."""

from __future__ import annotations

import shutil
from base64 import b64encode
from collections.abc import Mapping
from struct import unpack_from
from typing import Literal, TextIO

Protocol = Literal["kitty", "iterm"]

_CHUNK = 4096  # bytes of base64 in one escape sequence: kitty's limit
_CELL = 8  # assumed width of a character in pixels; where characters are wider, the terminal enlarges the picture
_BY_TERM: dict[str, Protocol] = {"xterm-kitty": "kitty", "xterm-ghostty": "kitty"}
_BY_PROGRAM: dict[str, Protocol] = {
    "kitty": "kitty",
    "ghostty": "kitty",
    "WezTerm": "iterm",
    "iTerm.app": "iterm",
    "mintty": "iterm",
}
_MULTIPLEXERS = ("TMUX", "STY", "ZELLIJ")
_KONSOLE = 220400  # the first version with kitty's protocol


def escapes(png: bytes, environment: Mapping[str, str], stream: TextIO) -> bytes:
    """The escape sequences and line end that show a PNG file on the terminal ``stream``.

    Empty if ``stream`` is no terminal, or if the terminal cannot show pictures.
    """
    protocol = find_protocol(environment) if stream.isatty() else None
    if protocol is None:
        return b""
    width: int = unpack_from(">I", png, 16)[0]  # of the picture, from the PNG header
    columns = max(1, min(shutil.get_terminal_size().columns - 1, -(-width // _CELL)))
    return (kitty if protocol == "kitty" else iterm)(png, columns) + b"\n"


def find_protocol(environment: Mapping[str, str]) -> Protocol | None:
    """The picture protocol of the terminal, detected from its environment variables; None if it has none.

    Inside a multiplexer the answer is None, because multiplexers drop or misplace pictures. A terminal that was started
    from another inherits its variables. So TERM, which every terminal sets itself, is asked first, then TERM_PROGRAM.
    """
    term = environment.get("TERM", "")
    if any(map(environment.get, _MULTIPLEXERS)) or term.startswith(("tmux", "screen")) or term in ("", "dumb"):
        return None
    if term in _BY_TERM:
        return _BY_TERM[term]
    if program := environment.get("TERM_PROGRAM"):
        return _BY_PROGRAM.get(program)
    if environment.get("LC_TERMINAL") == "iTerm2":  # ssh forwards LC_ variables
        return "iterm"
    konsole = environment.get("KONSOLE_VERSION", "")
    recent = konsole.isdecimal() and int(konsole) >= _KONSOLE
    return "kitty" if recent or environment.get("KITTY_WINDOW_ID") else None


def kitty(png: bytes, columns: int) -> bytes:
    """A PNG file, ``columns`` characters wide, in kitty's graphics protocol: transmit, show, send no response."""
    data = b64encode(png)
    chunks = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    keys = [b"a=T,f=100,c=%d," % columns] + [b""] * (len(chunks) - 1)
    return b"".join(  # q=2 (no response) in every chunk, because older versions of kitty do not remember it
        b"\033_G%bq=2,m=%d;%b\033\\" % (key, number < len(chunks), chunk)
        for number, (key, chunk) in enumerate(zip(keys, chunks, strict=True), start=1)
    )


def iterm(png: bytes, columns: int) -> bytes:
    """A PNG file, ``columns`` characters wide, as an inline image of iTerm2."""
    about = b"inline=1;size=%d;width=%d;preserveAspectRatio=1" % (len(png), columns)
    return b"\033]1337;File=%b:%b\a" % (about, b64encode(png))
