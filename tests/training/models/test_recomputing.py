"""What is computed again in the backward pass, and that it changes no bit."""

from collections import Counter

import pytest
import torch
from models import packed, tiny_config
from torch.utils._python_dispatch import TorchDispatchMode

from exactcpt.schemas.errors import UsageError
from exactcpt.training.config import TrainConfig
from exactcpt.training.models.model import build
from exactcpt.training.models.recomputing import KEPT, recomputed
from exactcpt.training.run.inputs import attention_for

DENOMINATOR = torch.tensor(126.0)


class Counted(TorchDispatchMode):
    """Counts the operators that run."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func] += 1
        return func(*args, **(kwargs or {}))


def step(kind, backend, keeps_products):
    """Loss, gradients, and how often each operator ran; None recomputes nothing."""
    model = build(tiny_config(kind), window=64, backend=backend)
    if keeps_products is not None:
        for layer in model.causal_lm.base_model.layers:
            layer.forward = recomputed(layer.forward, keeps_products=keeps_products)
    with Counted() as counted:
        loss, *_ = model(**packed([[20, 1, 29, 14], [1, 62, 1]]), denominator=DENOMINATOR)
        loss.backward()
    return loss, [weight.grad for weight in model.parameters()], counted.calls


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("backend", ["cpu", "exact"])
def test_products_are_not_computed_again_if_they_are_kept(kind, backend):
    loss, gradients, once = step(kind, backend, None)
    for keeps_products in (True, False):
        found_loss, found, calls = step(kind, backend, keeps_products)
        assert torch.equal(found_loss, loss)
        for one, other in zip(found, gradients, strict=True):
            assert torch.equal(one, other)
        again = {op for op in KEPT if calls[op] > once[op]}
        assert again == (set() if keeps_products else {op for op in KEPT if once[op]})
        assert calls[torch.ops.aten.silu.default] == 2 * once[torch.ops.aten.silu.default] == 4


SETTINGS = {"shards": "s", "model": "m", "out": "o", "keep_products": True}


def test_products_are_kept_only_beside_what_is_not():
    with pytest.raises(UsageError, match="keep_products is on, but checkpoint_activations is off"):
        TrainConfig(**SETTINGS)


def test_flex_attention_cannot_be_kept():
    config = TrainConfig(**SETTINGS, checkpoint_activations=True, precision="fp32")
    with pytest.raises(UsageError, match="with attention 'flex', products cannot be kept"):
        attention_for(config, "cuda")
    assert attention_for(config, "cpu") == "cpu"
