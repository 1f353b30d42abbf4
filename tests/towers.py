"""Models of open_clip by name, with few blocks and random weights, and what the real modules give."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import open_clip
import timm
import torch
from models import CONTEXT, randomise
from reference import min_max
from torch import Tensor, nn

BLOCKS, WIDTH = 2, 128
VOCABULARY = 49408  # that of CLIP's tokenizer


@contextmanager
def few_blocks(**sizes: int) -> Iterator[None]:
    """In the block timm builds transformers of :data:`BLOCKS` blocks, and of other ``sizes`` that are given."""
    with mock.patch.object(timm, "create_model", functools.partial(timm.create_model, depth=BLOCKS, **sizes)):
        yield


def narrow(name: str) -> dict[str, int]:
    """What makes a tower of timm :data:`WIDTH` wide; nothing for one whose stem or pool has widths of its own."""
    own = name.startswith("coca_") or name in ("MobileCLIP-B", "MobileCLIP2-B")
    return {} if own else {"embed_dim": WIDTH, "num_heads": 4}


def tower_config(name: str, width: int | None = None) -> dict[str, Any]:
    """open_clip's configuration of a name with a text side of one narrow block, which reads :data:`CONTEXT` tokens.

    ``width`` is that of the joint space where it is not open_clip's.
    """
    config: dict[str, Any] = open_clip.get_model_config(name)
    config["embed_dim"] = width or config["embed_dim"]
    if not config["vision_cfg"].get("timm_model_name"):
        config["vision_cfg"]["layers"] = BLOCKS
    if "multimodal_cfg" in config:
        config["multimodal_cfg"].update(width=16, heads=1, layers=1, context_length=CONTEXT)
    config["text_cfg"].update(width=16, heads=1, layers=1, context_length=CONTEXT, vocab_size=VOCABULARY)
    return config


def build_tower(name: str, **sizes: int) -> Any:
    """open_clip's module of a name, with :data:`BLOCKS` blocks and random weights, in eval mode.

    The tower of timm has other ``sizes`` where they are given.
    """
    config = tower_config(name, sizes.get("embed_dim"))
    kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    kind = open_clip.CoCa if "multimodal_cfg" in config else kind
    with few_blocks(**sizes):
        return randomise(kind(**config))


def resized(model: Any, size: tuple[int, int]) -> Any:
    """A copy of a model with a tower of timm whose own image is of ``size`` (H, W): timm resamples the positions."""
    model = copy.deepcopy(model)
    model.visual.trunk.set_input_size(size)
    return model


def pooling(model: Any, pool: str) -> Any:
    """A copy of a model with a tower of timm that pools as ``pool`` says, ``"token"`` or ``"avg"``, or by attention."""
    model = copy.deepcopy(model)
    if model.visual.trunk.attn_pool is None:
        model.visual.trunk.global_pool = pool
    return model


def real_gradcam(model: Any, images: Tensor, text: Tensor, prefix: int) -> Tensor:
    """Softmax-GradCAM of every text (C, E) for one image, by autograd through the real module: (C, N).

    The weighed tokens are those that the last block's attention reads.
    """
    kept: list[Tensor] = []

    def read(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        kept.append(inputs[0].detach().requires_grad_())
        return (kept[0], *inputs[1:])

    if hasattr(model.visual, "trunk"):
        handle = model.visual.trunk.blocks[-1].attn.register_forward_pre_hook(read)
    else:  # the attention of open_clip's own blocks reads the same tokens three times
        ln_1 = model.visual.transformer.resblocks[-1].ln_1
        handle = ln_1.register_forward_hook(lambda module, inputs, output: read(module, (output,))[0])
    try:
        feature = model.encode_image(images)[0]
    finally:
        handle.remove()
    shares = torch.softmax(model.logit_scale.exp() * text @ (feature / feature.norm()), 0)
    maps = []
    for share in shares:
        (gradient,) = torch.autograd.grad(share, kept[0], retain_graph=True)
        weights = gradient[0, prefix:].mean(0)
        maps.append(min_max(min_max(torch.relu(kept[0].detach()[0, prefix:] @ weights))))
    return torch.stack(maps)


def real_attention(model: Any, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """A tower of timm by its module: the image features, and each block's softmax of queries and keys (B, A, S, S)."""
    maps: list[Tensor] = []
    handles = []
    for block in model.visual.trunk.blocks:
        block.attn.fused_attn = False
        handles.append(block.attn.attn_drop.register_forward_hook(lambda _, inputs, output: maps.append(output)))
    try:
        return model.encode_image(images), maps
    finally:
        for handle in handles:
            handle.remove()


def save_tokenizer(folder: Path) -> None:
    """The two files of a tokenizer of Hugging Face, as SigLIP's repositories have them, with a few words.

    Token 1 ends a sentence and fills what is left, "a clean origami cat" is 3 to 6, and letters are at the end.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["a", "clean", "origami", "cat", "boat", "sky"]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), *((f"▁{word}", -2.0) for word in words)]
    letters = [(letter, -8.0) for letter in "abcdefghijklmnopqrstuvwxyz▁"]
    tokenizer = Tokenizer(models.Unigram([*pieces, *letters], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"pad_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>", "extra_ids": 0}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", **special}))
