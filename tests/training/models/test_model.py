"""One process: a packed batch is standard training of its documents, weighted, and nothing else."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from corpora import LFS
from models import IDS, KINDS, documents, packed, tiny_config
from oracles import bucket_by_search
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedConfig

from exactcpt.schemas.errors import ExactcptError, FormatError, UsageError
from exactcpt.training.models.loss import IGNORE, weighted_cross_entropy
from exactcpt.training.models.model import TrainModel, bucket_count, build

WINDOWS = [[20, 1, 29, 14], [1, 50, 13]]
DENOMINATOR = torch.tensor(119.0)


def tiny(window=64, **settings) -> TrainModel:
    return build(tiny_config(**settings), window=window, backend="exact")


def gradients(model):
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


def step(model, *batches, denominator=DENOMINATOR):
    """Loss and gradients, summed over micro-batches."""
    model.zero_grad()
    losses = [model(**batch, denominator=denominator)[0] for batch in batches]
    sum(losses).backward()
    return sum(losses).item(), gradients(model)


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def worst(found, expected):
    assert found.keys() == expected.keys()
    return max(relative(found[name].double(), expected[name].double()) for name in found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_batch_is_its_documents_run_alone(kind):
    model = build(tiny_config(kind), window=64, backend="exact")
    batch = packed(WINDOWS, padded=True)
    loss, found = step(model, batch)
    alone, expected = step(model, *documents(batch))
    assert loss == pytest.approx(alone, rel=1e-5)
    assert worst(found, expected) < 1e-5


@pytest.mark.parametrize("tied", [False, True])
def test_uniform_weights_are_standard_training(tied):
    """Plain Hugging Face and F.cross_entropy over the documents, unpacked, in fp64."""
    model = tiny(tie_word_embeddings=tied).double()
    batch = packed(WINDOWS)
    batch["loss_weights"] = (batch["labels"] != IGNORE).float()
    loss, found = step(model, batch)

    plain = AutoModelForCausalLM.from_config(tiny_config(tie_word_embeddings=tied))
    plain.load_state_dict(model.causal_lm.state_dict())
    plain.double()
    total = torch.zeros((), dtype=torch.float64)
    for document in documents(batch):
        ids = document["input_ids"]
        logits = plain(input_ids=ids).logits[0, :-1]
        total = total + F.cross_entropy(logits, ids[0, 1:], reduction="sum")
    (total / DENOMINATOR).backward()
    assert loss == pytest.approx((total / DENOMINATOR).item(), rel=1e-10)
    expected = {f"causal_lm.{name}": weight.grad for name, weight in plain.named_parameters()}
    assert worst(found, expected) < 1e-10


def test_another_document_changes_no_bit():
    """Document 1 becomes another one of the same length; document 2 is as it was, bit for bit."""
    model, first = tiny(), packed([[40, 24], [64]])
    second = {name: values.clone() for name, values in first.items()}
    second["input_ids"][0, :40] = (second["input_ids"][0, :40] + 100) % IDS
    second["labels"][0, 1:40] = second["input_ids"][0, 1:40]
    found = []
    for batch in (first, second):
        for row in (0, 1):  # one supervised document at a time
            only = {name: values.clone() for name, values in batch.items()}
            only["labels"][1 - row] = IGNORE
            only["labels"][0, :41] = IGNORE
            found.append(step(model, only))
    for one, other in ((0, 2), (1, 3)):
        assert found[one][0] == found[other][0]
        for name, gradient in found[one][1].items():
            if "embed_tokens" not in name:
                assert torch.equal(gradient, found[other][1][name]), name
    with torch.no_grad():
        before, after = (model(**batch, denominator=DENOMINATOR) for batch in (first, second))
    assert before[2][1] == after[2][1]
    assert before[2][0] != after[2][0]


def test_a_batch_is_the_weighted_sum_of_its_targets():
    model, batch = tiny().double(), packed([[5, 6]])
    loss, found = step(model, batch)
    total = 0.0
    expected = {name: torch.zeros_like(gradient) for name, gradient in found.items()}
    for place in (batch["labels"][0] != IGNORE).nonzero().flatten().tolist():
        alone = torch.full_like(batch["labels"], IGNORE)
        alone[0, place] = batch["labels"][0, place]
        ones = torch.ones_like(batch["loss_weights"])
        one, gradient = step(model, {**batch, "labels": alone, "loss_weights": ones})
        weight = batch["loss_weights"][0, place].item()
        total += weight * one
        for name in expected:
            expected[name] += weight * gradient[name]
    assert loss == pytest.approx(total, rel=1e-12)
    assert worst(found, expected) < 1e-6  # Hugging Face's norms work in fp32


def test_sums_by_bucket_are_of_each_target():
    """One target after the other, from the model's own logits."""
    model, batch = tiny(window=160).double(), packed([[20, 1, 80, 59], [1, 154, 5]], padded=True)
    loss, sums, by_window = model(**batch, denominator=DENOMINATOR)
    inputs = {name: batch[name] for name in ("input_ids", "position_ids", "cu_seqlens")}
    predicted = model.causal_lm.lm_head(model._hidden(**inputs)).log_softmax(-1)
    expected = torch.zeros(4, 6, dtype=torch.float64)
    windows = torch.zeros(2, dtype=torch.float64)
    for row, place in (batch["labels"] != IGNORE).nonzero().tolist():
        ce = -predicted[row, place - 1, batch["input_ids"][row, place]].item()
        weight = batch["loss_weights"][row, place].item()
        bucket = bucket_by_search(batch["position_ids"][row, place].item())
        expected[:, bucket] += torch.tensor([ce, 1, weight, weight * ce], dtype=torch.float64)
        windows[row] += ce
    assert sums.dtype == torch.float64
    assert not (sums.requires_grad or by_window.requires_grad)
    torch.testing.assert_close(sums, expected, rtol=1e-11, atol=0)
    torch.testing.assert_close(by_window, windows, rtol=1e-11, atol=0)
    assert loss.item() == pytest.approx((sums[3].sum() / DENOMINATOR).item(), rel=1e-12)


