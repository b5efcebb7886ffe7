"""The graphs around torch's own variable-length attention, on a CPU.

Its kernels need CUDA. Plain attention takes their place under the same operators, so that all that
PyTorch makes of the model around them (fake kernels, one graph, its backward pass) is the real one.
"""

import pytest
import torch
from models import packed, tiny_config
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention import varlen

from exactcpt.training.models import attention
from exactcpt.training.models.model import build

DENOMINATOR = torch.tensor(64.0)
BATCHES = [[[64], [64]], [[1, 63], [64]], [[20, 1, 29, 14], [1, 62, 1]], [[32] * 2, [5, 59]]]


@pytest.fixture(scope="module", autouse=True)
def told():
    """The longest lengths that the kernels were told: forward, backward, forward, ..."""
    lengths: list[int] = []

    @varlen._varlen_attn.register_kernel("cpu")
    def forward(query, key, value, cu_seqlens, _, longest, longest_keys, *more, **options):
        assert longest == longest_keys
        lengths.append(longest)
        output = attention.segment_attention(query, key, value, cu_seqlens, query.shape[-1] ** -0.5)
        denominators = torch.zeros(query.shape[1], query.shape[0])
        return output, denominators, torch.zeros(2, dtype=torch.uint64)

    @varlen._varlen_attn_backward.register_kernel("cpu")
    def backward(
        gradient, query, key, value, output, lse, cu_seqlens, _, longest, *more, **options
    ):
        lengths.append(longest)
        return attention.segment_attention_backward(
            gradient, query, key, value, cu_seqlens, query.shape[-1] ** -0.5
        )

    return lengths


def step(model, windows):
    model.zero_grad()
    longest = max(n for lengths in windows for n in lengths)
    loss, *_ = model(**packed(windows), denominator=DENOMINATOR, max_seqlen=longest)
    loss.backward()
    return loss.detach(), [weight.grad for weight in model.parameters()]


@pytest.mark.parametrize("compiled", [False, True])
def test_kernels_are_told_the_longest_segment_and_graphs_are_not(monkeypatch, told, compiled):
    monkeypatch.setattr(attention, "LEAST_LENGTH", 2)
    graphs = CompileCounterWithBackend("aot_eager")
    model, plain = (build(tiny_config(), window=64, backend=name) for name in ("varlen", "exact"))
    if compiled:
        for layer in model.causal_lm.base_model.layers:
            layer.forward = torch.compile(
                layer.forward, backend=graphs, fullgraph=True, dynamic=False
            )
    for windows in BATCHES:
        told.clear()
        torch.testing.assert_close(step(model, windows), step(plain, windows))
        assert told == [max(n for lengths in windows for n in lengths)] * 4  # two layers
    assert graphs.frame_count == compiled  # the two blocks share one
    torch.compiler.reset()


def test_kernels_are_not_told_a_length_below_their_block(told):
    told.clear()
    step(build(tiny_config(), window=64, backend="varlen"), [[1] * 64])
    assert set(told) == {attention.LEAST_LENGTH}


def test_without_a_length_it_is_the_window(monkeypatch, told):
    monkeypatch.setattr(attention, "LEAST_LENGTH", 2)
    told.clear()
    build(tiny_config(), window=64, backend="varlen")(**packed([[20, 44]]), denominator=DENOMINATOR)
    assert set(told) == {64}
