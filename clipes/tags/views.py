"""The settings of an encoding for tags alone."""

from __future__ import annotations

from dataclasses import replace

from clipes.config import ClassAttentionConfig, Config, GradCamConfig, ViewsConfig


def one_view(config: Config) -> Config:
    """The settings with one view, whose maps read nothing more of the encoder."""
    cheap = {"map": GradCamConfig(), "class_attention": ClassAttentionConfig(), "affinity": None}
    return replace(config, views=ViewsConfig(), **cheap)  # type: ignore[arg-type]
