"""A micro-batch as one row, and its loss in a model of transformers."""

import subprocess
import sys
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CONFIGS, documents, packed, tiny_config
from ranks import on_ranks
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM

from exactcpt.schemas.errors import UsageError
from exactcpt.training.adapters import count_targets, flatten, weighted_loss
from exactcpt.training.models.loss import IGNORE, shift
from exactcpt.training.run.world import World, joined

WINDOWS = [[1, 1, 24, 22], [44, 4], [48], [5, 43]]


def samples(lengths: list[list[int]], **options: Any) -> list[dict[str, torch.Tensor]]:
    batch = packed(lengths, **options)
    names = ("input_ids", "labels", "loss_weights", "position_ids")
    return [
        {name: batch[name][row] for name in names} | {"seq_lengths": torch.tensor(window)}
        for row, window in enumerate(lengths)
    ]


@st.composite
def windows(draw: st.DrawFn) -> list[list[int]]:
    length = draw(st.integers(2, 20))
    cuts = st.sets(st.integers(1, length - 1))
    found = []
    for places in draw(st.lists(cuts, min_size=1, max_size=4)):
        edges = [0, *sorted(places), length]
        found.append([b - a for a, b in pairwise(edges)])
    return found


@settings(deadline=None, max_examples=50)
@given(windows(), st.booleans())
def test_a_row(lengths, padded):
    row = flatten(samples(lengths, padded=padded))
    batch = packed(lengths, padded=padded)
    tokens = batch["input_ids"].numel()
    for name in ("input_ids", "position_ids", "labels", "loss_weights"):
        assert row[name].shape == (1, tokens)
        assert torch.equal(row[name], batch[name].view(1, -1)), name
    for name in ("cu_seq_lens_q", "cu_seq_lens_k"):
        assert torch.equal(row[name], batch["cu_seqlens"])
        assert row[name].dtype == torch.int32
    assert row["max_length_q"] == row["max_length_k"] == batch["input_ids"].shape[1]


@settings(deadline=None, max_examples=50)
@given(windows(), st.booleans())
def test_a_shift_of_the_row_is_a_shift_of_each_window(lengths, padded):
    """No target is predicted from the window before its own, and no weight moves there."""
    row = flatten(samples(lengths, padded=padded))
    batch = packed(lengths, padded=padded)
    of_row = shift(row["labels"], row["loss_weights"])
    of_windows = shift(batch["labels"], batch["loss_weights"])
    for one, other in zip(of_row, of_windows, strict=True):
        assert torch.equal(one, other.view(1, -1))


def slow_sum(model: Any, lengths: list[list[int]], **options: Any) -> torch.Tensor:
    """Sum of w ce over the targets, every segment by itself."""
    total = torch.zeros((), dtype=torch.float64)
    for segment in documents(packed(lengths, **options)):
        logits = model(input_ids=segment["input_ids"]).logits[0, :-1].double()
        ce = cross_entropy(logits, segment["labels"][0, 1:], reduction="none")
        total = total + (ce * segment["loss_weights"][0, 1:]).sum()
    return total


def model(kind: str = "llama", attention: str = "sdpa") -> Any:
    torch.manual_seed(0)
    config = tiny_config(kind)
    found = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    found.loss_function = weighted_loss
    return found.double()


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_models_loss_is_that_of_its_documents(kind, attention):
    one = model(kind, attention)
    row = flatten(samples(WINDOWS, padded=True))
    found = one(**row, num_items_in_batch=count_targets([row])).loss
    targets = (packed(WINDOWS, padded=True)["labels"] != IGNORE).sum()
    assert found.item() == pytest.approx((slow_sum(one, WINDOWS, padded=True) / targets).item())


def test_micro_batches_add_up_to_the_step():
    one = model()
    parts = [samples(WINDOWS)[:1], samples(WINDOWS)[1:]]
    step = [flatten(part) for part in parts]
    targets = count_targets(step)
    assert targets.item() == sum((WINDOWS[i] != []) * (48 - len(WINDOWS[i])) for i in range(4))
    sum(one(**row, num_items_in_batch=targets).loss for row in step).backward()  # type: ignore[union-attr]
    found = {name: weight.grad.clone() for name, weight in one.named_parameters()}
    one.zero_grad()
    (slow_sum(one, WINDOWS) / targets).backward()
    for name, weight in one.named_parameters():
        assert torch.allclose(found[name], weight.grad, rtol=1e-9, atol=1e-12), name


def test_the_loss_wants_weights_and_the_number_of_targets():
    one, row = model(), flatten(samples(WINDOWS))
    with pytest.raises(UsageError, match="without num_items_in_batch"):
        one(**row)
    del row["loss_weights"]
    with pytest.raises(UsageError, match="without loss_weights"):
        one(**row, num_items_in_batch=1)


def test_without_the_cache_setting_documents_would_see_each_other():
    """What `use_cache` is for. Once this fails, it need not be in the row."""
    one, row = model(), flatten(samples(WINDOWS))
    del row["use_cache"]
    targets = count_targets([row])
    leaked = one(**row, num_items_in_batch=targets).loss
    assert abs(leaked - slow_sum(one, WINDOWS) / targets) > 1e-4


def test_a_model_without_that_loss_is_refused():
    one = AutoModelForCausalLM.from_config(tiny_config())
    with pytest.raises(UsageError, match="compute the loss with weighted_loss"):
        one(**flatten(samples(WINDOWS)))


def averaged(lengths: list[list[int]]) -> tuple[float, dict[str, torch.Tensor]]:
    """D and the gradients of a step under DDP, each rank with some of its windows, one by one."""
    with joined("cpu") as world:
        return _step(world, lengths)


def _step(world: World, lengths: list[list[int]]) -> tuple[float, dict[str, torch.Tensor]]:
    """What `averaged` returns. The DDP model must end here, before the ranks part.

    If it were the last to hold their process group, it would end gloo's threads while it holds the
    interpreter's lock, and wait for ever for a thread that wants that lock to release a tensor.
    """
    one = DistributedDataParallel(model())
    step = [flatten([sample]) for sample in samples(lengths)[world.rank :: world.size]]
    targets = count_targets(step)
    for batch in step:
        with one.no_sync() if batch is not step[-1] else nullcontext():
            (one(**batch, num_items_in_batch=targets).loss * world.size).backward()
    gradients = {name: weight.grad for name, weight in one.module.named_parameters()}
    return targets.item(), gradients


@pytest.mark.slow
def test_ranks_have_the_gradients_of_the_step():
    (found,) = on_ranks(2, [(averaged, (WINDOWS,))])
    one, expected = model(), count_targets([flatten(samples(WINDOWS))])
    (slow_sum(one, WINDOWS) / expected).backward()
    for targets, gradients in found:
        assert targets == expected
        for name, weight in one.named_parameters():
            assert torch.allclose(gradients[name], weight.grad, rtol=1e-9, atol=1e-12), name


@pytest.mark.slow
def test_transformers_is_not_imported():
    program = "import sys, exactcpt.training.adapters; print('transformers' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
