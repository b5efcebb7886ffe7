"""The fused loss against the plain one in fp64, and its memory, measured."""

import json
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from losses import TOLERANCE, plain, problem, relative

from exactcpt.training.models import loss as module
from exactcpt.training.models.loss import IGNORE, next_position, shift, weighted_cross_entropy


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("chunk", [1, 7, 64, 100])
def test_loss_and_gradients_are_the_plain_ones(dtype, chunk):
    hidden, head, targets, weights = problem(64, 5000, 16, dtype)
    expected = plain(hidden, head, targets, weights)
    loss, ce = weighted_cross_entropy(hidden, head, targets, weights, chunk=chunk)
    (3 * loss).backward()
    assert hidden.grad.dtype == head.grad.dtype == dtype
    strict = min(TOLERANCE[dtype], 1e-5)  # bf16 rounds the gradients, not the logits
    assert relative(loss, expected[0]) < strict
    assert relative(ce, expected[1]) < strict
    assert relative(hidden.grad, 3 * expected[2]) < TOLERANCE[dtype]
    assert relative(head.grad, 3 * expected[3]) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_under_autocast_operands_are_rounded_and_logits_are_not(dtype):
    """An fp32 head, and states as a model under autocast makes them."""
    hidden, head, targets, weights = problem(64, 5000, 16, dtype)
    head = head.detach().float().mul(1.001).requires_grad_()
    rounded = hidden.detach().bfloat16().requires_grad_(), head.detach().bfloat16().requires_grad_()
    expected = plain(*rounded, targets, weights)
    with torch.autocast("cpu", torch.bfloat16):
        loss, ce = weighted_cross_entropy(hidden, head, targets, weights)
        loss.backward()
    assert (loss.dtype, ce.dtype) == (torch.float32, torch.float32)
    assert (hidden.grad.dtype, head.grad.dtype) == (dtype, torch.float32)
    for found, exact in zip((loss, ce), expected[:2], strict=True):
        assert relative(found, exact) < 1e-5
    for found, exact in zip((hidden.grad, head.grad), expected[2:], strict=True):
        assert relative(found, exact) < TOLERANCE[torch.bfloat16]


def test_autocast_is_off_where_products_are_made(monkeypatch):
    seen = []

    def record(hidden, head):
        seen.append(torch.is_autocast_enabled("cpu"))
        return hidden.float() @ head.float().T

    monkeypatch.setattr(module, "_logits", record)
    with torch.autocast("cpu", torch.bfloat16):
        weighted_cross_entropy(*problem(8, 50, 16, torch.float32))
    assert seen == [False]


def test_autocast_leaves_fp64_alone():
    tensors = problem(64, 50, 16, torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = weighted_cross_entropy(*tensors)
    assert relative(loss, plain(*tensors)[0]) < TOLERANCE[torch.float64]


def test_autocast_in_fp16_is_refused():
    with (
        torch.autocast("cpu", torch.float16),
        pytest.raises(TypeError, match=r"hidden states are torch\.float16"),
    ):
        weighted_cross_entropy(*problem(8, 50, 16, torch.float32))


@given(
    rows=st.integers(1, 12), ids=st.integers(1, 9), chunk=st.integers(1, 14), seed=st.integers(0, 9)
)
def test_any_shape(rows, ids, chunk, seed):
    hidden, head, targets, weights = problem(rows, ids, 3, torch.float64, seed)
    expected = plain(hidden, head, targets, weights)
    loss, ce = weighted_cross_entropy(hidden, head, targets, weights, chunk=chunk)
    loss.backward()
    for found, exact in zip((loss, ce, hidden.grad, head.grad), expected, strict=True):
        torch.testing.assert_close(found.detach(), exact, rtol=1e-12, atol=1e-12)


def test_tied_head_gets_both_gradients():
    _, head, targets, weights = problem(20, 30, 8, torch.float64)
    ids = torch.arange(20) % 30
    loss, _ = weighted_cross_entropy(head[ids], head, targets, weights, chunk=6)
    loss.backward()
    tied = head.detach().clone().requires_grad_()
    ce = F.cross_entropy(tied[ids] @ tied.T, targets, ignore_index=IGNORE, reduction="none")
    (weights * ce).sum().backward()
    torch.testing.assert_close(head.grad, tied.grad, rtol=1e-12, atol=1e-12)


def test_weights_are_not_rounded_to_the_type_of_the_states():
    """1.1268 is 1.125 in bf16, and w / D with it: both gradients would be off by 0.16%."""
    hidden, head, targets, _ = problem(64, 50, 16, torch.bfloat16)
    weights = torch.full((64,), 1.1268)
    loss, ce = weighted_cross_entropy(hidden, head, targets, weights / 61)
    assert loss.item() == pytest.approx(1.1268 / 61 * ce.double().sum().item(), rel=1e-6)
    loss.backward()
    expected = plain(hidden, head, targets, weights.double() / 61)
    for found, exact in ((hidden.grad, expected[2]), (head.grad, expected[3])):
        scale = (found.double() * exact).sum() / (exact * exact).sum()
        assert scale.item() == pytest.approx(1, abs=2e-4)


def test_head_gradient_is_summed_in_fp32():
    """In bf16, 4000 chunks of one position would each be lost in the sum of those before."""
    hidden = torch.ones(4000, 1, dtype=torch.bfloat16)
    head = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.zeros(4000, dtype=torch.int64)
    loss, _ = weighted_cross_entropy(hidden, head, targets, torch.ones(4000), chunk=1)
    loss.backward()
    assert head.grad[:, 0].tolist() == [-2000.0, 2000.0]


def test_unsupervised_positions_count_nothing_whatever_their_weight():
    hidden, head, targets, weights = problem(40, 30, 8, torch.float64)
    careless = weights.masked_fill(targets == IGNORE, 5.0)
    found, _ = weighted_cross_entropy(hidden, head, targets, careless)
    expected, ce = weighted_cross_entropy(hidden, head, targets, weights)
    assert found == expected
    assert (ce[targets == IGNORE] == 0).all()


def test_no_gradient_work_without_gradients(monkeypatch):
    hidden, head, targets, weights = problem(40, 30, 8, torch.float32)
    expected, _ = weighted_cross_entropy(hidden, head, targets, weights)

    def never(*_):
        raise AssertionError("gradient work")

    for name in ("_times_head", "_add_outer_"):
        monkeypatch.setattr(f"exactcpt.training.models.loss.{name}", never)
    with torch.no_grad():
        found, _ = weighted_cross_entropy(hidden, head, targets, weights)
    assert found == expected
    with pytest.raises(AssertionError, match="gradient work"):
        weighted_cross_entropy(hidden, head, targets, weights)


def test_a_frozen_head_gets_no_gradient(monkeypatch):
    hidden, head, targets, weights = problem(40, 30, 8, torch.float32)
    monkeypatch.setattr("exactcpt.training.models.loss._add_outer_", None)
    loss, _ = weighted_cross_entropy(hidden, head.detach(), targets, weights)
    loss.backward()
    assert hidden.grad is not None


def test_backward_twice_is_refused():
    loss, _ = weighted_cross_entropy(*problem(4, 5, 3, torch.float32))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward was called twice"):
        loss.backward()


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ((torch.float16, torch.float16, torch.float32), "float32, bfloat16 or float64"),
        ((torch.bfloat16, torch.float32, torch.float32), "the head is torch.float32"),
        ((torch.bfloat16, torch.bfloat16, torch.bfloat16), "weights are torch.bfloat16"),
    ],
)
def test_types_that_would_lose_something_are_refused(types, message):
    tensors = [
        torch.zeros(shape, dtype=t) for shape, t in zip([(4, 3), (5, 3), (4,)], types, strict=True)
    ]
    with pytest.raises(TypeError, match=message):
        weighted_cross_entropy(
            tensors[0], tensors[1], torch.zeros(4, dtype=torch.int64), tensors[2]
        )


