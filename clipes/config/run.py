"""All settings of a run, one dataclass per stage, and the names of the choices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import reduce
from operator import or_
from typing import Any, Literal, get_args, get_type_hints

from .affinity import AffinityConfig, AttentionAffinityConfig, ContrastAffinityConfig, FeatureAffinityConfig
from .image import ImageConfig, TileConfig, ViewsConfig
from .maps import MEMBERS, ClassAttentionConfig, CommitteeConfig, DenseConfig, GradCamConfig, MapConfig, Pooling
from .mask import AgreementConfig, ArgmaxConfig, ConfidenceConfig, MaskConfig
from .refine import CrfConfig, PamrConfig, ParConfig, RefineConfig
from .regions import (
    FelzenszwalbConfig,
    GivenRegionsConfig,
    ModeVoteConfig,
    RegionsConfig,
    ScopeConfig,
    SeplVoteConfig,
    SlicConfig,
    VoteConfig,
)
from .request import EncodeRequest
from .tags import (
    BankTagsConfig,
    FixedRuleConfig,
    GlobalTagsConfig,
    PerClassRuleConfig,
    RelativeRuleConfig,
    TagClipConfig,
    TagRuleConfig,
    TagsConfig,
)


@dataclass(frozen=True)
class Config:
    """All settings of one run; ``dataclasses.replace`` makes variants.

    The type of a stage's settings is the choice of its method. ``affinity=None`` stops at the initial maps,
    ``refine=None`` at the scores of the maps. ``vote`` counts where there are regions, ``tags`` and ``tag_rule`` for
    images whose labels CLIP is to find.

    >>> from dataclasses import replace
    >>> config = Config()
    >>> config.effective_ignore_below, replace(config, refine=None).effective_ignore_below
    (0.95, None)
    """

    image: ImageConfig = field(default_factory=ImageConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    regions: RegionsConfig | None = None
    scope: ScopeConfig | None = None
    map: MapConfig = field(default_factory=GradCamConfig)
    class_attention: ClassAttentionConfig = field(default_factory=ClassAttentionConfig)
    affinity: AffinityConfig | None = field(default_factory=AttentionAffinityConfig)
    refine: RefineConfig | None = field(default_factory=CrfConfig)
    mask: MaskConfig = field(default_factory=ConfidenceConfig)
    vote: VoteConfig | None = field(default_factory=ModeVoteConfig)
    tags: TagsConfig = field(default_factory=TagClipConfig)
    tag_rule: TagRuleConfig = field(default_factory=RelativeRuleConfig)

    def __post_init__(self) -> None:
        for item in fields(self):
            value, kinds = getattr(self, item.name), STAGES[item.name]
            if not (isinstance(value, kinds) or (value is None and None in CHOICES.get(item.name, {}).values())):
                names = " or ".join(kind.__name__ for kind in kinds)
                raise TypeError(f"Config.{item.name} takes a {names}, not {value!r}")

    def check_scope(self) -> None:
        """ValueError where ``scope`` would change nothing: no affinity or map that is chosen heeds it."""
        members: tuple[Any, ...] = self.map.members if isinstance(self.map, CommitteeConfig) else (self.map,)
        dense = any(isinstance(one, DenseConfig) and one.attention != "identity" for one in members)
        heeded = dense or isinstance(self.affinity, AttentionAffinityConfig | FeatureAffinityConfig)
        if self.scope is not None and not heeded:
            raise ValueError(
                "scope counts in the affinities 'attention' and 'features', and in the map 'dense' without 'identity'; "
                "none of them is chosen: choose one, or no scope"
            )

    @property
    def effective_ignore_below(self) -> float | None:
        """The number that ``mask.ignore_below`` stands for, or None if no pixel is ignored for a low score."""
        below: float | Literal["auto"] | None = getattr(self.mask, "ignore_below", None)
        if below != "auto":
            return below
        return self.refine.default_ignore_below if self.refine else None

    @property
    def pool(self) -> Pooling:
        """How tokens become the image's feature: as the maps' source does it; ``"patch"`` where it makes none."""
        pool: Pooling = getattr(self.map, "pool", "patch")
        return pool

    @property
    def needs(self) -> EncodeRequest:
        """What all chosen stages together read of the encoder."""
        chosen = (self.map, self.class_attention, self.scope, self.affinity)
        return reduce(or_, (settings.needs for settings in chosen if settings))

    def to_dict(self) -> dict[str, Any]:
        """All settings as JSON types; choices under their names: ``{"refine": {"crf": {...}}, ...}``."""
        return {item.name: _stage_to_dict(item.name, getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """The inverse of :meth:`to_dict`; accepts lists for tuples, as JSON has them. ValueError for other values."""
        try:
            return cls(**{name: stage_from_dict(name, value) for name, value in values.items()})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"these settings do not fit this version of clipes: {error}") from error


CHOICES: dict[str, dict[str, type[Any] | None]] = {
    "regions": {"given": GivenRegionsConfig, "slic": SlicConfig, "felzenszwalb": FelzenszwalbConfig, "none": None},
    "map": {**MEMBERS, "committee": CommitteeConfig},
    "affinity": {
        "attention": AttentionAffinityConfig,
        "features": FeatureAffinityConfig,
        "contrast": ContrastAffinityConfig,
        "none": None,
    },
    "refine": {"crf": CrfConfig, "par": ParConfig, "pamr": PamrConfig, "none": None},
    "mask": {"confidence": ConfidenceConfig, "agreement": AgreementConfig, "none": ArgmaxConfig},
    "tags": {"tagclip": TagClipConfig, "global": GlobalTagsConfig, "bank": BankTagsConfig},
    "tag_rule": {"relative": RelativeRuleConfig, "fixed": FixedRuleConfig, "per-class": PerClassRuleConfig},
    "scope": {"corrclip": ScopeConfig, "none": None},
    "vote": {"mode": ModeVoteConfig, "sepl": SeplVoteConfig, "none": None},
}
"""The stages with a choice of methods: each method's name and the type of its settings."""

