"""What open_clip knows of a model before its weights are read: its configuration, its tags, how these were trained."""

from __future__ import annotations

import difflib
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from clipes._version import install_hint

from .download import download_error, downloading, one_line
from .errors import ModelError
from .tower_weights import SUPPORTED
from .towers import unsupported_reason

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


class Training(NamedTuple):
    """What weights were trained with, and do not say themselves."""

    quick_gelu: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str

    def __str__(self) -> str:
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return f"{'QuickGELU' if self.quick_gelu else 'GELU'}, mean {mean}, std {std}"

    @property
    def preprocessing(self) -> dict[str, Any]:
        """As open_clip's preprocessing configuration."""
        return {"mean": self.mean, "std": self.std, "interpolation": self.interpolation}


def model_config(model: str, pretrained: str | Path | None) -> dict[str, Any]:
    """The configuration of a supported model. Raises ModelError otherwise, FileNotFoundError for a folder's files."""
    if model.startswith(("local-dir:", "hf-hub:")):
        config = _config_of_folder_or_hub(model, pretrained)
    else:
        config = _config_of_name(model)
    reason = refusal(config)
    if reason:
        raise ModelError(f"{model} is not supported: {reason}; clipes reads {SUPPORTED}")
    return config


def weights_file(model: str, pretrained: str | Path | None, config: Mapping[str, Any]) -> Path | None:
    """``pretrained`` if it is a file; None if it is a tag of ``model``.

    Raises ModelError for a tag that does not exist or belongs to another name, FileNotFoundError for a missing file.
    """
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    if pretrained is None:
        known = ", ".join(matching_tags(model, config)) or "it has none"
        raise ModelError(f"no weights given for {model}; pass pretrained= a tag ({known}) or a weights file")
    if get_pretrained_cfg(model, str(pretrained)):
        _check_gelu(model, str(pretrained), config)
        return None
    path = Path(pretrained)
    if path.is_file():
        return path
    if path.suffix in WEIGHT_SUFFIXES or path.parent != Path("."):
        raise FileNotFoundError(f"weights file {path} does not exist")
    tags = open_clip.list_pretrained_tags_by_model(model)
    raise ModelError(f"{model} has no tag {str(path)!r}; its tags are {', '.join(tags) or 'none'}")


def training_of_tag(model: str, tag: str, config: Mapping[str, Any]) -> Training:
    """What a tag's weights were trained with. Raises ModelError for a tag that ``model`` does not have."""
    from open_clip.pretrained import get_pretrained_cfg

    if not get_pretrained_cfg(model, tag):
        known = ", ".join(matching_tags(model, config)) or "it has none"
        raise ModelError(f"{model} has no tag {tag!r} that its weights file could be like; its tags: {known}")
    _check_gelu(model, tag, config)
    return _training(model, tag, bool(config.get("quick_gelu")))


def default_training(model: str, config: Mapping[str, Any]) -> Training:
    """What is assumed of a weights file: what all tags of ``model`` were trained with, if that is the same; else the
    configuration's own activation, and OpenAI's mean and deviation.
    """
    quick = bool(config.get("quick_gelu"))
    found = {_training(model, tag, quick) for tag in matching_tags(model, config)}
    return found.pop() if len(found) == 1 else _as_openai(quick)


def _as_openai(quick_gelu: bool) -> Training:
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    return Training(quick_gelu, tuple(OPENAI_DATASET_MEAN), tuple(OPENAI_DATASET_STD), "bicubic")


def other_trainings(model: str, config: Mapping[str, Any], assumed: Training) -> dict[str, Training]:
    """A tag for each kind of training that is not ``assumed``: one of ``model``, or of its name with QuickGELU."""
    import open_clip

    others: dict[Training, str] = {}
    for tag in matching_tags(model, config):
        others.setdefault(_training(model, tag, bool(config.get("quick_gelu"))), tag)
    quick = f"{model}-quickgelu"
    if quick in open_clip.list_models():
        for tag in open_clip.list_pretrained_tags_by_model(quick):
            others.setdefault(_training(quick, tag, True), f"{tag} of {quick}")
    return {tag: training for training, tag in others.items() if training != assumed}


def _training(model: str, tag: str, quick_gelu: bool) -> Training:
    from open_clip.pretrained import get_pretrained_cfg

    cfg, assumed = get_pretrained_cfg(model, tag), _as_openai(quick_gelu)
    quick = quick_gelu or tag.lower() == "openai" or bool(cfg.get("quick_gelu"))
    mean, std = tuple(cfg.get("mean") or assumed.mean), tuple(cfg.get("std") or assumed.std)
    return Training(quick, mean, std, cfg.get("interpolation") or assumed.interpolation)


def refusal(config: Mapping[str, Any]) -> str | None:
    """Why a model of this configuration cannot be used here, or None if it can."""
    return unsupported_reason(config) or _missing_package(config)


def _missing_package(config: Mapping[str, Any]) -> str | None:
    """Why the text side cannot run here, or None if it can."""
    text = config.get("text_cfg", {})
    needed = text.get("hf_model_name") or text.get("hf_tokenizer_name")
    if needed and importlib.util.find_spec("transformers") is None:
        return f"its text side ({needed}) needs another package: {install_hint('transformers')}"
    return None


