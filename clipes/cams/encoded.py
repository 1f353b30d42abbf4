"""An image with what the encoder computed of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL import Image

from .compute import Views


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """One image, encoded: the most expensive part of a mask, which serves any number of label lists.

    Made by :meth:`clipes.MaskGenerator.encode`. For a picture of 500 x 375 pixels and a ViT-B/16 it takes about 60 MB;
    with ``config.views.tile`` as much for each window of a large picture.

    Attributes:
        image: the RGB picture, upright.
        batches: activations and attention of its tiles, one for each view without ``config.views.tile``: the places of
            each batch's tiles.
    """

    image: Image.Image
    batches: tuple[Views, ...] = field(repr=False)