SHARED = frozenset({"background_power"})
"""Settings that mean the same in each choice of a stage that has them: one flag, and kept where the choice changes."""

STAGES: dict[str, tuple[type, ...]] = {
    name: tuple(kind for kind in get_args(hint) or (hint,) if kind is not type(None))
    for name, hint in get_type_hints(Config).items()
}
"""The types that each field of :class:`Config` may have besides None, the default first."""


def choice_name(stage: str, settings: Any) -> str:
    """The name of the method that ``settings`` of a ``stage`` in :data:`CHOICES` choose: ``"crf"``, ``"none"``."""
    return next(name for name, kind in CHOICES[stage].items() if isinstance(settings, kind or type(None)))


def another_choice(settings: Any, kind: type[Any]) -> Any:
    """The default settings of ``kind``, with those in :data:`SHARED` that ``settings`` have.

    >>> another_choice(ConfidenceConfig(background_power=2.0), ArgmaxConfig)
    ArgmaxConfig(background_power=2.0)
    """
    kept = SHARED & {item.name for item in fields(kind)} & set(vars(settings) if settings else ())
    return kind(**{name: getattr(settings, name) for name in kept})


def _stage_to_dict(stage: str, settings: Any) -> Any:
    if settings is None:
        return None
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}
    if isinstance(settings, CommitteeConfig):
        values["members"] = [_stage_to_dict("map", member) for member in settings.members]
    return {choice_name(stage, settings): values} if stage in CHOICES else values


def stage_from_dict(stage: str, values: Any) -> Any:
    """The settings of a stage from what :meth:`Config.to_dict` gives. KeyError, TypeError or ValueError for others."""
    if stage not in CHOICES:
        return STAGES[stage][0](**from_json(values))
    if values is None:
        return None
    ((name, settings),) = values.items()
    kind = CHOICES[stage][name]
    if kind is None:
        raise ValueError(f"{stage} {name!r} has no settings; write null")
    return kind(**from_json(settings))


def from_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's settings by name: tuples for lists, settings for the members of a committee and for a tile."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    if "members" in values:
        values["members"] = tuple(stage_from_dict("map", member) for member in values["members"])
    if isinstance(tile := values.get("tile"), Mapping):
        values["tile"] = TileConfig(**tile)
    return values
