"""The version, and those of what the results depend on."""

import platform
from importlib.metadata import version

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """The versions of this package, of Python and of the packages that compute: for the record of a run."""
    others = {name: version(name) for name in ("torch", "open_clip_torch", "numpy", "scipy", "pillow")}
    return {"clipes": __version__, "python": platform.python_version(), **others}


EXTRAS = {
    "coco": "pycocotools",
    "completion": "shtab",
    "heif": "pillow-heif",
    "plot": "matplotlib",
    "ray": "ray[data]",
    "regions": "scikit-image",
    "transformers": "transformers",
}
"""What the extras of the installation add, by their names."""


def install_hint(extra: str) -> str:
    """How the package of an extra is installed, where clipes came from an index as well as in a clone.

    >>> install_hint("plot")
    'pip install matplotlib, or in a clone of clipes pip install ".[plot]"'
    """
    package = EXTRAS[extra]
    quoted = f'"{package}"' if "[" in package else package
    return f'pip install {quoted}, or in a clone of clipes pip install ".[{extra}]"'
