"""The masks of one picture by several presets, from one encoding for each way of preparing the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from clipes.cams.compute import ImageMaps, encode_images, no_maps
from clipes.config import Config, GivenRegionsConfig, ImageConfig, ViewsConfig
from clipes.datasets.sample import RegionPlace
from clipes.device.peak import Cost
from clipes.generator import MaskGenerator
from clipes.regions import regions_of
from clipes.result import decide_masks


class MaskMaker:
    """Makes the masks of each picture by all presets.

    Attributes:
        groups: the presets' names by the settings of the picture and its views that they share.
        encoding: what encoding took, all groups together.
        costs: what the maps, the affinity and the decision of each preset took.
    """

    def __init__(self, generator: MaskGenerator, presets: Mapping[str, Config]) -> None:
        self._generator, self._presets = generator, presets
        self.groups: dict[tuple[ImageConfig, ViewsConfig], list[str]] = {}
        for name, config in presets.items():
            self.groups.setdefault((config.image, config.views), []).append(name)
        self.encoding = Cost()
        self.costs = {name: Cost() for name in presets}

    def masks(
        self, image: Image.Image, class_ids: Sequence[int], place: RegionPlace | None = None
    ) -> dict[str, NDArray[Any]]:
        """The mask (H, W) of each preset, in the presets' order. FloatingPointError for a map that is not finite.

        ``place`` is where the picture's regions are, for presets that take regions with each picture.
        """
        found: dict[str, NDArray[Any]] = {}
        for names in self.groups.values():
            found |= self._group(image, tuple(class_ids), names, place)
        return {name: found[name] for name in self._presets}

    def _group(
        self, image: Image.Image, ids: tuple[int, ...], names: Sequence[str], place: RegionPlace | None
    ) -> dict[str, NDArray[Any]]:
        generator, vision = self._generator, self._generator.clip.vision
        text, class_names = generator._text_features, generator.class_names
        configs = [self._presets[name] for name in names]
        given = [place if isinstance(config.regions, GivenRegionsConfig) else None for config in configs]
        regions = [[regions_of(image, one.regions, own)] for one, own in zip(configs, given, strict=True)]
        maps = [
            ImageMaps(vision, [image], text, [ids], len(class_names), config, own)
            for config, own in zip(configs, regions, strict=True)
        ]
        batches = encode_images(vision, [image] if ids else [], configs[0], configs[1:])
        while True:
            with self.encoding.measured(vision.device):
                batch = next(batches, None)
            if batch is None:
                break
            for name, of_config in zip(names, maps, strict=True):
                with self.costs[name].measured(vision.device):
                    of_config.add(*batch)
        masks = {}
        for name, config, of_config, own in zip(names, configs, maps, regions, strict=True):
            with self.costs[name].measured(vision.device):
                whole = of_config.joined() if ids else [no_maps(image, vision, config)]
                masks[name] = decide_masks([image], [ids], whole, class_names, config, own)[0].mask
        return masks