def test_shift_moves_labels_and_weights_together():
    labels = torch.tensor([[IGNORE, 11, 12, IGNORE, 14], [IGNORE, 21, IGNORE, 23, 24]])
    weights = torch.tensor([[0, 1.1, 1.2, 0, 1.4], [0, 2.1, 0, 2.3, 2.4]])
    targets, shifted = shift(labels, weights)
    assert targets.tolist() == [[11, 12, IGNORE, 14, IGNORE], [21, IGNORE, 23, 24, IGNORE]]
    torch.testing.assert_close(
        shifted, torch.tensor([[1.1, 1.2, 0, 1.4, 0], [2.1, 0, 2.3, 2.4, 0]])
    )
    assert shifted.dtype == torch.float32
    assert next_position(labels, 7)[:, -1].tolist() == [7, 7]


# Memory, in a process of its own: the high-water mark of a process cannot be taken back.
MEASURE = """
import json, resource, sys, torch
from exactcpt.training.models.loss import weighted_cross_entropy
torch.manual_seed(0)
rows, ids, width, dtype = *map(int, sys.argv[1:4]), getattr(torch, sys.argv[4])
hidden = torch.randn(rows, width).to(dtype).requires_grad_()
head = torch.empty(ids, width, dtype=dtype).normal_(0, 0.02).requires_grad_()
targets, weights = torch.randint(0, ids, (rows,)), torch.full((rows,), 1 / rows)
warm = [tensor[:600].detach().requires_grad_() for tensor in (hidden, head)]
weighted_cross_entropy(*warm, targets[:600] % 600, weights[:600])[0].backward()
del warm
def rss(name):
    return next(int(line.split()[1]) << 10 for line in open('/proc/self/status') if name in line)
open('/proc/self/clear_refs', 'w').write('5')  # the high-water mark starts here
before = rss('VmRSS')
loss, _ = weighted_cross_entropy(hidden, head, targets, weights, chunk=int(sys.argv[5]))
loss.backward()
print(json.dumps({'beyond': rss('VmHWM') - before, 'returned': sum(
    t.grad.nbytes for t in (hidden, head)), 'accumulator': 4 * head.numel()}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_logits_are_kept(dtype):
    """Beyond its inputs and returned gradients: less than a fifth of the logits in bf16.

    Matrix products take buffers of their own, as many as threads please: the chunk leaves room for
    several as large as its logits. `benchmarks/loss.py` measures the default chunk.
    """
    rows, ids, width = 4096, 32768, 64
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, (rows, ids, width)), dtype, "32"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    # A bf16 head's gradient is summed in fp32 before it is returned in bf16.
    allowed = found["returned"] + (found["accumulator"] if dtype == "bfloat16" else 0)
    assert found["beyond"] - allowed < rows * ids * 2 / 5