@pytest.mark.parametrize("window", [1, 2, 8, 9, 16, 17, 4096, 5000])
def test_bucket_count(window):
    assert bucket_count(window) == bucket_by_search(window - 1) + 1


def test_rounded_weights_are_refused():
    batch = packed(WINDOWS)
    batch["loss_weights"] = batch["loss_weights"].bfloat16()
    with pytest.raises(TypeError, match=r"loss_weights are torch\.bfloat16"):
        tiny()(**batch, denominator=DENOMINATOR)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_gradients_are_near_and_in_fp32(kind, tied):
    settings = {"initializer_range": 0.02, "tie_word_embeddings": tied}
    model = build(tiny_config(kind, **settings), window=64, backend="exact")
    batch = packed(WINDOWS, padded=True)
    exact_loss, exact = step(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        loss, found = step(model, batch)
    assert loss == pytest.approx(exact_loss, rel=1e-4)
    for name, gradient in found.items():
        if name.endswith("k_proj.bias"):
            continue  # it is 0 but for rounding: the softmax does not see it
        assert gradient.dtype == torch.float32
        assert relative(gradient, exact[name]) <= 2e-2, name
        cosine = F.cosine_similarity(gradient.flatten(), exact[name].flatten(), dim=0)
        assert cosine > 0.999, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_divided_in_fp32_before_the_loss(monkeypatch, dtype):
    """What the loss gets: in bf16 it would be off by up to 0.4%, and the gradients with it."""
    seen: list[torch.Tensor] = []

    def record(hidden, head, targets, weights):
        assert hidden.dtype == head.dtype == dtype
        seen.append(weights)
        return weighted_cross_entropy(hidden, head, targets, weights)

    monkeypatch.setattr("exactcpt.training.models.model.weighted_cross_entropy", record)
    batch, model = packed(WINDOWS), tiny().to(dtype)
    loss, sums, _ = model(**batch, denominator=torch.tensor(1027.0))
    expected = batch["loss_weights"][:, 1:].double() / 1027
    found = seen[0].view_as(batch["labels"])[:, :-1]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-7, atol=0)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(sums[3].sum().item() / 1027, rel=1e-6)


def test_master_weights_are_fp32_whatever_the_directory_has(tmp_path: Path):
    model = tiny()
    model.causal_lm.to(torch.bfloat16).save_pretrained(tmp_path)
    loaded = build(tmp_path, window=64, backend="exact")
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    for name, weight in loaded.causal_lm.named_parameters():
        assert torch.equal(weight.bfloat16(), model.causal_lm.get_parameter(name))


