"""clipes.kernels.attention against softmax attention written out in float64."""

import pytest
import torch

pytest.importorskip("triton")

from hopper import compiled

from clipes.clip.transformer import merge_heads, split_heads
from clipes.kernels.attention import add_head_mean, attend

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # "cpu": Triton's interpreter
on_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="no CUDA device")
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

HALF = torch.float16
# The interpreter multiplies the bits of bfloat16 as integers.
TYPES = [torch.float32, HALF, pytest.param(torch.bfloat16, marks=on_gpu)]

# images, heads, tokens, head width, real tokens: tiles have 128 or 64 rows and 64 or 32 columns.
SIZES = [
    (1, 1, 2, 16, None),
    (2, 3, 37, 16, None),
    (4, 2, 67, 16, (67, 63, 65, 64)),  # beside a tile's end
    pytest.param(1, 1, 129, 64, None, marks=pytest.mark.slow),
    pytest.param(1, 1, 192, 64, None, marks=pytest.mark.slow),
    pytest.param(1, 1, 131, 80, None, marks=pytest.mark.slow),
    pytest.param(3, 1, 150, 64, (1, 129, 60), marks=pytest.mark.slow),
    pytest.param(2, 2, 50, 104, (49, 20), marks=pytest.mark.slow),
]


def project(images, heads, tokens, width, lengths, dtype, seed=0):
    """Query, key and value as a block makes them: views of one projection. Padding is not a number."""
    generator = torch.Generator().manual_seed(seed)
    x = 1.5 * torch.randn(images, tokens, 3 * heads * width, generator=generator)
    for image, length in enumerate(lengths or ()):
        x[image, length:] = torch.nan
    q, k, v = x.to(DEVICE, dtype).chunk(3, dim=-1)
    return split_heads(q, heads), split_heads(k, heads), split_heads(v, heads)


def tensor_of(lengths):
    return None if lengths is None else torch.tensor(lengths, dtype=torch.int32, device=DEVICE)


def written_out(query, key, value, lengths):
    """Context, log-sum-exp and the heads' summed patch-to-patch attention, a head at a time, 0 in padding."""
    q, k, v = query.cpu().double(), key.cpu().double(), value.cpu().double()
    images, heads, tokens, width = q.shape
    context, lse = torch.zeros_like(q), torch.zeros(images, heads, tokens, dtype=torch.float64)
    total = torch.zeros(images, tokens - 1, tokens - 1, dtype=torch.float64)
    for image in range(images):
        n = tokens if lengths is None else lengths[image]
        for head in range(heads):
            scores = q[image, head, :n] @ k[image, head, :n].T / width**0.5
            attention = scores.exp() / scores.exp().sum(1, keepdim=True)
            context[image, head, :n] = attention @ v[image, head, :n]
            lse[image, head, :n] = scores.exp().sum(1).log()
            total[image, : n - 1, : n - 1] += attention[1:, 1:]
    return context, lse, total


def check(value, expected, tolerance):
    torch.testing.assert_close(value.cpu().double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("images", "heads", "tokens", "width", "lengths"), SIZES)
def test_equals_softmax_attention(images, heads, tokens, width, lengths, dtype):
    """In half precision the context is as exact as two of the type's steps; its sums, and all of float32, are as
    exact as float32."""
    query, key, value = project(images, heads, tokens, width, lengths, dtype)
    context, lse, attention = written_out(query, key, value, lengths)
    got, got_lse = attend(query, key, value, tensor_of(lengths))
    assert got.dtype == dtype and got_lse.dtype == torch.float32
    check(got, context, 3e-6 if dtype == torch.float32 else torch.finfo(dtype).eps)
    check(got_lse, lse, 4e-6)

    before = torch.rand(attention.shape, generator=torch.Generator().manual_seed(1))
    total = before.clone().to(DEVICE)
    add_head_mean(total, query, key, got_lse, 1 / heads, tensor_of(lengths))
    check(total, before + attention / heads, 2e-6)
    add_head_mean(total, query, key, got_lse, -2, tensor_of(lengths))
    check(total, before + attention * (1 / heads - 2), 4e-6 * heads)
    for image, length in enumerate(lengths or ()):
        assert total[image, length - 1 :].cpu().equal(before[image, length - 1 :])
        assert total[image, :, length - 1 :].cpu().equal(before[image, :, length - 1 :])
        assert not got[image, :, length:].any() and not got_lse[image, :, length:].any()


@pytest.mark.parametrize("prefix", [0, 3])
def test_other_tokens_before_the_patches(prefix):
    """No class token, or registers beside it."""
    lengths = (40, 23)
    query, key, value = project(2, 2, 40, 16, lengths, torch.float32)
    _, lse = attend(query, key, value, tensor_of(lengths))
    total = torch.zeros(2, 40 - prefix, 40 - prefix, device=DEVICE)
    add_head_mean(total, query, key, lse, 0.5, tensor_of(lengths), prefix)
    for image, n in enumerate(lengths):
        scores = query[image, :, :n].double() @ key[image, :, :n].double().mT / 4
        want, count = scores.softmax(-1).mean(0)[prefix:, prefix:].cpu(), n - prefix
        check(total[image, :count, :count], want, 2e-6)
        assert not total[image, count:].any() and not total[image, :, count:].any()


def test_merging_the_heads_copies_nothing():
    context, _ = attend(*project(2, 3, 10, 16, None, torch.float32))
    assert context.shape == (2, 3, 10, 16)
    assert merge_heads(context).data_ptr() == context.data_ptr()


