"""No token sees another document: every backend against documents that run alone."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from models import KINDS, causal_lm, documents, hidden, packed, tiny_config
from torch._dynamo.testing import CompileCounterWithBackend

from exactcpt.schemas.errors import UsageError
from exactcpt.training.models import attention
from exactcpt.training.models.attention import (
    flash_attention,
    flex_mask,
    register,
    segment_attention,
)
from exactcpt.training.models.model import build

WINDOWS = [[20, 1, 29, 14], [1, 62, 1]]


def by_documents(query, key, value, cu_seqlens, scaling):
    """Each segment alone through torch's own attention: [T, H, D]."""
    outputs = []
    for start, stop in pairwise(cu_seqlens.tolist()):
        q, k, v = (heads[start:stop].transpose(0, 1) for heads in (query, key, value))
        alone = F.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scaling, enable_gqa=True
        )
        outputs.append(alone.transpose(0, 1))
    return torch.cat(outputs)


def heads(lengths, dtype, seed=0, width=8, groups=2):
    draw = torch.Generator().manual_seed(seed)
    total = sum(lengths)
    return tuple(
        torch.randn(total, count, width, generator=draw).to(dtype).requires_grad_()
        for count in (4, groups, groups)
    )


def edges(lengths):
    return torch.tensor([0, *lengths]).cumsum(0).int()


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any),
    block=st.integers(1, 10),
    seed=st.integers(0, 9),
)
def test_exact_operator_is_softmax_attention_of_each_segment(lengths, block, seed):
    tensors = heads(lengths, torch.float64, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "QUERY_BLOCK", block)
        found = segment_attention(*tensors, edges(lengths), 0.3)
        gradient = torch.randn_like(found)
        found_gradients = torch.autograd.grad(found, tensors, gradient)
    expected = by_documents(*tensors, edges(lengths), 0.3)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for one, other in zip(
        found_gradients, torch.autograd.grad(expected, tensors, gradient), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any),
    seed=st.integers(0, 9),
)
def test_flash_operator_is_softmax_attention_of_each_segment(lengths, seed):
    tensors = heads(lengths, torch.float64, seed, groups=4)
    found, denominators = flash_attention(*tensors, edges(lengths), 0.3)
    expected = segment_attention(*tensors, edges(lengths), 0.3)
    assert denominators.shape == (sum(lengths), 4)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    gradient = torch.randn_like(found)
    gradients = (torch.autograd.grad(output, tensors, gradient) for output in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_a_segment_longer_than_a_block_of_queries():
    """The real size; the property above tries all sizes in small."""
    lengths = [3, attention.QUERY_BLOCK + 9]
    tensors = heads(lengths, torch.float64)
    found = segment_attention(*tensors, edges(lengths), 0.3)
    expected = by_documents(*tensors, edges(lengths), 0.3)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    gradients = (torch.autograd.grad(output.sum(), tensors) for output in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_flash_operator_keeps_types_and_adds_in_fp32(dtype):
    lengths = [400, 7]
    tensors = heads(lengths, dtype, groups=4)
    found, denominators = flash_attention(*tensors, edges(lengths), 0.3)
    gradients = torch.autograd.grad(found.sum(), tensors)
    assert {t.dtype for t in (found, *gradients)} == {dtype}
    assert denominators.dtype == torch.float32
    exact = by_documents(*(t.detach().double() for t in tensors), edges(lengths), 0.3)
    # bf16 has 8 significant bits, and the weights of a sum are rounded too.
    allowed = 1e-5 if dtype == torch.float32 else 2**-7 * (exact.abs() + 1)
    assert ((found.double() - exact).abs() <= allowed).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_exact_operator_keeps_types_and_computes_in_fp32(dtype):
    lengths = [40, 7]
    tensors = heads(lengths, dtype)
    found = segment_attention(*tensors, edges(lengths), 0.3)
    gradients = torch.autograd.grad(found.sum(), tensors)
    assert {t.dtype for t in (found, *gradients)} == {dtype}
    exact = by_documents(*(t.detach().double() for t in tensors), edges(lengths), 0.3)
    allowed = 1e-6 if dtype == torch.float32 else 2**-8 * exact.abs() + 1e-6
    assert ((found.double() - exact).abs() <= allowed).all()


@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_a_backend_gets_one_type_and_is_let_alone(monkeypatch, kind):
    """Flash attention takes bf16 only, and the rotation makes fp32."""
    seen = []
    exact = attention.FUNCTIONS["exact"]

    def record(query, key, value, **more):
        seen.append((query.dtype, key.dtype, value.dtype, torch.is_autocast_enabled("cpu")))
        return exact(query, key, value, **more)

    monkeypatch.setitem(attention.FUNCTIONS, "exact", record)
    model = build(tiny_config(kind), window=64, backend="exact")
    with torch.autocast("cpu", torch.bfloat16):
        loss, *_ = model(**packed(WINDOWS), denominator=torch.tensor(126.0))
    loss.backward()
    assert seen == [(torch.bfloat16,) * 3 + (False,)] * 2


@pytest.mark.parametrize("lengths", [[3, 10], [40, 17]])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_no_number_is_passed_on(lengths, which):
    """A diverged model must not look like one that gives zeros."""
    with torch.no_grad():
        tensors = heads(lengths, torch.float32, groups=4, width=64)
        tensors[which][sum(lengths) - 2] = float("nan")
        found, _ = flash_attention(*tensors, edges(lengths), 0.3)
        exact = segment_attention(*tensors, edges(lengths), 0.3)
    assert found.isnan().any()
    assert torch.equal(found.isnan(), exact.isnan())


@pytest.mark.parametrize(("operator", "groups"), [(segment_attention, 2), (flash_attention, 4)])
def test_operators_are_ones(operator, groups):
    lengths = [5, 3]
    arguments = (*heads(lengths, torch.float64, groups=groups), edges(lengths), 0.3)
    torch.library.opcheck(operator, arguments)


@pytest.mark.parametrize("operator", [segment_attention, flash_attention])
@pytest.mark.parametrize("wrong", [[0, 5], [1, 8], [0, 6, 5, 8]])
def test_boundaries_that_are_not_the_batch_are_refused(operator, wrong):
    with pytest.raises(
        ValueError, match="do not rise from 0 to 8, the number of tokens of the batch"
    ):
        operator(*heads([8], torch.float32, groups=4), torch.tensor(wrong).int(), 0.3)


def hidden_by_documents(model, batch):
    alone = [hidden(model, document).squeeze(0) for document in documents(batch)]
    return torch.cat(alone).view(*batch["input_ids"].shape, -1)


@pytest.mark.slow
def test_flex_forward():
    """It has no backward on a CPU."""
    batch = packed(WINDOWS)
    with torch.no_grad():
        mask = flex_mask(batch["cu_seqlens"], *batch["input_ids"].shape)
        found = hidden(causal_lm("flex", hidden_size=64, head_dim=16), batch, block_mask=mask)
        expected = hidden_by_documents(causal_lm("exact", hidden_size=64, head_dim=16), batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_varlen_repeats_keys_where_torch_cannot(monkeypatch):
    """Without `enable_gqa` (torch 2.11) keys and values get as many heads as queries."""
    seen = {}

    def varlen(query, key, value, *boundaries, scale, window_size, **options):
        seen.update(options, shapes=[heads.shape for heads in (query, key, value)])
        assert window_size == (-1, 0)
        return by_documents(query, key, value, boundaries[0], scale)

    batch = packed(WINDOWS)
    monkeypatch.setattr(attention, "varlen_attn", varlen)
    expected = hidden(causal_lm("exact"), batch)
    for groups in (True, False):
        seen.clear()
        monkeypatch.setattr(attention, "_VARLEN_GROUPS", groups)
        torch.testing.assert_close(hidden(causal_lm("varlen"), batch), expected)
        assert seen["shapes"] == [(128, 4, 8), *[(128, 2 if groups else 4, 8)] * 2]
        assert ("enable_gqa" in seen) == groups


@pytest.mark.parametrize("backend", ["cpu", "exact"])
@pytest.mark.parametrize("kind", KINDS)
def test_models_are_exact(kind, backend):
    batch, model = packed(WINDOWS), causal_lm(backend, kind)
    found, expected = hidden(model, batch), hidden_by_documents(model, batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", ["sdpa", "eager"])
def test_what_hugging_face_does_by_itself_leaks(backend):
    """The reason for all this: with its default cache, or a mask of ones, documents see others."""
    batch, model = packed(WINDOWS), causal_lm("exact")
    expected = hidden_by_documents(model, batch)
    model.set_attn_implementation(backend)
    inputs = {name: batch[name] for name in ("input_ids", "position_ids")}
    leaking = model.base_model(**inputs).last_hidden_state
    assert (leaking - expected).abs().max() > 0.1
    ones = torch.ones_like(batch["input_ids"])
    leaking = model.base_model(**inputs, attention_mask=ones, use_cache=False).last_hidden_state
    assert (leaking - expected).abs().max() > 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cu_seqlens": None}, "no cu_seqlens and max_seqlen"),
        ({"max_seqlen": None}, "no cu_seqlens and max_seqlen"),
        ({"use_cache": True}, "key-value cache"),
        ({"attention_mask": torch.ones(2, 64)}, "attention mask was passed in"),
        ({"attention_mask": torch.ones(2, 1, 64, 64)}, "attention mask was passed in"),
        ({"dropout": 0.1}, "attention dropout is 0.1"),
        ({"sliding_window": 16}, "sliding window of 16"),
    ],
)
def test_refused(changes, message):
    model, batch = causal_lm("exact"), packed(WINDOWS)
    for layer in model.base_model.layers:
        layer.self_attn.attention_dropout = changes.get("dropout", 0)
    more = {name: value for name, value in changes.items() if name != "dropout"}
    with pytest.raises(ValueError, match=message):
        hidden(model, batch, **more)


def test_flex_without_its_mask_is_refused():
    with pytest.raises(ValueError, match="no block_mask"):
        hidden(causal_lm("flex"), packed(WINDOWS))


def test_an_unknown_backend_is_refused():
    with pytest.raises(UsageError, match="unknown attention backend 'sdpa'"):
        register("sdpa")


@pytest.mark.parametrize("backend", ["cpu", "exact"])
def test_one_graph_for_any_number_of_segments(backend):
    """In training: boundaries of another length, other longest segments, and nothing is compiled
    again."""
    graphs = CompileCounterWithBackend("aot_eager")
    compiled, plain = (build(tiny_config(), window=64, backend=backend) for _ in range(2))
    for layer in compiled.causal_lm.base_model.layers:
        layer.forward = torch.compile(layer.forward, backend=graphs, fullgraph=True)
    counts: list[int] = []
    for windows in ([[64], [64]], [[1, 63], [64]], WINDOWS, [[1] * 64, [1] * 64], [[32] * 2] * 2):
        batch = packed(windows)
        found = compiled(**batch, denominator=torch.tensor(64.0))[0]
        torch.testing.assert_close(found, plain(**batch, denominator=torch.tensor(64.0))[0])
        counts.append(graphs.frame_count)
    assert 1 <= counts[0] <= 2  # the two blocks may share one
    assert counts == counts[:1] * len(counts)
