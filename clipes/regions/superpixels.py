"""Superpixels: regions that no trained model has seen, by scikit-image, an extra of the installation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipes._version import install_hint
from clipes.config import FelzenszwalbConfig, RegionsConfig, SlicConfig
from clipes.io.images import open_image

SuperpixelConfig = SlicConfig | FelzenszwalbConfig


def superpixels(image: Image.Image | NDArray[np.uint8], config: SuperpixelConfig) -> NDArray[np.int32]:
    """The superpixels of a picture, as :func:`clipes.io.images.open_image` takes it: ids (H, W) int32 from 1 on.

    Every pixel is in one, and the same picture and settings give the same ids. ImportError, with the command to install
    it, without scikit-image.
    """
    pixels = np.asarray(open_image(image))
    ids = SUPERPIXELS[type(config)](pixels, config)
    return np.unique(ids, return_inverse=True)[1].reshape(pixels.shape[:2]).astype(np.int32) + 1


def check_installed(config: RegionsConfig | None) -> None:
    """Raise ImportError, with the command to install it, if ``config`` needs scikit-image and there is none."""
    if type(config) in SUPERPIXELS:
        _segmentation()


def _segmentation() -> Any:
    try:
        from skimage import segmentation
    except ImportError as error:
        raise ImportError(f"superpixels need scikit-image: {install_hint('regions')}") from error
    return segmentation


def _slic(pixels: NDArray[np.uint8], config: SlicConfig) -> NDArray[Any]:
    settings = {"n_segments": config.segments, "compactness": config.compactness, "sigma": config.sigma}
    ids: NDArray[Any] = _segmentation().slic(pixels, **settings, start_label=1)
    return ids


def _felzenszwalb(pixels: NDArray[np.uint8], config: FelzenszwalbConfig) -> NDArray[Any]:
    settings = {"scale": config.scale, "sigma": config.sigma, "min_size": config.min_size}
    ids: NDArray[Any] = _segmentation().felzenszwalb(pixels, **settings)
    return ids


SUPERPIXELS: dict[type, Callable[[NDArray[np.uint8], Any], NDArray[Any]]] = {
    SlicConfig: _slic,
    FelzenszwalbConfig: _felzenszwalb,
}
"""The function of each kind of superpixels' settings: from pixels (H, W, 3) uint8 to ids (H, W)."""
