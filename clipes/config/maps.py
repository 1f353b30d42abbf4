"""Settings of the sources of class activation maps: ``Config.map``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .checks import require, require_flag, require_int, require_one_of, require_positive, setting
from .request import EncodeRequest

Pooling = Literal["patch", "cls"]
DenseAttention = Literal["identity", "qq", "kk", "qq+kk", "kk+distance", "qk"]
Rule = Literal["mean", "geometric"]


@dataclass(frozen=True)
class GradCamConfig:
    """Softmax-GradCAM (CLIP-ES section 3.2)."""

    pool: Pooling = setting("patch", "image feature: mean of the patch tokens (the paper) or the class token")

    def __post_init__(self) -> None:
        require_one_of("pool", self.pool, ("patch", "cls"))

    @property
    def needs(self) -> EncodeRequest:
        """What the maps' source reads of the encoder."""
        return EncodeRequest()


@dataclass(frozen=True)
class PatchTextConfig:
    """Patches against texts without a gradient (Yang et al., ExCEL, CVPR 2025; its code).

    A second stream through the last blocks attends by q-q, k-k and v-v and has no MLP; the classes' common part is
    subtracted (feature surgery, Li et al. 2023).
    """

    blocks: int = setting(5, "last blocks with a second stream of self-attention")
    temperature: float = setting(2.0, "factor of the cosines before the softmax that weighs the classes")
    heads: Literal["sum", "own"] = setting(
        "sum", "attention of a head: the sum over the heads (ExCEL's code) or its own"
    )
    norm: Literal["channel", "token"] = setting(
        "channel", "features have unit length per channel (ExCEL's code) or token"
    )
    competitors: Literal["labels", "all"] = setting(
        "labels", "which classes compete besides the background words: the image's labels, or all (ExCEL)"
    )

    def __post_init__(self) -> None:
        require_int("blocks", self.blocks)
        require_positive("temperature", self.temperature)
        require_one_of("heads", self.heads, ("sum", "own"))
        require_one_of("norm", self.norm, ("channel", "token"))
        require_one_of("competitors", self.competitors, ("labels", "all"))

    @property
    def needs(self) -> EncodeRequest:
        """What the maps' source reads of the encoder."""
        return EncodeRequest(tokens=self.blocks, class_token=True)


@dataclass(frozen=True)
class GetamConfig:
    """Attention times its gradient, twice, summed over blocks (Sun et al., GETAM, 2021; its code)."""

    blocks: int = setting(6, "last blocks whose attention and gradient count (GETAM's code: 6)")
    pool: Pooling = setting("cls", "image feature: the class token, or the mean of the patch tokens")

    def __post_init__(self) -> None:
        require_int("blocks", self.blocks)
        require_one_of("pool", self.pool, ("patch", "cls"))

    @property
    def needs(self) -> EncodeRequest:
        """What the maps' source reads of the encoder."""
        return EncodeRequest(tokens=self.blocks, class_token=True)


@dataclass(frozen=True)
class DenseConfig:
    """Patch tokens against texts, with another attention in the last block.

    ``identity`` without residual is MaskCLIP (Zhou et al., ECCV 2022), with it TagCLIP (Lin et al., AAAI 2024);
    ``qq+kk`` with residual SCLIP (Wang et al., ECCV 2024); ``qq`` without it ClearCLIP (Lan et al., ECCV 2024);
    ``kk+distance`` without it NACLIP (Hajimiri et al., WACV 2025); ``qk`` with it is CLIP's own block.
    """

    attention: DenseAttention = setting("identity", "attention of the last block")
    residual: bool = setting(True, "keep the last block's residual connection and MLP")
    scale: float | None = setting(None, "factor of the cosines before the softmax; none: the model's logit scale")
    sigma: float = setting(5.0, "standard deviation of kk+distance's Gaussian, in patches")

    def __post_init__(self) -> None:
        require_one_of("attention", self.attention, ("identity", "qq", "kk", "qq+kk", "kk+distance", "qk"))
        require_flag("residual", self.residual)
        if self.scale is not None:
            require_positive("scale", self.scale)
        require_positive("sigma", self.sigma)

    @property
    def needs(self) -> EncodeRequest:
        """What the maps' source reads of the encoder."""
        return EncodeRequest(tokens=1)


Member = GradCamConfig | PatchTextConfig | GetamConfig | DenseConfig

MEMBERS: dict[str, type[Member]] = {
    "gradcam": GradCamConfig,
    "patch-text": PatchTextConfig,
    "getam": GetamConfig,
    "dense": DenseConfig,
}
"""The sources that read one encoding, by name."""


@dataclass(frozen=True)
class CommitteeConfig:
    """Several sources read from one encoding, each min-max scaled, joined before the affinity. In no paper."""

    members: tuple[Member, ...] = setting(
        (GradCamConfig(), DenseConfig(), PatchTextConfig()), "the sources that are joined, each with its defaults"
    )
    rule: Rule = setting("mean", "how the members' maps are joined: arithmetic or geometric mean")

    def __post_init__(self) -> None:
        kinds = tuple(MEMBERS.values())
        whole = isinstance(self.members, tuple) and all(isinstance(member, kinds) for member in self.members)
        require(whole, "members", self.members, "a tuple of the settings of sources, such as (GradCamConfig(),)")
        require(len(self.members) > 0, "members", self.members, "at least one source")
        require(len(set(self.members)) == len(self.members), "members", self.members, "without repeats")
        require_one_of("rule", self.rule, ("mean", "geometric"))

    @property
    def needs(self) -> EncodeRequest:
        """What all members together read of the encoder."""
        needs = EncodeRequest()
        for member in self.members:
            needs |= member.needs
        return needs


MapConfig = GradCamConfig | PatchTextConfig | GetamConfig | DenseConfig | CommitteeConfig


@dataclass(frozen=True)
class ClassAttentionConfig:
    """The class token's attention as a factor of every map (Xu et al., MCTformer, CVPR 2022).

    ``(map * attention) ** exponent``: 1 in MCTformer V2, 0.5 in MCTformer+.
    """

    exponent: float = setting(0.0, "exponent of map times the class token's attention; 0: maps as they are")
    blocks: int = setting(3, "last blocks over which the class token's attention is averaged")

    def __post_init__(self) -> None:
        require(self.exponent in (0, 0.5, 1), "exponent", self.exponent, "0, 0.5 or 1")
        require_int("blocks", self.blocks)

    @property
    def needs(self) -> EncodeRequest:
        """What the factor reads of the encoder."""
        if not self.exponent:
            return EncodeRequest()
        return EncodeRequest(class_attention=frozenset({self.blocks}), class_token=True)