def test_random_weights_are_the_seeds():
    one, same, other = (
        build(tiny_config(), window=64, backend="exact", seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(one.causal_lm.lm_head.weight, same.causal_lm.lm_head.weight)
    assert not torch.equal(one.causal_lm.lm_head.weight, other.causal_lm.lm_head.weight)


ROPE = {"rope_theta": 10000.0}
LONGROPE = {"short_factor": [1.0] * 4, "long_factor": [1.0] * 4, "factor": 2.0}


@pytest.mark.parametrize(
    ("kind", "changes", "found"),
    [
        (
            "llama",
            {"rope_parameters": {**ROPE, "rope_type": "dynamic", "factor": 2.0}},
            "a rotary embedding of type 'dynamic', which depends on the length of other documents",
        ),
        (
            "llama",
            {
                "rope_parameters": {
                    **ROPE,
                    "rope_type": "longrope",
                    "original_max_position_embeddings": 64,
                    **LONGROPE,
                }
            },
            "a rotary embedding of type 'longrope', which depends on the length of other documents",
        ),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0},
            "a model with sliding-window layers",
        ),
        (
            "qwen3",
            {"layer_types": ["full_attention", "sliding_attention"]},
            "a model with sliding-window layers",
        ),
        ("mistral", {"sliding_window": 4096}, "a model with sliding-window layers"),
        (
            "smollm3",
            {"use_sliding_window": True, "sliding_window": 16},
            "a model with sliding-window layers",
        ),
        ("llama", {"attention_dropout": 0.1}, "attention_dropout 0.1"),
    ],
)
def test_models_that_leak_are_refused(kind, changes, found):
    with pytest.raises(UsageError) as error:
        build(tiny_config(kind, **changes), window=64, backend="exact")
    assert error.value.found == found


def test_other_architectures_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UsageError, match="a model of type gpt2") as error:
        build(tmp_path, window=64, backend="exact")
    assert error.value.expected == "llama, qwen2, qwen3, mistral, olmo2, smollm3"
    assert "exactcpt check-trainer" in (error.value.fix or "")
    assert error.value.where == str(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            lambda w: w.pop("lm_head.weight"),
            "the weights lack tensors that config.json describes: lm_head.weight",
        ),
        (
            lambda w: w.update({"model.norm.weight": torch.ones(31)}),
            "the weights have tensors of another shape than config.json says: "
            "model.norm.weight ([31], not [32])",
        ),
        (
            lambda w: w.update({f"model.layers.{n}.mlp.up_proj.weight": w["model.norm.weight"] * 1
                                for n in range(2, 6)}),
            "the weights have tensors that config.json does not describe: "
            "model.layers.2.mlp.up_proj.weight, model.layers.3.mlp.up_proj.weight, "
            "model.layers.4.mlp.up_proj.weight and 1 more",
        ),
    ],
)  # fmt: skip
def test_weights_that_config_json_does_not_describe(tmp_path, change, found):
    tiny().causal_lm.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    change(weights)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(FormatError) as error:
        build(tmp_path, window=64, backend="exact")
    assert error.value.found == found
    assert error.value.where == str(tmp_path)


def test_torn_weights(tmp_path):
    tiny().causal_lm.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FormatError, match="the model's weights cannot be read: "):
        build(tmp_path, window=64, backend="exact")
    path.write_bytes(LFS)
    with pytest.raises(ExactcptError, match="this is a Git LFS pointer"):
        build(tmp_path, window=64, backend="exact")
    path.unlink()
    with pytest.raises(FormatError, match="the folder has no weights"):
        build(tmp_path, window=64, backend="exact")


def test_frequencies_of_older_files_are_not_weights(tmp_path):
    tiny(tie_word_embeddings=True).causal_lm.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in weights
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    build(tmp_path, window=64, backend="exact")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no such folder"):
        build(tmp_path / "nothing", window=64, backend="exact")


