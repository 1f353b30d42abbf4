"""The import of matplotlib, which is optional (the extra ``plot``)."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from clipes._version import install_hint


class PlotError(ImportError):
    """matplotlib cannot be imported; the message says how to install it."""


def require_matplotlib() -> None:
    """Import ``matplotlib.figure``, whatever MPLBACKEND says.

    A notebook sets MPLBACKEND for the programs that it starts, too. matplotlib refuses to be imported if their
    environment lacks that backend. Figures here need no backend. One that is there is set as matplotlib would.

    Raises PlotError without matplotlib.
    """
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib.figure
    except ImportError as error:
        raise PlotError(f"plots need matplotlib ({error}): {install_hint('plot')}") from error
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with suppress(ValueError):  # no such backend
            matplotlib.rcParams["backend"] = backend