def test_any_strides():
    """Query, key, value and total that lie in memory in ways of their own."""
    query, key, value = project(2, 2, 40, 16, None, torch.float32)
    expected, lse = attend(query, key, value)
    others = query.contiguous(), key.mT.contiguous().mT, value.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0)
    got, got_lse = attend(*others)
    assert got.equal(expected) and got_lse.equal(lse)
    plain, inside = torch.zeros(2, 39, 39, device=DEVICE), torch.zeros(40, 2, 40, device=DEVICE)
    add_head_mean(plain, query, key, lse, 0.5)
    add_head_mean(inside.permute(1, 2, 0)[:, 1:, 1:], others[0], others[1], lse, 0.5)
    assert inside[1:, :, 1:].permute(1, 2, 0).equal(plain)
    assert not inside[0].any() and not inside[:, :, 0].any()


def test_large_scores_do_not_overflow():
    """The first tile's scores are below the second's by hundreds, and so the other way round."""
    query, key, value = project(1, 1, 100, 16, None, torch.float32)
    key[:, :, 64:] *= 200
    for backwards in (False, True):
        k, v = (key.flip(2), value.flip(2)) if backwards else (key, value)
        context, lse = attend(query, k, v)
        scores = query.double() @ k.double().mT / 4
        torch.testing.assert_close(lse.double(), scores.logsumexp(-1), rtol=1e-6, atol=0)
        torch.testing.assert_close(context.double(), scores.softmax(-1) @ v.double(), rtol=0, atol=5e-4)


def test_refuses_other_types():
    query, key, value = project(1, 1, 4, 16, None, torch.float64)
    with pytest.raises(TypeError, match=r"no attention kernel for torch.float64; use float16, bfloat16 or float32"):
        attend(query, key, value)
    with pytest.raises(TypeError, match="no attention kernel"):
        add_head_mean(torch.zeros(1, 3, 3), query, key, torch.zeros(1, 1, 4), 1.0)


OTHERS = "(torch.bfloat16, 104, 730, True), (torch.float32, 64, 769, False)"


@pytest.mark.parametrize(
    ("cases", "tensor_cores"),
    [
        pytest.param("(torch.float16, 64, 769, False),", [True] * 2, id="float16"),
        pytest.param(OTHERS, [True] * 2 + [False] * 2, id="others", marks=pytest.mark.slow),
    ],
)
def test_compiles_for_hopper(cases, tensor_cores, tmp_path):
    """Nothing spilled, and half precision on the tensor cores, for CLIP's head widths."""
    calls = f"""
from clipes.kernels.attention import add_head_mean, attend
for dtype, width, tokens, padded in ({cases}):
    projected = torch.zeros(1, tokens, 3 * 12 * width, dtype=dtype)
    query, key, value = projected.unflatten(-1, (36, width)).transpose(1, 2).chunk(3, 1)
    lengths = torch.tensor([700], dtype=torch.int32) if padded else None
    _, lse = attend(query, key, value, lengths)
    add_head_mean(torch.zeros(1, tokens - 1, tokens - 1), query, key, lse, 1 / 12, lengths)
"""
    kernels = compiled(calls, tmp_path)
    assert [kernel["name"] for kernel in kernels] == ["_attend", "_add_head_mean"] * (len(tensor_cores) // 2)
    assert not any(kernel["spilled"] for kernel in kernels)
    assert ["wgmma" in kernel["ptx"] for kernel in kernels] == tensor_cores
    assert all("cp.async.cg" in kernel["ptx"] for kernel in kernels)  # 16 bytes at a time
    # A program's shared memory is what Ada has too; the registers of two of attend's fit a processor at d = 64.
    assert all(kernel["shared"] <= 99 * 1024 for kernel in kernels)
    assert cases == OTHERS or 2 * kernels[0]["registers"] * kernels[0]["threads"] <= 65536


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("lengths", [None, (769, 600, 769, 2)])
def test_a_block_of_a_real_size_on_a_gpu(lengths):
    query, key, value = project(4, 12, 769, 64, lengths, HALF)
    context, lse, attention = written_out(query, key, value, lengths)
    total = torch.zeros(4, 768, 768, device=DEVICE)
    got, got_lse = attend(query, key, value, tensor_of(lengths))
    add_head_mean(total, query, key, got_lse, 1 / 12, tensor_of(lengths))
    check(got, context, torch.finfo(HALF).eps)
    check(got_lse, lse, 4e-6)
    check(total, attention / 12, 2e-6)
    for _ in range(10):  # bit for bit
        again, again_total = attend(query, key, value, tensor_of(lengths)), torch.zeros_like(total)
        add_head_mean(again_total, query, key, again[1], 1 / 12, tensor_of(lengths))
        assert again[0].equal(got) and again[1].equal(got_lse) and again_total.equal(total)


@pytest.mark.gpu
@on_gpu
def test_offsets_past_2_to_the_31_on_a_gpu():
    """4,000 maps of 768 x 768: 2.4e9 numbers."""
    images = 4000
    query, key, value = project(images, 1, 769, 64, None, HALF)
    _, lse = attend(query, key, value)
    total = torch.zeros(images, 768, 768, device=DEVICE)
    add_head_mean(total, query, key, lse, 1.0)
    last = slice(images - 1, images)
    check(total[last], written_out(query[last], key[last], value[last], None)[2], 2e-6)