@pytest.mark.parametrize(("rope_type", "leaks"), [("dynamic", True), ("yarn", False)])
def test_why_dynamic_rope_is_refused_and_yarn_is_not(rope_type, leaks):
    """Under `dynamic`, a short document gets other results beside a long one."""
    rope = {
        **ROPE,
        "rope_type": rope_type,
        "factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    model = tiny(window=64, max_position_embeddings=64)
    config = tiny_config(rope_parameters=rope, max_position_embeddings=64)
    model.causal_lm.model.rotary_emb = type(model.causal_lm.model.rotary_emb)(config)
    batch = packed([[20, 236]])
    alone = documents(batch)[0]
    with torch.no_grad():
        _, _, expected = model(**alone, denominator=DENOMINATOR)
        batch["labels"][0, 20:] = IGNORE
        _, _, found = model(**batch, denominator=DENOMINATOR)
    assert (abs(found - expected).item() > 1e-3) == leaks


def saved_rope(model: TrainModel) -> tuple[PreTrainedConfig, dict]:
    return model.causal_lm.config, model.causal_lm.config.rope_parameters


def test_windows_longer_than_the_model_need_a_word(tmp_path):
    config = tiny_config(max_position_embeddings=64)
    with pytest.raises(UsageError) as error:
        build(config, window=160, backend="exact")
    assert str(error.value) == (
        "the windows have 160 tokens, the model only 64 positions\n"
        "  fix:      stretch the positions: --yarn-factor 3, or --rope-theta"
        " (now 10000; the same value keeps it)"
    )
    theta, rope = saved_rope(build(config, window=160, backend="exact", rope_theta=5e5))
    assert (theta.max_position_embeddings, rope["rope_theta"]) == (160, 5e5)
    yarn, rope = saved_rope(build(config, window=160, backend="exact", yarn_factor=3))
    assert yarn.max_position_embeddings == 192
    assert rope == {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 3,
        "original_max_position_embeddings": 64,
    }
    assert config.max_position_embeddings == 64  # what was passed in is as it was


@pytest.mark.parametrize("changes", [{"rope_theta": 5e5}, {"yarn_factor": 4}])
def test_rope_changes_reach_the_rotation(changes):
    plain, changed = (
        build(tiny_config(), window=64, backend="exact", **more) for more in ({}, changes)
    )
    frequencies = [model.causal_lm.model.rotary_emb.inv_freq for model in (plain, changed)]
    assert not torch.equal(*frequencies)
    with pytest.raises(
        UsageError, match="the windows have 512 tokens, the model only 256 positions"
    ):
        build(tiny_config(max_position_embeddings=64), window=512, backend="exact", yarn_factor=4)


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {**ROPE, "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize("more", [{}, {"yarn_factor": 8}])
def test_the_advised_factor_is_enough(more):
    """A model of 64 positions, stretched already or with the model itself."""
    config = tiny_config(
        max_position_embeddings=512,
        rope_parameters={**YARN, "beta_fast": 16.0, "attention_factor": 1.5},
    )
    with pytest.raises(UsageError) as error:
        build(config, window=1000, backend="exact", **more)
    assert (error.value.fix or "").startswith("stretch the positions: --yarn-factor 16, or ")
    found, rope = saved_rope(build(config, window=1000, backend="exact", yarn_factor=16))
    assert found.max_position_embeddings == 1024
    assert rope == {**YARN, "factor": 16, "beta_fast": 16.0}


def test_a_factor_that_shrinks_is_refused():
    config = tiny_config(max_position_embeddings=512, rope_parameters=YARN)
    with pytest.raises(UsageError) as error:
        build(config, window=64, backend="exact", yarn_factor=4)
    assert error.value.found == (
        "--yarn-factor 4 makes 256 positions of 64, but the model already has 512"
    )
    assert error.value.fix == "give at least 8"


def test_a_models_own_scaling_is_not_dropped():
    config = tiny_config(max_position_embeddings=512, rope_parameters=LLAMA3)
    with pytest.raises(UsageError) as error:
        build(config, window=64, backend="exact", yarn_factor=16)
    assert error.value.found == (
        "--yarn-factor 16 would replace the model's own scaling of positions, llama3"
    )
    with pytest.raises(UsageError) as error:
        build(config, window=1000, backend="exact")
    assert (error.value.fix or "").startswith("stretch the positions: --rope-theta (now 500000")
    _, rope = saved_rope(build(config, window=1000, backend="exact", rope_theta=1e6))
    assert rope == {**LLAMA3, "rope_theta": 1e6}
