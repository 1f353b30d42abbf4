"""The version, and those of what the results depend on."""

import platform
from importlib.metadata import version

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """The versions of this package, of Python and of the packages that compute: for the record of a run."""
    others = {name: version(name) for name in ("torch", "open_clip_torch", "numpy", "scipy", "pillow")}
    return {"clipes": __version__, "python": platform.python_version(), **others}
