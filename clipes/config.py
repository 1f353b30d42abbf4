"""Every setting of the method: one frozen dataclass per stage, and the two published presets made of them.

A field is the only home of a setting: its default, its help text and, by its name, its command-line flag.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Pool = Literal["patch", "cls"]
Boxes = Literal["reference", "full"]


def setting(default: Any, help: str) -> Any:
    """A dataclass field with its default and the sentence that the command line shows for it."""
    return field(default=default, metadata={"help": help})


def _require_whole(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be a whole number")
    _require(value >= 1, name, value, "at least 1")


def _require_number(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be a number")


def _require(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name} is {value!r}; it must be {expected}")


@dataclass(frozen=True)
class ImageConfig:
    """Image to tokens. Raises ValueError on a value outside its range, as all configs here do."""

    max_patches: int = setting(4096, "largest patch grid; a bigger picture is shrunk for CLIP, the mask is not")

    def __post_init__(self) -> None:
        _require_whole("max_patches", self.max_patches)


@dataclass(frozen=True)
class CamConfig:
    """Softmax-GradCAM (CLIP-ES section 3.2)."""

    pool: Pool = setting("patch", "image feature: mean of the patch tokens (the paper) or the class token")

    def __post_init__(self) -> None:
        _require(self.pool in ("patch", "cls"), "pool", self.pool, "'patch' or 'cls'")


@dataclass(frozen=True)
class AffinityConfig:
    """Class-aware attention-based affinity, CAA (CLIP-ES section 3.4)."""

    blocks: int = setting(8, "how many of the last blocks' attention maps are averaged (all, if there are fewer)")
    sinkhorn_rounds: int = setting(3, "rounds of column and row normalisation")
    box_threshold: float = setting(0.4, "share of a map's maximum above which a region gets a box, in [0, 1)")
    boxes: Boxes = setting("reference", "'reference' leaves out the last row and column, 'full' keeps them")
    steps: int = setting(2, "how often the affinity is applied")

    def __post_init__(self) -> None:
        _require_whole("blocks", self.blocks)
        _require_whole("sinkhorn_rounds", self.sinkhorn_rounds)
        _require_whole("steps", self.steps)
        _require_number("box_threshold", self.box_threshold)
        _require(0 <= self.box_threshold < 1, "box_threshold", self.box_threshold, "in [0, 1)")
        _require(self.boxes in ("reference", "full"), "boxes", self.boxes, "'reference' or 'full'")


@dataclass(frozen=True)
class MaskConfig:
    """Background score, decision, ignored pixels (CLIP-ES section 3.4, METHOD of the original code)."""

    background_power: float = setting(1.0, "exponent of the background score (1 - max cam)^p; larger: less background")
    ignore_below: float | None = setting(None, "pixels whose winning score is lower become 255 (ignore)")

    def __post_init__(self) -> None:
        _require_number("background_power", self.background_power)
        power, below = self.background_power, self.ignore_below
        _require(0 < power < math.inf, "background_power", power, "above 0 and finite")
        if below is not None:
            _require_number("ignore_below", below)
        _require(below is None or 0 <= below <= 1, "ignore_below", below, "in [0, 1] or None")


@dataclass(frozen=True)
class Config:
    """All settings of one run; ``dataclasses.replace`` makes variants.

    ``affinity=None`` stops at the initial CAM. ``refine`` is the place of the colour refinement (dense CRF,
    PAR), which this version does not have: it must be None.

    >>> from dataclasses import replace
    >>> replace(VOC12, affinity=None).affinity is None
    True
    """

    image: ImageConfig = field(default_factory=ImageConfig)
    cam: CamConfig = field(default_factory=CamConfig)
    affinity: AffinityConfig | None = field(default_factory=AffinityConfig)
    refine: None = None
    mask: MaskConfig = field(default_factory=MaskConfig)

    def __post_init__(self) -> None:
        kinds = {"image": ImageConfig, "cam": CamConfig, "affinity": AffinityConfig, "mask": MaskConfig}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "refine":
                _require(value is None, "refine", value, "None: this version has no colour refinement")
            elif not (isinstance(value, kinds[item.name]) or (item.name == "affinity" and value is None)):
                raise TypeError(f"Config.{item.name} takes a {kinds[item.name].__name__}, not {value!r}")


VOC12 = Config()
"""The settings of the published PASCAL VOC 2012 numbers, less the CRF."""

COCO14 = Config(affinity=AffinityConfig(box_threshold=0.7))
"""The settings of the published MS COCO 2014 numbers, less the CRF."""

SCENES = Config(affinity=AffinityConfig(box_threshold=0.7, steps=1))
"""The settings for the bundled model's scenes: on their 14 x 14 patches the published ones spread too far. Chosen by
``benchmarks/scene_settings.py`` on scenes that serve for nothing else."""

PRESETS = {"voc12": VOC12, "coco14": COCO14, "scenes": SCENES}
"""Each shipped class set's own settings; your own classes start from VOC12."""


def preset_of(classes: object) -> Config:
    """The settings that belong to ``classes`` as :func:`clipes.load` takes them: a shipped set's own, else VOC12."""
    return PRESETS.get(classes, VOC12) if isinstance(classes, str) else VOC12
