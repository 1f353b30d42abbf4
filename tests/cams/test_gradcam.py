"""Softmax-GradCAM in closed form against one autograd backward per label."""

import pytest
import reference
import torch
from models import make_clip

from clipes.cams.affinity import propagate_cams
from clipes.cams.gradcam import softmax_gradcam
from clipes.cams.probabilities import label_probabilities
from clipes.cams.scaling import min_max
from clipes.clip.head import image_features
from clipes.clip.open_clip_vision import vision_encoder
from clipes.clip.pairs import Pairs
from clipes.config import AttentionAffinityConfig, AttentionBlocks, EncodeRequest

VARIANTS = {
    "plain": {},
    "quick_gelu": {"quick_gelu": True},
    "layer scale": {"ls_init": 0.3},
    "norm after pooling": {"final_ln_after_pool": True},
    "no pre-norm": {"no_ln_pre": True},
    "one head": {"head_width": 32},
}

BLOCKS = AttentionBlocks(2)


def unit(rows: int, names: int, width: int, generator: torch.Generator) -> torch.Tensor:
    values = torch.randn(rows, names, width, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(values, dim=-1)


def both(model, grid, label_sets, backgrounds, pool, dtype, seed=0, names=1):
    """Maps of the library (one batch) and of the reference (one label at a time), in the order of the pairs."""
    generator = torch.Generator().manual_seed(seed)
    text = unit(20 + backgrounds, names, 24, generator)
    pixels = torch.randn(len(label_sets), 3, grid[0] * 8, grid[1] * 8, generator=generator, dtype=torch.float64)
    encoder = vision_encoder(model).to(dtype=dtype)
    present = torch.zeros(len(label_sets), 20, dtype=torch.bool)
    for row, labels in enumerate(label_sets):
        present[row, labels] = True
    pairs = Pairs(label_sets)
    head, block = encoder.head, encoder.blocks[-1]
    trace = encoder.encode(pixels).last_block
    fast = softmax_gradcam(block, head, trace, text.to(dtype), present, pairs, pool)
    slow = []
    for row, labels in enumerate(label_sets):
        with torch.no_grad():
            x, _ = reference.encode(model.visual, pixels[row].to(dtype))
        scale = float(model.logit_scale.detach().exp())
        slow.append(reference.gradcam(model.visual, x, text[labels].to(dtype), text[20:].to(dtype), scale, pool)[0])
    return fast, torch.cat(slow)


@pytest.mark.parametrize("pool", ["patch", "cls"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_autograd(variant, pool):
    """1 to 20 labels, an odd grid: to 1e-10 in float64, in float32 to 1e-5 of each map's norm
    (three times autograd's own error where rounding moves even that by more)."""
    model = make_clip(seed=3, **VARIANTS[variant])
    label_sets = [[4], [7, 2], list(range(20)), [0, 19, 5]]
    fast, slow = both(model, (5, 3), label_sets, 6, pool, torch.float64)
    assert fast.shape == (26, 15)
    assert slow.amax() > 0.9
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-10)
    narrow, autograd = both(model, (5, 3), label_sets, 6, pool, torch.float32)
    unavoidable = 3 * (autograd - slow).norm(dim=1)  # maps on which autograd itself is that far from exact
    assert ((narrow - slow).norm(dim=1) <= torch.maximum(1e-5 * slow.norm(dim=1), unavoidable)).all()


@pytest.mark.parametrize("pool", ["patch", "cls"])
def test_the_likeliest_of_several_names_counts(pool):
    """Four names of each class and background word: to 1e-10, and not what the first names alone give."""
    label_sets = [[4], [7, 2], [0, 19, 5]]
    fast, slow = both(make_clip(seed=5), (4, 5), label_sets, 6, pool, torch.float64, names=4)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-10)


@pytest.mark.parametrize("grid", [(1, 1), (1, 7), (6, 1), (4, 4), (9, 2)])
@pytest.mark.parametrize("pool", ["patch", "cls"])
def test_any_grid(grid, pool):
    fast, slow = both(make_clip(seed=1), grid, [[3, 1]], 4, pool, torch.float64, seed=5)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-10)


def test_tiny_maps_keep_the_reference_epsilon():
    """A label that is all but impossible: its gradient is so small that the 1e-7 of the scaling shows."""
    model = make_clip(seed=2)
    model.logit_scale.data.fill_(3.9)
    found = False
    for seed in range(6):
        fast, slow = both(model, (4, 3), [[0, 1, 2, 3]], 12, "patch", torch.float64, seed)
        torch.testing.assert_close(fast, slow, rtol=0, atol=1e-10)
        found |= bool(((slow.amax(-1) > 0) & (slow.amax(-1) < 0.999)).any())
    assert found, "no map was small enough to show the epsilon; make the logit scale larger"


