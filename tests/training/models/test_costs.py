"""The memory that is foretold is the memory that is taken."""

from typing import Any

import pytest
import torch
from models import KINDS, packed, tiny_config
from ranks import on_ranks
from torch.profiler import ProfilerActivity, profile
from transformers import PreTrainedConfig, Qwen2Config

from exactcpt.training.config import TrainConfig
from exactcpt.training.models.costs import activations, memory_of, outline
from exactcpt.training.models.model import build, parallelize
from exactcpt.training.models.optim import make_optimizer
from exactcpt.training.run.world import joined

SETTINGS = TrainConfig(shards="s", model="m", out="o")


def of(config: PreTrainedConfig, ranks: int, dtype: torch.dtype, **more: Any) -> Any:
    shape = {"windows": 2, "length": 64}
    return memory_of(outline(config), ranks=ranks, dtype=dtype, **(shape | more))


def local(tensor: torch.Tensor) -> int:
    whole: Any = tensor
    return (whole.to_local() if hasattr(whole, "to_local") else whole).nbytes


def taken(tied: bool, dtype: torch.dtype) -> tuple[int, int, int]:
    """Bytes of weights, gradients and optimizer of a rank after a step."""
    with joined("cpu") as world:
        model = build(tiny_config(tie_word_embeddings=tied), window=64, backend="exact")
        model = model.double() if dtype == torch.float64 else model
        parallelize(model, world.mesh(), dtype=dtype)
        optimizer = make_optimizer(model, SETTINGS)
        batch = packed([[40, 24], [64]])
        loss, *_ = model(**batch, denominator=torch.tensor(126.0))
        loss.backward()
        optimizer.step()
        weights = [*model.parameters()]
        state = [t for each in optimizer.state.values() for t in each.values()]
        gradients = [w.grad for w in weights if w.grad is not None]
        return tuple(sum(map(local, each)) for each in (weights, gradients, state))  # type: ignore


@pytest.mark.slow
def test_weights_gradients_and_optimizer_to_the_byte():
    """307 rows cannot be shared by three ranks: the first one has the most."""
    calls = [(True, torch.bfloat16), (False, torch.float64)]
    for ranks in (1, 3):
        found = on_ranks(ranks, [(taken, call) for call in calls])
        for (tied, dtype), of_ranks in zip(calls, found, strict=True):
            told = of(tiny_config(tie_word_embeddings=tied), ranks, dtype)
            assert of_ranks[0] == (told.parameters, told.gradients, told.optimizer)
            assert max(of_ranks) == of_ranks[0]


def allocated(config: PreTrainedConfig, dtype: torch.dtype) -> int:
    """Bytes that a real forward pass on a CPU has allocated, and not freed."""
    model = build(config, window=64, backend="cpu").to(dtype)
    batch = packed([[128], [128]])
    given = {name: batch[name] for name in ("input_ids", "position_ids", "cu_seqlens")}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        kept = model._hidden(**given)
    assert kept.requires_grad
    return sum(event.self_cpu_memory_usage for event in profiler.key_averages())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_of_a_block(dtype):
    """By the profiler of a CPU's memory, which knows nothing of autograd."""
    one, two = (
        tiny_config(
            "qwen2", num_hidden_layers=n, num_key_value_heads=4, hidden_size=64, head_dim=16
        )
        for n in (1, 2)
    )
    found = allocated(two, dtype) - allocated(one, dtype)
    _, told = activations(two, windows=2, length=128, dtype=dtype)
    assert told == pytest.approx(found, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model(kind):
    config = tiny_config(kind)
    rest, block = activations(config, windows=1, length=64, dtype=torch.bfloat16)
    assert block > 10 * 64 * config.hidden_size
    assert 0 < rest < block
    assert (
        outline(config).num_parameters()
        == build(config, window=64, backend="exact").causal_lm.num_parameters()
    )


def test_what_saves_memory():
    told = {
        name: of(tiny_config(num_hidden_layers=8), 4, torch.bfloat16, **more)
        for name, more in {
            "plain": {}, "compiled": {"compiled": True}, "recomputed": {"checkpointing": True},
            "less": {"windows": 1},
        }.items()
    }  # fmt: skip
    sizes = [told[n].activations for n in ("plain", "compiled", "recomputed")]
    assert sizes == sorted(sizes, reverse=True)
    half = told["plain"].activations / 2
    assert told["less"].activations == pytest.approx(half, rel=1e-2)
    assert {each.parameters for each in told.values()} == {told["plain"].parameters}
    plain = told["plain"]
    whole = of(tiny_config(num_hidden_layers=8), 4, torch.bfloat16, whole_gradient=True)
    alone = of(tiny_config(num_hidden_layers=8), 1, torch.bfloat16)
    assert whole.gradients == alone.gradients > plain.gradients
    assert plain.staging == plain.parameters + plain.optimizer
    assert plain.total == sum(
        getattr(plain, name) for name in plain.__dataclass_fields__ if name != "staging"
    )


def test_a_model_of_its_true_size():
    """Qwen2.5-0.5B at 16K: no memory is taken, and the figures are those of its weights."""
    config = Qwen2Config(
        vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
        num_attention_heads=14, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    told = of(config, 1, torch.bfloat16, windows=1, length=16384)
    assert told.parameters == 4 * 494_032_768
    assert 20e9 < told.activations < 25e9
    assert told.total < 80e9
