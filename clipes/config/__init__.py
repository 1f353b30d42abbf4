"""Every setting of the method: one frozen dataclass for each choice of each stage, the presets and the recipes.

A setting is defined once, as a field: its default, its help text, and its command-line flag by the field's name. The
functions that the settings choose live in the wings of their stages, and not here.
"""

from .affinity import (
    AffinityConfig,
    AttentionAffinityConfig,
    Boxes,
    ContrastAffinityConfig,
    FeatureAffinityConfig,
    Features,
)
from .image import ImageConfig, Normalisation, Positions, TileConfig, View, ViewsConfig
from .maps import (
    MEMBERS,
    ClassAttentionConfig,
    CommitteeConfig,
    DenseAttention,
    DenseConfig,
    GetamConfig,
    GradCamConfig,
    MapConfig,
    PatchTextConfig,
    Pooling,
    Rule,
)
from .mask import AgreementConfig, ArgmaxConfig, Background, ConfidenceConfig, Conflict, MaskConfig
from .presets import CLIP_ES_SCENES, COCO14, SCENES, VOC12
from .recipes import PRESETS, RECIPES, Recipe
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
from .request import AttentionBlocks, EncodeRequest
from .run import CHOICES, SHARED, STAGES, Config, another_choice, choice_name
from .tags import (
    TAGCLIP_CODE,
    BankTagsConfig,
    FixedRuleConfig,
    GlobalTagsConfig,
    PerClassRuleConfig,
    RelativeRuleConfig,
    TagClipConfig,
    TagRuleConfig,
    TagsConfig,
)
from .words import Fuse

__all__ = [
    "CHOICES",
    "CLIP_ES_SCENES",
    "COCO14",
    "MEMBERS",
    "PRESETS",
    "RECIPES",
    "SCENES",
    "SHARED",
    "STAGES",
    "TAGCLIP_CODE",
    "VOC12",
    "AffinityConfig",
    "AgreementConfig",
    "ArgmaxConfig",
    "AttentionAffinityConfig",
    "AttentionBlocks",
    "Background",
    "BankTagsConfig",
    "Boxes",
    "ClassAttentionConfig",
    "CommitteeConfig",
    "ConfidenceConfig",
    "Config",
    "Conflict",
    "ContrastAffinityConfig",
    "CrfConfig",
    "DenseAttention",
    "DenseConfig",
    "EncodeRequest",
    "FeatureAffinityConfig",
    "Features",
    "FelzenszwalbConfig",
    "FixedRuleConfig",
    "Fuse",
    "GetamConfig",
    "GivenRegionsConfig",
    "GlobalTagsConfig",
    "GradCamConfig",
    "ImageConfig",
    "MapConfig",
    "MaskConfig",
    "ModeVoteConfig",
    "Normalisation",
    "PamrConfig",
    "ParConfig",
    "PatchTextConfig",
    "PerClassRuleConfig",
    "Pooling",
    "Positions",
    "Recipe",
    "RefineConfig",
    "RegionsConfig",
    "RelativeRuleConfig",
    "Rule",
    "ScopeConfig",
    "SeplVoteConfig",
    "SlicConfig",
    "TagClipConfig",
    "TagRuleConfig",
    "TagsConfig",
    "TileConfig",
    "View",
    "ViewsConfig",
    "VoteConfig",
    "another_choice",
    "choice_name",
]
