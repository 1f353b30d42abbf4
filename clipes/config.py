"""Every setting of the method: one frozen dataclass per stage, and the presets.

A setting is defined once, as a field: its default, its help text, and its command-line flag by the field's name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal, cast, get_args, get_type_hints

Pooling = Literal["patch", "cls"]
Boxes = Literal["paper", "exact"]
Resolution = Literal["full", "half"]
Fuse = Literal["sentence", "features", "max"]
"""How several names of a class are combined: listed in one sentence, the mean of their features, or the likeliest."""


def setting(default: Any, help: str) -> Any:
    """A dataclass field with its default and the sentence that the command line shows for it."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class EncodeRequest:
    """What a choice of method needs of the encoder besides the last block's activations, which it always keeps.

    ``attention_blocks`` is the number of last blocks whose attention is averaged: 0 for none; all if there are fewer.
    ``first | second`` is the request that serves both.
    """

    attention_blocks: int = 0

    def __or__(self, other: EncodeRequest) -> EncodeRequest:
        return EncodeRequest(max(self.attention_blocks, other.attention_blocks))


def _require_int(name: str, value: object, least: int = 1) -> None:
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
    """Image to tokens. As all configs here, raises TypeError or ValueError for a setting that is not allowed."""

    max_patches: int = setting(4096, "largest patch grid; a bigger picture is shrunk for CLIP, the mask is not")

    def __post_init__(self) -> None:
        _require_int("max_patches", self.max_patches)


@dataclass(frozen=True)
class CamConfig:
    """Softmax-GradCAM (CLIP-ES section 3.2)."""

    pool: Pooling = setting("patch", "image feature: mean of the patch tokens (the paper) or the class token")

    def __post_init__(self) -> None:
        _require(self.pool in ("patch", "cls"), "pool", self.pool, "'patch' or 'cls'")

    @property
    def needs(self) -> EncodeRequest:
        """What the maps' source reads of the encoder."""
        return EncodeRequest()


@dataclass(frozen=True)
class AffinityConfig:
    """Class-aware attention-based affinity, CAA (CLIP-ES section 3.4)."""

    last_blocks: int = setting(8, "how many of the last blocks' attention maps are averaged (all, if there are fewer)")
    sinkhorn_iterations: int = setting(3, "iterations of column and row normalisation; 0: the attention as it is")
    box_threshold: float = setting(0.4, "share of a map's maximum above which a region gets a box, in [0, 1)")
    boxes: Boxes = setting("paper", "'paper': boxes never cover the last row and column; 'exact': they may")
    hops: int = setting(2, "how often the affinity is applied")

    def __post_init__(self) -> None:
        _require_int("last_blocks", self.last_blocks)
        _require_int("sinkhorn_iterations", self.sinkhorn_iterations, 0)
        _require_int("hops", self.hops)
        _require_number("box_threshold", self.box_threshold)
        _require(0 <= self.box_threshold < 1, "box_threshold", self.box_threshold, "in [0, 1)")
        _require(self.boxes in ("paper", "exact"), "boxes", self.boxes, "'paper' or 'exact'")

    @property
    def needs(self) -> EncodeRequest:
        """What the affinity reads of the encoder."""
        return EncodeRequest(attention_blocks=self.last_blocks)


@dataclass(frozen=True)
class CrfConfig:
    """Fully connected CRF (Krähenbühl & Koltun 2011) with the parameters of CLIP-ES."""

    default_ignore_below: ClassVar[float | None] = 0.95  # its scores are close to 0 and 1

    iterations: int = setting(10, "mean-field iterations")
    smooth_sigma: float = setting(1.0, "reach of the smoothness kernel in pixels")
    smooth_weight: float = setting(3.0, "weight of the smoothness kernel")
    bilateral_sigma: float = setting(67.0, "reach of the appearance kernel in pixels")
    colour_sigma: float = setting(3.0, "reach of the appearance kernel in colour levels, of 255")
    bilateral_weight: float = setting(4.0, "weight of the appearance kernel")

    def __post_init__(self) -> None:
        _require_int("iterations", self.iterations)
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

    default_ignore_below: ClassVar[float | None] = None

    iterations: int = setting(10, "rounds; 15 for COCO in AFA")
    dilations: tuple[int, ...] = setting((1, 2, 4, 8, 12, 24), "distances of the eight neighbours, in pixels")
    colour_scale: float = setting(0.3, "sharpness of both kernels, in standard deviations of the neighbourhood")
    position_weight: float = setting(0.01, "weight of the position kernel; the colour kernel's is 1")
    resolution: Resolution = setting("half", "of the picture that is worked on; AFA's is half")

    def __post_init__(self) -> None:
        _require_int("iterations", self.iterations)
        _require_positive("colour_scale", self.colour_scale)
        _require(self.colour_scale >= 1e-6, "colour_scale", self.colour_scale, "at least 1e-6")
        _require_number("position_weight", self.position_weight)
        weight, distances = self.position_weight, self.dilations
        _require(0 <= weight < math.inf, "position_weight", weight, "0 or more and finite")
        _require(isinstance(distances, tuple) and len(distances) > 0, "dilations", distances, "a tuple of distances")
        for distance in distances:
            _require_int("dilations", distance)
            _require(distance <= 10**6, "dilations", distance, "at most a million")
        _require(len(set(distances)) == len(distances), "dilations", distances, "without repeats")
        _require(self.resolution in ("full", "half"), "resolution", self.resolution, "'full' or 'half'")