def test_a_saturated_softmax_keeps_its_direction():
    """One probability next to 1: 1 - p must not cancel. float32 agrees with float64 to 1e-4."""
    model = make_clip(seed=4)
    model.logit_scale.data.fill_(4.6)
    fast, _ = both(model, (5, 4), [[1]], 1, "patch", torch.float32, seed=8)
    _, slow = both(model, (5, 4), [[1]], 1, "patch", torch.float64, seed=8)
    torch.testing.assert_close(fast.double(), slow, rtol=0, atol=1e-4)


def test_order_of_labels_only_orders_the_maps():
    model = make_clip(seed=6)
    one = both(model, (4, 4), [[2, 5, 9]], 3, "patch", torch.float64)[0]
    other = both(model, (4, 4), [[9, 2, 5]], 3, "patch", torch.float64)[0]
    torch.testing.assert_close(other, one[[2, 0, 1]], rtol=0, atol=1e-12)


def test_probabilities_leave_out_absent_classes():
    generator = torch.Generator().manual_seed(0)
    text = unit(8, 3, 24, generator)
    features = 7 * unit(1, 2, 24, generator)[0]
    present = torch.tensor([[True, False, False, True, False], [False, True, False, False, False]])
    found = label_probabilities(features, text, present, 30.0)
    for row, labels in enumerate(([0, 3], [1])):
        logits = [
            max(30 * name @ (features[row] / features[row].norm()) for name in text[i]) for i in [*labels, 5, 6, 7]
        ]
        torch.testing.assert_close(found[row, [*labels, 5, 6, 7]], torch.softmax(torch.stack(logits), 0))
    assert found[0, [1, 2, 4]].tolist() == [0, 0, 0]
    torch.testing.assert_close(found.sum(1), torch.ones(2, dtype=torch.float64))


def test_min_max_of_constant_maps_is_zero():
    assert min_max(torch.full((2, 5), 3.0)).tolist() == [[0.0] * 5] * 2
    scaled = min_max(torch.tensor([[1.0, 2.0, 5.0]]))
    torch.testing.assert_close(scaled, torch.tensor([[0.0, 0.25, 1.0]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("pool", ["patch", "cls"])
@pytest.mark.parametrize("variant", ["plain", "norm after pooling", "layer scale"])
def test_padding_changes_nothing(variant, pool):
    """Images of four grids in one batch: attention, features and maps are those of each alone, 0 on padding."""
    model = make_clip(seed=3, layers=4, **VARIANTS[variant]).double()
    encoder = vision_encoder(model)
    generator = torch.Generator().manual_seed(7)
    text = unit(26, 2, 24, generator)
    grids, label_sets = [(5, 3), (2, 2), (3, 5), (1, 7)], [[4], [7, 2, 11], [0], [19, 5]]
    images = [torch.randn(3, 8 * h, 8 * w, generator=generator, dtype=torch.float64) for h, w in grids]
    present = torch.zeros(4, 20, dtype=torch.bool)
    for row, labels in enumerate(label_sets):
        present[row, labels] = True

    def run(chosen):
        encoded = encoder.encode([images[i] for i in chosen], EncodeRequest(attention=frozenset({BLOCKS})))
        pairs = Pairs([label_sets[i] for i in chosen])
        block, head, trace = encoder.blocks[-1], encoder.head, encoded.last_block
        cams = softmax_gradcam(block, head, trace, text, present[chosen], pairs, pool)
        refined = propagate_cams(cams, encoded.attention[BLOCKS], pairs, encoded.grids, AttentionAffinityConfig())
        return encoded, pairs, image_features(head, trace, pool), cams, refined

    encoded, pairs, features, cams, refined = run([0, 1, 2, 3])
    assert encoded.grids == tuple(grids) and encoded.last_block.token_mask.sum(1).tolist() == [16, 5, 16, 8]
    for index, (h, w) in enumerate(grids):
        alone, _, feature, cam, spread = run([index])
        count, mine = h * w, pairs.image == index
        attention = encoded.attention[BLOCKS]
        torch.testing.assert_close(attention[index, :count, :count], alone.attention[BLOCKS][0], rtol=0, atol=1e-12)
        assert not attention[index, count:].any() and not attention[index, :, count:].any()
        torch.testing.assert_close(features[index], feature[0], rtol=0, atol=1e-10)
        for together, single in ((cams, cam), (refined, spread)):
            torch.testing.assert_close(together[mine, :count], single, rtol=0, atol=1e-9)
            assert not together[mine, count:].any()
