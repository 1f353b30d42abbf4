"""Every setting of the method: one frozen dataclass per stage, and the presets made of them.

A field is the only home of a setting: its default, its help text and, by its name, its command-line flag.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, cast

Pool = Literal["patch", "cls"]
Boxes = Literal["reference", "full"]
Resolution = Literal["full", "half"]
Fuse = Literal["sentence", "features", "max"]
"""How several names of a class become one: listed in one sentence, the mean of their features, the likeliest."""


def setting(default: Any, help: str) -> Any:
    """A dataclass field with its default and the sentence that the command line shows for it."""
    return field(default=default, metadata={"help": help})


def _require_whole(name: str, value: object, least: int = 1) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be a whole number")
    _require(value >= least, name, value, f"at least {least}")


def _require_number(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be a number")
    _require(not isinstance(value, int) or abs(value) < 2**53, name, value, "a number of ordinary size")


def _require_positive(name: str, value: object) -> None:
    _require_number(name, value)
    _require(0 < cast("float", value) < math.inf, name, value, "above 0 and finite")


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
    sinkhorn_rounds: int = setting(3, "rounds of column and row normalisation; 0: the attention as it is")
    box_threshold: float = setting(0.4, "share of a map's maximum above which a region gets a box, in [0, 1)")
    boxes: Boxes = setting("reference", "'reference' leaves out the last row and column, 'full' keeps them")
    steps: int = setting(2, "how often the affinity is applied")

    def __post_init__(self) -> None:
        _require_whole("blocks", self.blocks)
        _require_whole("sinkhorn_rounds", self.sinkhorn_rounds, 0)
        _require_whole("steps", self.steps)
        _require_number("box_threshold", self.box_threshold)
        _require(0 <= self.box_threshold < 1, "box_threshold", self.box_threshold, "in [0, 1)")
        _require(self.boxes in ("reference", "full"), "boxes", self.boxes, "'reference' or 'full'")


@dataclass(frozen=True)
class CrfConfig:
    """Fully connected CRF (Krähenbühl & Koltun 2011) with the parameters of CLIP-ES."""

    iterations: int = setting(10, "mean-field iterations")
    smooth_sigma: float = setting(1.0, "reach of the smoothness kernel in pixels")
    smooth_weight: float = setting(3.0, "weight of the smoothness kernel")
    bilateral_sigma: float = setting(67.0, "reach of the appearance kernel in pixels")
    colour_sigma: float = setting(3.0, "reach of the appearance kernel in colour levels, of 255")
    bilateral_weight: float = setting(4.0, "weight of the appearance kernel")

    def __post_init__(self) -> None:
        _require_whole("iterations", self.iterations)
        _require(self.iterations <= 1000, "iterations", self.iterations, "at most 1000")
        for name in ("smooth_sigma", "bilateral_sigma", "colour_sigma"):
            _require_positive(name, getattr(self, name))
        for name in ("smooth_weight", "bilateral_weight"):
            value = getattr(self, name)
            _require_number(name, value)
            _require(0 <= value <= 1e6, name, value, "in [0, 1e6]")


@dataclass(frozen=True)
class ParConfig:
    """Pixel-adaptive refinement (Ru et al. 2022, AFA section 3.4), the choice without a CRF."""

    iterations: int = setting(10, "rounds; 15 for COCO in AFA")
    dilations: tuple[int, ...] = setting((1, 2, 4, 8, 12, 24), "distances of the eight neighbours, in pixels")
    colour_scale: float = setting(0.3, "sharpness of both kernels, in standard deviations of the neighbourhood")
    position_weight: float = setting(0.01, "weight of the position kernel; the colour kernel's is 1")
    resolution: Resolution = setting("half", "of the picture that is worked on; AFA's is half")

    def __post_init__(self) -> None:
        _require_whole("iterations", self.iterations)
        _require_positive("colour_scale", self.colour_scale)
        _require(self.colour_scale >= 1e-6, "colour_scale", self.colour_scale, "at least 1e-6")
        _require_number("position_weight", self.position_weight)
        weight, given = self.position_weight, self.dilations
        _require(0 <= weight < math.inf, "position_weight", weight, "0 or more and finite")
        _require(isinstance(given, tuple) and len(given) > 0, "dilations", given, "a tuple of distances")
        for distance in given:
            _require_whole("dilations", distance)
            _require(distance <= 10**6, "dilations", distance, "at most a million")
        _require(len(set(given)) == len(given), "dilations", given, "without repeats")
        _require(self.resolution in ("full", "half"), "resolution", self.resolution, "'full' or 'half'")


@dataclass(frozen=True)
class MaskConfig:
    """Background score, decision, ignored pixels (CLIP-ES section 3.4, as in the original code).

    ``ignore_below="auto"`` is :data:`CRF_IGNORES_BELOW` after the CRF, whose scores are close to 0 and 1, and no
    ignored pixels without it.
    """

    background_power: float = setting(1.0, "exponent of the background score (1 - max cam)^p; larger: less background")
    ignore_below: float | Literal["auto"] | None = setting(
        "auto", "pixels whose winning score is lower become 255 (ignore); auto: 0.95 with the CRF, none without"
    )

    def __post_init__(self) -> None:
        _require_positive("background_power", self.background_power)
        below = self.ignore_below
        if below is not None and below != "auto":
            _require_number("ignore_below", below)
            _require(0 <= below <= 1, "ignore_below", below, "in [0, 1], 'auto' or None")


@dataclass(frozen=True)
class Config:
    """All settings of one run; ``dataclasses.replace`` makes variants.

    ``affinity=None`` stops at the initial CAM, ``refine=None`` at the scores of the maps.

    >>> from dataclasses import replace
    >>> replace(VOC12, refine=None).ignore_below is None, VOC12.ignore_below
    (True, 0.95)
    """

    image: ImageConfig = field(default_factory=ImageConfig)
    cam: CamConfig = field(default_factory=CamConfig)
    affinity: AffinityConfig | None = field(default_factory=AffinityConfig)
    refine: CrfConfig | ParConfig | None = field(default_factory=CrfConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)

    def __post_init__(self) -> None:
        for item in fields(self):
            value, kinds = getattr(self, item.name), STAGES[item.name]
            if not (isinstance(value, kinds) or (item.name in ("affinity", "refine") and value is None)):
                names = " or ".join(kind.__name__ for kind in kinds)
                raise TypeError(f"Config.{item.name} takes a {names}, not {value!r}")

    @property
    def ignore_below(self) -> float | None:
        """The threshold that ``mask.ignore_below`` stands for."""
        below = self.mask.ignore_below
        if below != "auto":
            return below
        return CRF_IGNORES_BELOW if isinstance(self.refine, CrfConfig) else None

    def to_dict(self) -> dict[str, Any]:
        """All settings as JSON holds them; the refinement under its name: ``{"refine": {"crf": {...}}, ...}``."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        stages = {name: asdict(stage) if stage is not None else None for name, stage in values.items()}
        if self.refine is not None:
            stages["refine"] = {refinement_name(self.refine): stages["refine"]}
        return stages

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """The config that :meth:`to_dict` gave ``values``, JSON's lists for tuples; ValueError if there is none."""
        try:
            stages = dict(values)
            if stages["refine"] is not None:
                ((name, settings),) = stages["refine"].items()
                stages["refine"] = _made(REFINEMENTS[name], settings)
            for name, (kind, *others) in STAGES.items():
                if not others and stages[name] is not None:
                    stages[name] = _made(kind, stages[name])
            return cls(**stages)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"these are no settings of this version of clipes: {error}") from error