def matching_tags(model: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """The tags whose weights have the GELU of ``model``."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(model)
    return tuple(tag for tag in tags if _name_with_matching_gelu(model, tag, config) is None)


def _check_gelu(model: str, tag: str, config: Mapping[str, Any]) -> None:
    other = _name_with_matching_gelu(model, tag, config)
    if other:
        raise ModelError(f"the weights {tag} were trained with another GELU than that of {model}; load {other!r}")


def _name_with_matching_gelu(model: str, tag: str, config: Mapping[str, Any]) -> str | None:
    """The model name whose GELU is the one that a tag's weights were trained with; None if it is ``model``."""
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    quick = bool(config.get("quick_gelu"))
    other = model.removesuffix("-quickgelu") if quick else f"{model}-quickgelu"
    if tag.lower() == "openai" or quick == bool(get_pretrained_cfg(model, tag).get("quick_gelu")):
        return None
    # If no such model exists, the configuration is right: the tag just does not mention its GELU.
    return other if other != model and other in open_clip.list_models() else None


def open_clip_name(model: str) -> str:
    """The name as open_clip's configurations have it: ``ViT-B-16`` for ``ViT-B/16``. Raises ModelError for others."""
    import open_clip

    name = model.replace("/", "-")
    if open_clip.get_model_config(name) is None:
        raise ModelError(f"open_clip has no model {model!r}; {_nearest(model)}")
    return name


def _config_of_name(model: str) -> dict[str, Any]:
    import open_clip

    config: dict[str, Any] = open_clip.get_model_config(open_clip_name(model))
    return config


_TRANSFORMERS_NAMES = {
    "openai/clip-vit-base-patch32": "ViT-B-32",
    "openai/clip-vit-base-patch16": "ViT-B-16",
    "openai/clip-vit-large-patch14": "ViT-L-14",
    "openai/clip-vit-large-patch14-336": "ViT-L-14-336",
}


_SIGLIP_SIZES = {"base": "B", "large": "L", "so400m": "SO400M", "giant-opt": "gopt"}


def _of_transformers(model: str) -> tuple[str, str] | None:
    """open_clip's name and tag for an id of transformers' CLIPs and SigLIPs on the hub, or None."""
    import open_clip

    if model in _TRANSFORMERS_NAMES:
        return _TRANSFORMERS_NAMES[model], "openai"
    sizes = "|".join(_SIGLIP_SIZES)
    found = re.fullmatch(rf"google/siglip(2?)-({sizes})-patch(\d+)-(\d+)", model)
    if found is None:
        return None
    version, size, patch, side = found.groups()
    name = f"ViT-{_SIGLIP_SIZES[size]}-{patch}-SigLIP{version}" + ("" if side == "224" else f"-{side}")
    return (name, "webli") if name in open_clip.list_models() else None


def _nearest(model: str) -> str:
    """What to give instead of a name that open_clip does not have."""
    import open_clip

    if of_transformers := _of_transformers(model):
        name, tag = of_transformers
        return f"did you mean --model {name} --pretrained {tag} (model={name!r}, pretrained={tag!r})?"
    if Path(model).suffix in WEIGHT_SUFFIXES:
        return "a weights file is given as pretrained (--pretrained), beside the name of its architecture as model"
    names = {name.lower(): name for name in open_clip.list_models()}
    near = difflib.get_close_matches(model.lower(), names, 3)
    if near:
        return f"did you mean {' or '.join(repr(names[name]) for name in near)}?"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        return f"did you mean hf-hub:{model}, a repository that was saved for open_clip?"
    return "`clipes models` lists the names"


def _config_of_folder_or_hub(model: str, pretrained: str | Path | None) -> dict[str, Any]:
    if pretrained is not None:
        raise ModelError(f"{model} brings its own weights; leave out pretrained={str(pretrained)!r}")
    config: Any = _config_of_hub(model) if model.startswith("hf-hub:") else _config_of_folder(model)
    for part in ("vision_cfg", "text_cfg"):
        if not isinstance(config, dict) or not isinstance(config.get(part), dict):
            raise ModelError(f"the configuration of {model} is not one of open_clip's: it has no {part}")
    return dict(config)


def _config_of_hub(model: str) -> Any:
    import open_clip

    try:
        with downloading():
            return open_clip.get_model_config(model)
    except Exception as error:  # of huggingface_hub, the network or JSON: the configuration is not available
        raise ModelError(
            f"{model} could not be fetched ({download_error(error)}); check the id and the network"
        ) from error


def _config_of_folder(model: str) -> Any:
    folder = Path(model.removeprefix("local-dir:"))
    file = folder / "open_clip_config.json"
    if not file.is_file() and (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} has a config.json and no open_clip_config.json, as transformers saves a model; give its "
            f"architecture's name as model and {folder}/model.safetensors as pretrained, for OpenAI's weights with "
            "like='openai' (--weights-of openai)"
        )
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; {model} must be a folder saved for open_clip")
    if not any(path.suffix in (".safetensors", ".bin", ".pth") for path in folder.iterdir()):
        raise FileNotFoundError(f"{folder} holds no weights; put open_clip_model.safetensors beside the config")
    try:
        return json.loads(file.read_text(encoding="utf-8"))["model_cfg"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} is not an open_clip configuration ({one_line(error)})") from error
