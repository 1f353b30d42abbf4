"""``clipes compare``: several presets on the same pictures, each encoded once; a table and a page side by side.

Masks are made, counted and dropped: no run is written. Nothing here implements a stage of the method.
"""

from .compare import check_presets, compare
from .result import Comparison, PresetFigures

__all__ = ["Comparison", "PresetFigures", "check_presets", "compare"]