def _made(kind: Any, settings: Mapping[str, Any]) -> Any:
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()})


def refinement_name(refine: CrfConfig | ParConfig | None) -> str:
    """``"crf"``, ``"par"`` or ``"none"``."""
    return next(name for name, kind in REFINEMENTS.items() if isinstance(refine, kind or type(None)))


REFINEMENTS: dict[str, type[CrfConfig] | type[ParConfig] | None] = {"crf": CrfConfig, "par": ParConfig, "none": None}
"""The refinements by colour, by name."""

CRF_IGNORES_BELOW = 0.95
"""Published threshold below which a pixel's CRF score is not trusted."""

STAGES: dict[str, tuple[type, ...]] = {
    "image": (ImageConfig,),
    "cam": (CamConfig,),
    "affinity": (AffinityConfig,),
    "refine": (CrfConfig, ParConfig),
    "mask": (MaskConfig,),
}
"""What each field of :class:`Config` may hold, the default first."""

VOC12 = Config()
"""The settings of the published PASCAL VOC 2012 numbers."""

COCO14 = Config(affinity=AffinityConfig(box_threshold=0.7))
"""The settings of the published MS COCO 2014 numbers."""

SCENES = Config(
    affinity=AffinityConfig(sinkhorn_rounds=0, box_threshold=0.6, steps=1),
    refine=CrfConfig(bilateral_sigma=10.0, colour_sigma=15.0, bilateral_weight=10.0),
    mask=MaskConfig(background_power=2.0),
)
"""The settings for the bundled model's scenes, small drawings of 14 x 14 patches, and not for photographs: its
attention dwells on things, which Sinkhorn would level out. Chosen by ``benchmarks/scene_settings.py`` on scenes that
serve for nothing else."""

PRESETS = {"voc12": VOC12, "coco14": COCO14, "scenes": SCENES}
"""The settings by the names that class files give them; your own classes start from voc12."""
