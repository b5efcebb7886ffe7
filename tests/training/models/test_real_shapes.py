"""Blocks as wide as those of real models, at 16K tokens, in bf16, without their arithmetic.

PyTorch's fake tensors have shapes and types and no values: what a GPU would be asked to do is
gone through, operator by operator, forward and backward, on any machine.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen2Config

from exactcpt.training.models import loss as loss_module
from exactcpt.training.models.model import TrainModel
from exactcpt.training.models.recomputing import recomputed

pytestmark = pytest.mark.slow

L = 16384
SHAPES: dict[str, PreTrainedConfig] = {
    "Qwen2.5-0.5B": Qwen2Config(
        vocab_size=151936, hidden_size=896, intermediate_size=4864, num_attention_heads=14,
        num_key_value_heads=2, num_hidden_layers=2, max_position_embeddings=L,
        tie_word_embeddings=True,
    ),
    "Llama-3.2-3B": LlamaConfig(
        vocab_size=128256, hidden_size=3072, intermediate_size=8192, num_attention_heads=24,
        num_key_value_heads=8, num_hidden_layers=2, max_position_embeddings=L,
        tie_word_embeddings=True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("keeps_products", [None, True])
@pytest.mark.parametrize("name", SHAPES)
def test_a_micro_batch(monkeypatch, name, keeps_products):
    monkeypatch.setattr(loss_module, "VOCABULARY_BLOCK", 1 << 20)  # fewer operators to go through
    with FakeTensorMode():
        plain = AutoModelForCausalLM.from_config(SHAPES[name], dtype=torch.bfloat16)
        model = TrainModel(plain, "varlen")
        if keeps_products is not None:
            for layer in model.causal_lm.base_model.layers:
                layer.forward = recomputed(layer.forward, keeps_products=keeps_products)
        ids = torch.zeros(1, L, dtype=torch.int32)
        loss, sums, by_window = model(
            input_ids=ids,
            position_ids=ids,
            cu_seqlens=torch.zeros(100, dtype=torch.int32),
            labels=ids.long(),
            loss_weights=torch.ones(1, L),
            denominator=torch.ones((), dtype=torch.float64),
            max_seqlen=3000,
        )
        loss.backward()
    assert (loss.shape, loss.dtype) == ((), torch.float32)
    assert (sums.shape, sums.dtype, by_window.shape) == ((4, 12), torch.float64, (1,))
    for weight in model.parameters():
        assert weight.grad is not None
        assert (weight.grad.shape, weight.grad.dtype) == (weight.shape, torch.bfloat16)
