"""Train the bundled tiny CLIP on drawn scenes: ``python examples/train_tiny.py --work build/tiny``.

CLIP's contrastive loss with every true pair a positive (UniCL, Yang et al. 2022): a caption is a positive of every
picture that shows all it names. The loss sees what a picture shows, never where: no mask takes part in it. Half of the
patches of whole scenes are dropped; the other steps look at close-ups, whose frames the drawing chooses around things.

Stop it (Ctrl-C) and run the same command again to go on from the last check. The model lies in WORK/latest, an
open_clip folder: ``python benchmarks/scenes.py --model local-dir:WORK/latest`` judges it.
"""

import argparse
import json
import math
import random
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from clipes.scenes import GROUNDS, THINGS, draw_scenes
from clipes.vocabulary import load_vocabulary

SIDE, CLOSE, PATCH, POOL_SEED, CHUNK = 112, 64, 8, 1_000_000, 200
HEADS, LAYERS, WIDTH, EMBED, CONTEXT = 4, 8, 128, 128, 32
WORDS = (*THINGS, *GROUNDS)
SYNONYMS = {
    "boat": ("ship", "vessel"),
    "bird": ("fowl",),
    "car": ("automobile", "auto"),
    "cat": ("kitty", "kitten"),
    "flower": ("blossom", "bloom"),
    "house": ("home", "cottage"),
    "mushroom": ("toadstool",),
    "train": ("locomotive",),
    "umbrella": ("parasol",),
    "carpet": ("rug",),
    "grass": ("meadow", "lawn"),
    "mountain": ("hill",),
    "railroad": ("railway", "rails"),
    "road": ("street",),
    "sand": ("beach",),
    "water": ("sea", "river", "lake"),
}
CONFIG = {
    "model_cfg": {
        "embed_dim": EMBED,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": SIDE,
            "layers": LAYERS,
            "width": WIDTH,
            "head_width": WIDTH // HEADS,
            "patch_size": PATCH,
        },
        "text_cfg": {"context_length": CONTEXT, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
}


# Scenes and captions ---------------------------------------------------------------------------------------


class Pool:
    """Scenes drawn once into ``folder``: images (n, H, W, 3) and masks (n, H, W) uint8, grounds (n, GROUNDS) bool.

    Their seeds start at POOL_SEED; the demonstration and the checks draw from others.
    """

    def __init__(self, folder: Path, count: int):
        shapes = {"images": (count, SIDE, SIDE, 3), "masks": (count, SIDE, SIDE), "grounds": (count, len(GROUNDS))}
        files = {name: folder / f"{name}-{count}.npy" for name in shapes}
        if not (folder / f"drawn-{count}").exists():
            arrays = {
                name: np.lib.format.open_memmap(files[name], "w+", np.uint8, shape) for name, shape in shapes.items()
            }
            with ProcessPoolExecutor() as workers:
                for index, drawn in enumerate(workers.map(_draw, range(POOL_SEED, POOL_SEED + count // CHUNK))):
                    for name, part in zip(shapes, drawn, strict=True):
                        arrays[name][index * CHUNK : (index + 1) * CHUNK] = part
            (folder / f"drawn-{count}").touch()
        self.images, self.masks, self.grounds = (np.load(file, mmap_mode="r") for file in files.values())

    def scenes(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Whole pictures (B, H, W, 3), and for every word whether it is shown (1), not (0) or unknown (-1)."""
        chosen = np.sort(rng.choice(len(self.images), count, replace=False))
        things = np.stack([_areas(mask) for mask in self.masks[chosen]]) > 0
        return self.images[chosen], np.concatenate([things, self.grounds[chosen] > 0], 1).astype(np.int8)

    def close_ups(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Views of CLOSE x CLOSE pixels, most around a point of a thing, some anywhere: shape fills them, and the
        usual ground without its usual thing is seen often. Which grounds they show is unknown; so is a thing of which
        only a little is in view."""
        chosen = np.sort(rng.choice(len(self.images), count, replace=False))
        views, words = [], []
        for index in chosen:
            mask = self.masks[index]
            rows, columns = np.nonzero(mask)
            point = rng.integers(len(rows)) if len(rows) and rng.random() < 0.7 else None
            centre = (rows[point], columns[point]) if point is not None else rng.integers(SIDE, size=2)
            top, left = (int(np.clip(c - CLOSE // 2 + rng.integers(-8, 9), 0, SIDE - CLOSE)) for c in centre)
            window = slice(top, top + CLOSE), slice(left, left + CLOSE)
            views.append(self.images[index][window])
            whole, part = _areas(mask), _areas(mask[window])
            things = np.where(part > 0.4 * whole, 1, np.where(part > 0, -1, 0)) * (whole > 0)
            words.append(np.concatenate([things, np.full(len(GROUNDS), -1)]))
        return np.stack(views), np.array(words, np.int8)


def _draw(seed: int) -> tuple[np.ndarray, ...]:
    scenes = list(draw_scenes(CHUNK, seed, (SIDE, SIDE)))
    grounds = [[ground in scene.grounds for ground in GROUNDS] for scene in scenes]
    return np.stack([s.image for s in scenes]), np.stack([s.mask for s in scenes]), np.array(grounds, np.uint8)


def _areas(mask: np.ndarray) -> np.ndarray:
    return np.bincount(mask.ravel(), minlength=len(THINGS) + 1)[1:]


class Captions:
    """Sentences about words, tokenised, with the words each one names."""

    def __init__(self, templates: list[str], rng: random.Random):
        self.rng, self.templates = rng, templates
        self.tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=CONTEXT)
        self.used: set[int] = {0}

    def name(self, word: str) -> str:
        return self.rng.choice((word, word, *SYNONYMS.get(word, ())))

    def sentence(self, words: list[str]) -> str:
        names = [self.name(word) for word in words]
        listed = self.rng.choice((" and ", " with a ", ", ")).join(names)
        return self.rng.choice(self.templates).replace("{}", listed) if self.rng.random() < 0.8 else listed

    def batch(self, shown: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """One sentence for every word alone, and one or two for every picture; tokens (T, L), named (T, words)."""
        named = [[word] for word in WORDS]
        for row in shown:
            present = [word for word, there in zip(WORDS, row, strict=True) if there > 0]
            if present:
                named.append(self.rng.sample(present, min(len(present), self.rng.choice((1, 2, 2, 3)))))
        tokens = self.tokenizer([self.sentence(words) for words in named])
        self.used.update(tokens.unique().tolist())
        return tokens, torch.tensor([[word in words for word in WORDS] for words in named])


# Model -----------------------------------------------------------------------------------------------------


def new_model() -> torch.nn.Module:
    """The model at its start: attention that looks at like tokens and places (mimetic initialisation, Trockman and
    Kolter 2023) and sine-cosine positions; on few pictures a ViT learns much sooner from there."""
    cfg = CONFIG["model_cfg"]
    model = open_clip.model.CLIP(cfg["embed_dim"], cfg["vision_cfg"], cfg["text_cfg"], cfg["quick_gelu"])
    places = open_clip.pos_embed.get_2d_sincos_pos_embed(WIDTH, SIDE // PATCH, cls_token=True)
    model.visual.positional_embedding.data = torch.from_numpy(places).float()
    for block in model.visual.transformer.resblocks:
        attention = block.attn
        for head in range(HEADS):
            rows = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
            query, key = _factors(0.7, 0.7, WIDTH // HEADS)
            attention.in_proj_weight.data[:WIDTH][rows] = query
            attention.in_proj_weight.data[WIDTH : 2 * WIDTH][rows] = key
        value, out = _factors(0.4, -0.4, WIDTH)
        attention.in_proj_weight.data[2 * WIDTH :] = value
        attention.out_proj.weight.data = out.T.contiguous()
    return model


def _factors(noise: float, identity: float, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two (rank, D) matrices whose product ``a.T @ b`` is close to a noisy multiple of the identity."""
    product = noise * torch.randn(WIDTH, WIDTH) * WIDTH**-0.5 + identity * torch.eye(WIDTH)
    u, s, vh = torch.linalg.svd(product)
    root = s[:rank].sqrt()[:, None]
    return root * u.T[:rank], root * vh[:rank]


def normalised(images: np.ndarray) -> torch.Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W)."""
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25


def augmented(images: torch.Tensor) -> torch.Tensor:
    """Left-right flips, brightness, contrast and a shift of the colours, per picture."""
    flip = torch.rand(len(images), 1, 1, 1) < 0.5
    images = torch.where(flip, images.flip(3), images)
    gain = 1 + 0.25 * (torch.rand(len(images), 1, 1, 1) - 0.5)
    return images * gain + 0.3 * torch.randn(len(images), 3, 1, 1)


def image_tokens(visual: torch.nn.Module, images: torch.Tensor, keep: int) -> torch.Tensor:
    """The tower's tokens (B, 1 + keep, D) after ``ln_post``, in bfloat16 arithmetic over float32 weights."""
    low = {name: value.to(torch.bfloat16) for name, value in visual.named_parameters()}

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], low[f"{name}.weight"], low[f"{name}.bias"])

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, low[f"{name}.weight"], low[f"{name}.bias"])

    x = F.conv2d(images.to(torch.bfloat16), low["conv1.weight"], stride=PATCH).flatten(2).mT
    here, all_places = images.shape[-1] // PATCH, SIDE // PATCH
    top, left = random.randint(0, all_places - here), random.randint(0, all_places - here)
    places = torch.arange(all_places**2).reshape(all_places, -1)[top : top + here, left : left + here].flatten()
    x = x + low["positional_embedding"][1 + places]
    chosen = torch.rand(len(x), x.shape[1]).argsort(1)[:, :keep]
    x = x.gather(1, chosen[..., None].expand(-1, -1, WIDTH))
    first = (low["class_embedding"] + low["positional_embedding"][0]).expand(len(x), 1, -1)
    x = norm(torch.cat([first, x], 1), "ln_pre")
    for index in range(LAYERS):
        block = f"transformer.resblocks.{index}"
        qkv = F.linear(norm(x, f"{block}.ln_1"), low[f"{block}.attn.in_proj_weight"], low[f"{block}.attn.in_proj_bias"])
        q, k, v = qkv.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        attention = ((q * (WIDTH // HEADS) ** -0.5) @ k.mT).softmax(-1)
        context = (attention @ v).transpose(1, 2).flatten(2)
        x = x + linear(context, f"{block}.attn.out_proj")
        # QuickGELU(x) = silu(1.702 x) / 1.702: one kernel instead of three.
        fc, fc_bias = (1.702 * low[f"{block}.mlp.c_fc.{part}"] for part in ("weight", "bias"))
        hidden = F.silu(F.linear(norm(x, f"{block}.ln_2"), fc, fc_bias))
        x = x + F.linear(hidden, low[f"{block}.mlp.c_proj.weight"] / 1.702, low[f"{block}.mlp.c_proj.bias"])
    return norm(x, "ln_post")


def contrastive_loss(
    features: torch.Tensor, text: torch.Tensor, true: torch.Tensor, known: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """UniCL's loss: cross-entropy both ways with all true pairs (B, T) as equal targets, unknown pairs left out."""
    logits = scale * F.normalize(features.float(), dim=-1) @ text.T
    logits = logits.masked_fill(~known, -1e4)
    true = true.float()
    by_image = true / true.sum(1, keepdim=True).clamp_min(1)
    by_text = true / true.sum(0, keepdim=True).clamp_min(1)
    image_loss = -(by_image * logits.log_softmax(1)).sum() / (true.sum(1) > 0).sum()
    return image_loss - (by_text * logits.log_softmax(0)).sum() / (true.sum(0) > 0).sum()


# Training --------------------------------------------------------------------------------------------------


def step_loss(model, images, words, captions, keep) -> torch.Tensor:
    tokens, named = captions.batch(words)
    words = torch.from_numpy(words)
    absent = (named[None] & (words == 0)[:, None]).any(-1)  # the sentence names something that is not there
    unsure = (named[None] & (words < 0)[:, None]).any(-1)
    true, known = ~absent & ~unsure, absent | ~unsure
    text = model.encode_text(tokens, normalize=True)
    out = image_tokens(model.visual, images, keep)
    projection = model.visual.proj.to(out.dtype)
    scale = model.logit_scale.exp().clamp(max=100)
    pooled = (out[:, 0], out[:, 1:].mean(1))
    return sum(contrastive_loss(feature @ projection, text, true, known, scale) for feature in pooled)


def train(args: argparse.Namespace) -> None:
    args.work.mkdir(parents=True, exist_ok=True)
    pool = Pool(args.work, args.scenes)
    model = new_model()
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}], betas=(0.9, 0.98)
    )
    vocabulary = load_vocabulary("scenes", templates="imagenet")
    templates = [*vocabulary.templates, "a clean origami {}.", "a rendering of a weird {}.", "a photo of a {}.", "{}"]
    captions = Captions(templates, random.Random(0))
    seen, seconds = 0, 0.0
    checkpoint = args.work / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        seen, seconds, captions.used = saved["seen"], saved["seconds"], set(saved["used"])
    random.seed(seen)
    torch.manual_seed(seen)
    order = np.random.default_rng(seen)
    started, checked, lost = time.time() - seconds, seen // args.check, ([], [])
    while seen < args.images:
        progress = seen / args.images
        rate = args.rate * min(1, seen / 8000) * (0.5 + 0.5 * math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate
        close = random.random() < args.close
        images, words = pool.close_ups(order, args.batch) if close else pool.scenes(order, args.batch)
        keep = (images.shape[1] // PATCH) ** 2 if close else args.keep
        loss = step_loss(model, augmented(normalised(images)), words, captions, keep)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen += args.batch
        lost[close].append(loss.item())
        if seen // args.check > checked or seen >= args.images:
            checked = seen // args.check
            seconds = time.time() - started
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            state |= {"seen": seen, "seconds": seconds, "used": sorted(captions.used)}
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
            means = " ".join(f"{np.mean(part):.3f}" for part in lost)
            print(f"{seen:8d} pictures {seconds:6.0f} s  loss on scenes, close-ups {means}", flush=True)
            lost = [], []
            export(model, captions.used, args.work / "latest")


def export(model: torch.nn.Module, used: set[int], folder: Path) -> None:
    """An open_clip folder in half precision; words never seen in training get a zero embedding."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    never = torch.ones(len(state["token_embedding.weight"]), dtype=torch.bool)
    never[sorted(used)] = False
    state["token_embedding.weight"][never] = 0
    state = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    save_file(state, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/tiny"), help="scenes, checkpoint, exported model")
    parser.add_argument("--scenes", type=int, default=60_000, help="pool of pictures to draw")
    parser.add_argument("--images", type=int, default=620_000, help="pictures to train on, with repeats")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--keep", type=int, default=98, help="patches kept of the 196")
    parser.add_argument("--close", type=float, default=0.6, help="share of steps on close-ups")
    parser.add_argument("--check", type=int, default=25_000, help="pictures between checkpoints")
    train(parser.parse_args())
