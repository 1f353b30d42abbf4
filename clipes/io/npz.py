"""The arrays of an .npz file, whose headers may ask for more memory than their file has."""

from __future__ import annotations

import math
import zipfile

import numpy as np


def check_array_bytes(archive: zipfile.ZipFile, name: str, most: int, purpose: str) -> None:
    """Raise ValueError for an array of more than ``most`` bytes by its header, before memory is taken for it.

    KeyError where there is no array ``name``.
    """
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    if math.prod(shape) * dtype.itemsize > most:
        raise ValueError(f"{name} is {' x '.join(map(str, shape))}, too large for {purpose}")
