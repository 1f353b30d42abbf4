"""The presets: published settings, and those of the drawn scenes."""

from __future__ import annotations

from dataclasses import replace

from .affinity import AttentionAffinityConfig
from .maps import CommitteeConfig
from .mask import ConfidenceConfig
from .refine import CrfConfig
from .run import Config

VOC12 = Config()
"""The settings of the published PASCAL VOC 2012 numbers."""

COCO14 = Config(affinity=AttentionAffinityConfig(box_threshold=0.7))
"""The settings of the published MS COCO 2014 numbers."""

CLIP_ES_SCENES = Config(
    affinity=AttentionAffinityConfig(sinkhorn_iterations=0, box_threshold=0.6, hops=1),
    refine=CrfConfig(bilateral_sigma=10.0, colour_sigma=15.0, bilateral_weight=10.0),
    mask=ConfidenceConfig(background_power=2.0),
)
"""CLIP-ES for the bundled model's scenes, drawings of 14 x 14 patches; not for photographs. The bundled model's
attention concentrates on objects, and Sinkhorn normalisation would flatten it. Chosen by
``benchmarks/scene_settings.py`` on scenes that are used for nothing else."""

SCENES = replace(CLIP_ES_SCENES, map=CommitteeConfig())
"""The settings for the bundled model's scenes: those of :data:`CLIP_ES_SCENES` with the maps of three sources, which
are better on unseen scenes than those of CLIP-ES alone (``benchmarks/choices.py``)."""
