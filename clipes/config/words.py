"""How the names of a class become one."""

from typing import Literal

Fuse = Literal["sentence", "features", "max"]
"""How several names of a class are combined: listed in one sentence, the mean of their features, or the likeliest."""