@dataclass(frozen=True)
class MaskConfig:
    """Background score, decision, ignored pixels (CLIP-ES section 3.4, as in the original code).

    ``ignore_below="auto"`` is the refinement's ``default_ignore_below``: 0.95 for the CRF, else no pixel is ignored.
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
    >>> VOC12.effective_ignore_below, replace(VOC12, refine=None).effective_ignore_below
    (0.95, None)
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
    def effective_ignore_below(self) -> float | None:
        """The number that ``mask.ignore_below`` stands for, or None if no pixel is ignored."""
        below = self.mask.ignore_below
        if below != "auto":
            return below
        return self.refine.default_ignore_below if self.refine else None

    @property
    def needs(self) -> EncodeRequest:
        """What all chosen stages together read of the encoder."""
        return self.cam.needs | (self.affinity.needs if self.affinity else EncodeRequest())

    def to_dict(self) -> dict[str, Any]:
        """All settings as JSON types; the refinement under its name: ``{"refine": {"crf": {...}}, ...}``."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        stages = {name: asdict(stage) if stage is not None else None for name, stage in values.items()}
        if self.refine is not None:
            stages["refine"] = {refinement_name(self.refine): stages["refine"]}
        return stages

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """The inverse of :meth:`to_dict`; accepts lists for tuples, as JSON has them. ValueError for other values."""
        try:
            stages = dict(values)
            if stages["refine"] is not None:
                ((name, settings),) = stages["refine"].items()
                stages["refine"] = _construct(REFINEMENTS[name], settings)
            for name, (kind, *others) in STAGES.items():
                if not others and stages[name] is not None:
                    stages[name] = _construct(kind, stages[name])
            return cls(**stages)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"these settings do not fit this version of clipes: {error}") from error


def _construct(kind: Any, settings: Mapping[str, Any]) -> Any:
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()})


def refinement_name(refine: CrfConfig | ParConfig | None) -> str:
    """The refinement's name: ``"crf"``, ``"par"`` or ``"none"``."""
    return next(name for name, kind in REFINEMENTS.items() if isinstance(refine, kind or type(None)))


REFINEMENTS: dict[str, type[CrfConfig] | type[ParConfig] | None] = {"crf": CrfConfig, "par": ParConfig, "none": None}
"""The refinements by colour, by name."""

STAGES: dict[str, tuple[type, ...]] = {
    name: tuple(kind for kind in get_args(hint) or (hint,) if kind is not type(None))
    for name, hint in get_type_hints(Config).items()
}
"""The types that each field of :class:`Config` may have besides None, the default first."""

VOC12 = Config()
"""The settings of the published PASCAL VOC 2012 numbers."""

COCO14 = Config(affinity=AffinityConfig(box_threshold=0.7))
"""The settings of the published MS COCO 2014 numbers."""

SCENES = Config(
    affinity=AffinityConfig(sinkhorn_iterations=0, box_threshold=0.6, hops=1),
    refine=CrfConfig(bilateral_sigma=10.0, colour_sigma=15.0, bilateral_weight=10.0),
    mask=MaskConfig(background_power=2.0),
)
"""The settings for the bundled model's scenes, drawings of 14 x 14 patches; not for photographs. The bundled model's
attention concentrates on objects, and Sinkhorn normalisation would flatten it. Chosen by
``benchmarks/scene_settings.py`` on scenes that are used for nothing else."""

PRESETS = {"voc12": VOC12, "coco14": COCO14, "scenes": SCENES}
"""The presets by name, as class files and ``--preset`` name them; the default for your own classes is voc12."""
