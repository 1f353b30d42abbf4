"""Settings of tagging, which finds an image's labels by CLIP: ``Config.tags`` and ``Config.tag_rule``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .affinity import Boxes
from .checks import require, require_flag, require_int, require_one_of, require_positive, require_share, setting
from .maps import DenseAttention, Pooling
from .request import AttentionBlocks, EncodeRequest

Over = Literal["classes", "all"]


@dataclass(frozen=True)
class TagClipConfig:
    """Scores of patches, propagated by attention, and a second look at the best classes (Lin et al., TagCLIP, AAAI
    2024; its code).

    :data:`TAGCLIP_CODE` has the choices of the authors' code where the defaults differ.
    """

    blocks: int = setting(3, "blocks before the last whose attention is averaged (TagCLIP: 3, for COCO-Stuff all)")
    votes: int = setting(4, "keep pairs of patches above the mean attention in so many of all blocks")
    boxes: Boxes = setting(
        "exact", "'paper': boxes never cover the last row and column; 'exact': they may; 'none': no boxes"
    )
    recheck: float | None = setting(
        0.5, "part of a picture's range of scores above which a class's region is looked at again; none: no class's"
    )
    recheck_over: Over = setting(
        "classes", "the scores of that range: of the classes, or of background words, too (TagCLIP's code)"
    )
    stop_at_empty: bool = setting(
        False, "end all second looks at the first region that its clipped box leaves empty (TagCLIP's code)"
    )

    def __post_init__(self) -> None:
        require_int("blocks", self.blocks)
        require_int("votes", self.votes, 0)
        require_one_of("boxes", self.boxes, ("paper", "exact", "none"))
        if self.recheck is not None:
            require_share("recheck", self.recheck)
        require_one_of("recheck_over", self.recheck_over, ("classes", "all"))
        require_flag("stop_at_empty", self.stop_at_empty)

    @property
    def attention(self) -> AttentionBlocks:
        """Which blocks' attention is averaged."""
        return AttentionBlocks(self.blocks + 1, skip_last=True)

    @property
    def needs(self) -> EncodeRequest:
        """What the scores read of the encoder."""
        return EncodeRequest(frozenset({self.attention}), tokens=1, votes=True)


TAGCLIP_CODE = TagClipConfig(boxes="paper", recheck_over="all", stop_at_empty=True)
"""TagCLIP as its authors' code has it for VOC and COCO."""


@dataclass(frozen=True)
class GlobalTagsConfig:
    """The image's feature against all classes: CLIP's own scores, for comparison.

    The softmax lets classes and background words compete. The sigmoid takes each class by itself, and is for models
    that were trained with it (SigLIP, Zhai et al., ICCV 2023), which have a bias of their logits.
    """

    pool: Pooling = setting("cls", "image feature: the class token, or the mean of the patch tokens")
    score: Literal["softmax", "sigmoid"] = setting(
        "softmax", "softmax over classes and background words, or the sigmoid of each class (SigLIP)"
    )

    def __post_init__(self) -> None:
        require_one_of("pool", self.pool, ("patch", "cls"))
        require_one_of("score", self.score, ("softmax", "sigmoid"))

    @property
    def needs(self) -> EncodeRequest:
        """What the scores read of the encoder."""
        return EncodeRequest()


@dataclass(frozen=True)
class BankTagsConfig:
    """A closed-form Gaussian classifier of patches, fitted to the patches of the user's own pictures (PIAA,
    ICML 2026; its code).

    The defaults are PIAA's for VOC. For COCO it takes ``temperature`` 0.01 and ``patch_scale`` 400; for NUS-WIDE 500,
    400 and ``class_scale`` 10.
    """

    file: str = setting("", "the .npz file of the fitted classifier; `clipes tag` writes one that is not there")
    attention: DenseAttention = setting("qq+kk", "attention of the last block (qq+kk: SCLIP's)")
    residual: bool = setting(True, "keep the last block's residual connection and MLP (SCLIP's)")
    patches: int = setting(512, "patches that are kept for each class, the surest of all pictures")
    text_scale: float = setting(60.0, "factor of the cosines by which patches are chosen")
    temperature: float = setting(100.0, "factor of the classifier's logits by which patches are chosen again")
    divisor: float = setting(500.0, "of the classifier's logits before the softmax over the classes of a patch")
    patch_scale: float = setting(200.0, "factor of the best patches' shares before the softmax over the classes")
    class_scale: float = setting(80.0, "factor of the class token's cosines before the softmax over the classes")
    class_weight: float = setting(0.1, "weight of the class token's share in a score")

    def __post_init__(self) -> None:
        require_one_of("attention", self.attention, ("identity", "qq", "kk", "qq+kk", "kk+distance", "qk"))
        require_flag("residual", self.residual)
        require_int("patches", self.patches)
        for name in ("text_scale", "temperature", "divisor", "patch_scale", "class_scale"):
            require_positive(name, getattr(self, name))
        require_share("class_weight", self.class_weight)

    @property
    def needs(self) -> EncodeRequest:
        """What the scores read of the encoder."""
        return EncodeRequest(tokens=1)


TagsConfig = TagClipConfig | GlobalTagsConfig | BankTagsConfig


@dataclass(frozen=True)
class RelativeRuleConfig:
    """Labels above a part of the picture's range of scores, ``min + part (max - min)`` (TagCLIP).

    The best class is always above it; ``least`` allows that there is none.
    """

    part: float = setting(0.5, "part of the picture's range of scores above which a class is a label")
    least: float = setting(0.0, "no class is a label below this score; 0: each picture has a label")

    def __post_init__(self) -> None:
        require_share("part", self.part)
        require(self.part < 1, "part", self.part, "below 1")
        require_share("least", self.least)


@dataclass(frozen=True)
class FixedRuleConfig:
    """Labels above one threshold for all pictures and classes; a picture may have none."""

    threshold: float = setting(0.5, "score above which a class is a label")

    def __post_init__(self) -> None:
        require_share("threshold", self.threshold)


@dataclass(frozen=True)
class PerClassRuleConfig:
    """Labels above each class's own threshold, fitted by ``clipes tag --calibrate``; a picture may have none."""

    thresholds: tuple[float, ...] = setting((), "a score for each class, in their order")

    def __post_init__(self) -> None:
        require(isinstance(self.thresholds, tuple), "thresholds", self.thresholds, "a tuple of scores")
        for threshold in self.thresholds:
            require_share("thresholds", threshold)


TagRuleConfig = RelativeRuleConfig | FixedRuleConfig | PerClassRuleConfig
