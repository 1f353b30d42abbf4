"""Recipes: a published method's settings under its name, with its source and its published number.

A recipe that ends in ``-like`` has the parts of a method that need no training, on a frozen CLIP; where the method has
trained parts, or finds the labels itself, the published number is not one of these settings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .affinity import AttentionAffinityConfig, FeatureAffinityConfig
from .image import ImageConfig, Positions, ViewsConfig
from .maps import ClassAttentionConfig, CommitteeConfig, DenseConfig, GetamConfig, PatchTextConfig
from .mask import AgreementConfig, ArgmaxConfig
from .presets import CLIP_ES_SCENES, COCO14, SCENES, VOC12
from .refine import CrfConfig, PamrConfig, ParConfig
from .run import Config


@dataclass(frozen=True)
class Recipe:
    """Settings with their origin.

    Attributes:
        config: the settings, those of the pictures included.
        sentence: what the method does.
        source: who described it, and where.
        published: the published number and on what it was measured, for another model than the bundled one; empty where
            there is none for the parts that need no training.
    """

    config: Config
    sentence: str
    source: str
    published: str = ""


_DECIDED = ArgmaxConfig()
_PSA_CRF = CrfConfig(
    smooth_sigma=3.0, smooth_weight=3.0, bilateral_sigma=80.0, colour_sigma=13.0, bilateral_weight=10.0
)
_ATTENTION = AttentionAffinityConfig(sinkhorn_iterations=0, boxes="none", hops=1)
_VAL = "VOC12 val with background, no labels given, every class of VOC competes"


def _dense(map: DenseConfig, positions: Positions = "bicubic") -> Config:
    """Maps of the patch tokens, decided as they are: without affinity and refinement."""
    return Config(image=ImageConfig(positions=positions), map=map, affinity=None, refine=None, mask=_DECIDED)


RECIPES: dict[str, Recipe] = {
    "clip-es-voc12": Recipe(
        VOC12,
        "Softmax-GradCAM of the labels against background words, class-aware attention affinity, dense CRF.",
        "Lin et al., CLIP is Also an Efficient Segmenter, CVPR 2023",
        "70.8 mIoU before the CRF and 75.0 with it, VOC12 train, labels given",
    ),
    "clip-es-coco14": Recipe(
        COCO14,
        "CLIP-ES with the box threshold of COCO.",
        "Lin et al., CLIP is Also an Efficient Segmenter, CVPR 2023",
        "45.4 mIoU of a DeepLab trained on the masks, COCO14 val",
    ),
    "excel-voc12": Recipe(
        Config(
            image=ImageConfig(square=320, normalisation="imagenet", antialias=False),
            map=PatchTextConfig(competitors="all"),
            affinity=AttentionAffinityConfig(last_blocks=6, oldest_block="per-head", box_threshold=0.79),
            refine=ParConfig(iterations=20),
            mask=_DECIDED,
        ),
        "Patches against texts through a second stream of self-attention and feature surgery, no gradient; affinity, "
        "PAR.",
        "Yang et al., Exploring CLIP's Dense Knowledge for Weakly Supervised Semantic Segmentation (ExCEL), CVPR 2025",
        "72.5 mIoU before a refinement, VOC12 train, labels given, without attribute texts and training",
    ),
    "maskclip-like": Recipe(
        _dense(DenseConfig(attention="identity", residual=False, scale=100.0)),
        "Patch tokens against texts; in the last block each token keeps its own value, without residual and MLP.",
        "Zhou et al., Extract Free Dense Labels from CLIP (MaskCLIP), ECCV 2022",
        f"43.4 mIoU, {_VAL}",
    ),
    "sclip-like": Recipe(
        _dense(DenseConfig(attention="qq+kk", scale=40.0)),
        "Patch tokens against texts; the last block attends by q-q plus k-k.",
        "Wang et al., SCLIP: Rethinking Self-Attention for Dense Vision-Language Inference, ECCV 2024",
        f"59.1 mIoU, {_VAL}",
    ),
    "clearclip-like": Recipe(
        _dense(DenseConfig(attention="qq", residual=False, scale=50.0)),
        "Patch tokens against texts; the last block attends by q-q, without residual and MLP.",
        "Lan et al., ClearCLIP: Decomposing CLIP Representations for Dense Vision-Language Inference, ECCV 2024",
        f"51.8 mIoU, {_VAL}",
    ),
    "naclip-like": Recipe(
        replace(
            _dense(DenseConfig(attention="kk+distance", residual=False, scale=40.0, sigma=5.0)),
            refine=PamrConfig(iterations=10, dilations=(8, 16)),
        ),
        "Patch tokens against texts; the last block attends by k-k and to neighbours, without residual and MLP; PAMR.",
        "Hajimiri et al., Pay Attention to Your Neighbours (NACLIP), WACV 2025",
        f"64.1 mIoU, 58.9 before PAMR, {_VAL}",
    ),
    "tagclip-like": Recipe(
        replace(
            _dense(DenseConfig(attention="identity", scale=100.0), "bilinear"),
            affinity=replace(_ATTENTION, last_blocks=4, skip_last=True, votes=4, symmetric=False),
        ),
        "Patch tokens against texts; in the last block each token keeps its own value, with residual and MLP; "
        "attention where enough blocks agree.",
        "Lin et al., TagCLIP: A Local-to-Global Framework to Enhance Open-Vocabulary Multi-Label Classification of "
        "CLIP, AAAI 2024",
        "64.7 mIoU of CLIP-ES with the labels that TagCLIP finds, VOC12 val, 68.6 with a CRF",
    ),
    "getam-like": Recipe(
        Config(map=GetamConfig(), affinity=None, refine=PamrConfig(), mask=ArgmaxConfig(background_power=32.0)),
        "Attention times its gradient, twice, summed over six blocks; PAMR.",
        "Sun et al., GETAM: Gradient-weighted Element-wise Transformer Attention Map, 2021",
        "16.4 mIoU above CAM and 9.2 above Grad-CAM on the same trained ViT, VOC12 val",
    ),
    "mctformer-like": Recipe(
        Config(
            views=ViewsConfig(flip=True),
            class_attention=ClassAttentionConfig(exponent=1.0, blocks=3),
            affinity=replace(_ATTENTION, last_blocks=12, symmetric=False),
            refine=_PSA_CRF,
            mask=AgreementConfig(levels=(1.0, 12.0)),
        ),
        "Softmax-GradCAM times the class token's attention, spread by the attention of all blocks; two backgrounds "
        "must agree.",
        "Xu et al., Multi-class Token Transformer for Weakly Supervised Semantic Segmentation (MCTformer), CVPR 2022",
    ),
    "seam-like": Recipe(
        Config(
            views=ViewsConfig(scales=(0.5, 1.0, 1.5, 2.0), flip=True),
            affinity=FeatureAffinityConfig(),
            refine=_PSA_CRF,
            mask=AgreementConfig(levels=(4.0, 24.0)),
        ),
        "Softmax-GradCAM at four scales, spread between patches of like features; two backgrounds must agree.",
        "Wang et al., Self-supervised Equivariant Attention Mechanism (SEAM), CVPR 2020",
    ),
    "afa-like": Recipe(
        Config(
            views=ViewsConfig(scales=(1.0, 0.5, 1.5), flip=True),
            affinity=replace(_ATTENTION, last_blocks=2, power=2.0, radius=8, row_epsilon=1e-4),
            refine=ParConfig(),
            mask=AgreementConfig(background="constant", levels=(0.55, 0.35), conflict="foreground"),
        ),
        "Softmax-GradCAM at three scales, spread by attention to near patches, PAR; two backgrounds must agree.",
        "Ru et al., Learning Affinity from Attention (AFA), CVPR 2022",
        "66.0 mIoU on VOC12 val and 38.9 on COCO14 val, of the trained system",
    ),
    "psa-like": Recipe(
        Config(
            affinity=replace(_ATTENTION, last_blocks=12, power=8.0, radius=4, row_epsilon=0.0, hops=256),
            refine=_PSA_CRF,
            mask=AgreementConfig(levels=(4.0, 32.0)),
        ),
        "Softmax-GradCAM, a long walk along attention to near patches; two backgrounds must agree.",
        "Ahn and Kwak, Learning Pixel-level Semantic Affinity (PSA, AffinityNet), CVPR 2018",
    ),
    "committee": Recipe(
        replace(VOC12, map=CommitteeConfig()),
        "The mean of Softmax-GradCAM's, TagCLIP's and ExCEL's maps from one encoding, then as CLIP-ES; untested on "
        "photographs.",
        "clipes, in no paper; benchmarks/choices.py",
    ),
    "clip-es-scenes": Recipe(
        CLIP_ES_SCENES,
        "CLIP-ES for the bundled model's drawings; not for photographs.",
        "benchmarks/scene_settings.py",
    ),
    "scenes": Recipe(
        SCENES,
        "The committee's maps with the settings for the bundled model's drawings; not for photographs.",
        "clipes, in no paper; benchmarks/choices.py",
    ),
}
"""The recipes by name, as ``--preset`` and ``clipes compare --presets`` take them."""

PRESETS: dict[str, Config] = {
    "voc12": VOC12,
    "coco14": COCO14,
    **{name: recipe.config for name, recipe in RECIPES.items()},
}
"""All settings with a name: those of the class sets, as class files name them, and of the recipes."""
