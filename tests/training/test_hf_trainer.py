"""transformers' Trainer with the weighted loss, against plain steps of ours."""

from pathlib import Path
from types import MethodType

import pytest
import torch
from models import packed, tiny_config
from ranks import on_ranks
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import SequentialSampler

from exactcpt.schemas.errors import UsageError
from exactcpt.training.models.labels import plain
from exactcpt.training.models.loss import IGNORE
from exactcpt.training.models.model import build

pytest.importorskip("accelerate")

from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from exactcpt.training import hf_trainer
from exactcpt.training.adapters import flatten, weighted_loss
from exactcpt.training.hf_trainer import WeightedLoss, collate

pytestmark = pytest.mark.slow

# Of every step of 4 windows, the first two have few targets.
WINDOWS = [[1] * 24 + [24], [2] * 4 + [40], [48, 0], [40, 8]] * 2
STEPS = 3


class WeightedTrainer(WeightedLoss, Trainer):
    def _get_train_sampler(self, *_):
        return SequentialSampler(self.train_dataset)


def windows():
    batch = packed(WINDOWS, padded=True)
    names = ("input_ids", "labels", "loss_weights", "position_ids")
    return [
        {name: batch[name][row] for name in names} | {"seq_lengths": torch.tensor(lengths)}
        for row, lengths in enumerate(WINDOWS)
    ]


def model(**config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(tiny_config(**config))


def trainer(folder, *, micro_batch=1, accumulation=4, kind=WeightedTrainer, config=None, **more):
    causal_lm = model(**(config or {}))
    arguments = {
        "output_dir": str(folder),
        "per_device_train_batch_size": micro_batch,
        "per_device_eval_batch_size": 4,
        "gradient_accumulation_steps": accumulation,
        "max_steps": STEPS,
        "max_grad_norm": 0.0,
        "remove_unused_columns": False,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "prediction_loss_only": True,
        "dataloader_pin_memory": False,
        **more.pop("arguments", {}),
    }
    optimizer = torch.optim.SGD(causal_lm.parameters(), lr=0.5)
    return kind(
        causal_lm,
        TrainingArguments(**arguments),
        train_dataset=windows(),
        eval_dataset=windows()[:4],
        data_collator=collate,
        optimizers=(optimizer, LambdaLR(optimizer, lambda _: 1.0)),
        **more,
    )


def denominator(batch, name):
    if name == "targets":
        return (batch["labels"] != IGNORE).sum().double()
    return batch["loss_weights"].double().sum()


def expected(name):
    """The weights after the same steps of ours, 4 windows at once."""
    ours = build(tiny_config(), window=48, backend="exact")
    ours.causal_lm.load_state_dict(model().state_dict())
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.5)
    for step in range(STEPS):
        first = 4 * (step % 2)
        batch = collate(windows()[first : first + 4])
        batch.pop("max_seqlen")
        loss, _, _ = ours(**batch, denominator=denominator(batch, name))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return ours.causal_lm


@pytest.mark.parametrize("name", ["targets", "sum_w"])
@pytest.mark.parametrize(("micro_batch", "accumulation"), [(4, 1), (1, 4)])
def test_its_steps_are_ours(tmp_path, name, micro_batch, accumulation):
    found = trainer(tmp_path, micro_batch=micro_batch, accumulation=accumulation, denominator=name)
    found.train()
    for (path, one), (_, other) in zip(
        found.model.named_parameters(), expected(name).named_parameters(), strict=True
    ):
        assert (one - other).norm() <= 1e-5 * other.norm(), path


@pytest.mark.parametrize(("micro_batch", "accumulation"), [(4, 1), (1, 4)])
def test_any_model_can_be_given_the_loss(tmp_path, micro_batch, accumulation):
    """The Trainer as it is, with rows, and a model with the loss of the adapters."""

    class Plain(Trainer):
        def _get_train_sampler(self, *_):
            return SequentialSampler(self.train_dataset)

    found = trainer(tmp_path, micro_batch=micro_batch, accumulation=accumulation, kind=Plain)
    found.model.loss_function = weighted_loss
    found.data_collator = flatten
    found.train()
    for path, other in expected("targets").named_parameters():
        one = found.model.get_parameter(path)
        assert (one - other).norm() <= 1e-5 * other.norm(), path


def test_a_trainer_that_knows_no_weights_is_refused(tmp_path):
    for collator in (collate, flatten):
        found = trainer(tmp_path, kind=Trainer)
        found.data_collator = collator
        with pytest.raises(UsageError, match="compute the loss with weighted_loss"):
            found.train()


RANK_CASES = [("targets", 1, 2), ("sum_w", 1, 2), ("targets", 2, 1)]


def trained_by_it(folder: Path) -> list[dict[str, torch.Tensor]]:
    """On several ranks: the weights after its steps, of every case."""
    found = []
    for name, micro_batch, accumulation in RANK_CASES:
        one = trainer(folder, micro_batch=micro_batch, accumulation=accumulation, denominator=name)
        assert one.accelerator.num_processes == 2
        one.train()
        found.append({path: weight.detach() for path, weight in one.model.named_parameters()})
    return found


def test_its_steps_on_two_ranks_are_ours(tmp_path):
    """Each step's four windows are shared, and its D is of them all."""
    (ranks,) = on_ranks(2, [(trained_by_it, (tmp_path,))])
    for found in ranks:
        for (name, *_), weights in zip(RANK_CASES, found, strict=True):
            for path, other in expected(name).named_parameters():
                assert (weights[path] - other).norm() <= 1e-5 * other.norm(), (name, path)


def test_its_evaluation_is_our_loss(tmp_path):
    found = trainer(tmp_path)
    ours = build(tiny_config(), window=48, backend="exact")
    ours.causal_lm.load_state_dict(model().state_dict())
    batch = collate(windows()[:4])
    batch.pop("max_seqlen")
    loss, _, _ = ours(**batch, denominator=denominator(batch, "targets"))
    assert found.evaluate()["eval_loss"] == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"arguments": {"remove_unused_columns": True}}, "the loss weights would be dropped"),
        ({"arguments": {"label_smoothing_factor": 0.1}}, "label_smoothing_factor"),
        ({"arguments": {"fp16": True}}, "fp16 is on: w / D would underflow"),
        ({"compute_loss_func": lambda *_: None}, "compute_loss_func is given"),
    ],
)
def test_settings_of_another_loss_are_refused(tmp_path, more, message):
    with pytest.raises(UsageError, match=message):
        trainer(tmp_path, **more)


def test_a_trainer_that_divides_again_is_stopped(tmp_path):
    """Versions do this that know nothing of `loss_is_scaled_for_ga`."""

    class Divides(Trainer):
        def training_step(self, *args, **more):
            return super().training_step(*args, **more) / 4

    found = trainer(tmp_path, kind=type("T", (WeightedLoss, Divides), {}))
    with pytest.raises(RuntimeError, match="scales the loss after compute_loss"):
        found.train()


def test_a_version_without_the_count_is_refused(tmp_path, monkeypatch):
    def compute_loss(self, model, inputs, return_outputs=False):
        raise AssertionError

    monkeypatch.setattr(Trainer, "compute_loss", compute_loss)
    monkeypatch.setattr(hf_trainer.transformers, "__version__", "4.40.0")
    with pytest.raises(UsageError, match=r"transformers 4\.40\.0 has no Trainer\.compute_loss"):
        trainer(tmp_path)


def test_a_model_that_leaks_is_refused(tmp_path):
    causal_lm = AutoModelForCausalLM.from_config(tiny_config(attention_dropout=0.1))
    with pytest.raises(UsageError, match=r"attention_dropout 0\.1"):
        WeightedTrainer(causal_lm, TrainingArguments(output_dir=str(tmp_path), use_cpu=True))


def test_logits_are_never_made(tmp_path):
    found = trainer(tmp_path)
    assert isinstance(found.model.forward, MethodType)
    found.model.lm_head.forward = None
    found.train()


def losses_of(logits, batch):
    """fp64 [B, L - 1]: the plain cross-entropy."""
    flat = logits[:, :-1].flatten(0, 1), plain(batch["labels"])[:, 1:].flatten()
    found = torch.nn.functional.cross_entropy(*flat, ignore_index=IGNORE, reduction="none")
    return found.double().view(len(batch["labels"]), -1)


def logits_under_autocast(ours, batch):
    """In bf16, as a linear layer under autocast makes them, and of the same operands in fp32."""
    head = ours.causal_lm.lm_head.weight
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            hidden = ours._hidden(batch["input_ids"], batch["position_ids"], batch["cu_seqlens"])
            rounded = hidden @ head.T
        return rounded, hidden.bfloat16().float() @ head.bfloat16().float().T


def test_its_evaluation_in_bf16_keeps_logits_in_fp32(tmp_path):
    ours = build(tiny_config(), window=48, backend="cpu")
    ours.causal_lm.load_state_dict(model().state_dict())
    batch = collate(windows()[:4])
    weights = batch["loss_weights"][:, 1:].double()
    rounded, exact = (
        (losses_of(logits, batch) * weights).sum() / denominator(batch, "targets")
        for logits in logits_under_autocast(ours, batch)
    )
    found = trainer(tmp_path, arguments={"bf16": True}).evaluate()["eval_loss"]
    assert found == pytest.approx(exact.item(), rel=1e-6)
    assert abs(rounded - exact) > 1e-5 * exact


# gradient_checkpointing by the name that the version has for it.
CHECKPOINTING = next(
    name
    for name in ("activation_checkpointing", "gradient_checkpointing")
    if name in TrainingArguments.__dataclass_fields__
)


def gradients_of(folder, accumulation, **arguments):
    """The gradients of every parameter in the first step."""
    found = trainer(
        folder,
        config={"initializer_range": 0.02},  # larger weights err more, Hugging Face's own alike
        micro_batch=4 // accumulation,
        accumulation=accumulation,
        arguments={"max_steps": 1, **arguments},
    )
    gradients = {}

    def keep(*_, **__):
        assert getattr(found.model, f"is_{CHECKPOINTING}") == (CHECKPOINTING in arguments)
        gradients.update((name, p.grad.clone()) for name, p in found.model.named_parameters())

    found.optimizer.register_step_pre_hook(keep)
    found.train()
    return gradients


@pytest.mark.parametrize("more", [{}, {CHECKPOINTING: True}], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("accumulation", [1, 4])
def test_its_gradients_in_bf16_are_near(tmp_path, accumulation, more):
    exact = gradients_of(tmp_path, 1)
    found = gradients_of(tmp_path, accumulation, bf16=True, **more)
    for name, expected_gradient in exact.items():
        off = (found[name] - expected_gradient).norm() / expected_gradient.norm()
        cosine = torch.cosine_similarity(found[name].flatten(), expected_gradient.flatten(), dim=0)
        assert found[name].dtype == torch.float32
        assert off <= 2e-2, name
        assert cosine > 0.999, name


def test_checkpointing_changes_nothing_but_memory(tmp_path):
    one = gradients_of(tmp_path, 4)
    other = gradients_of(tmp_path, 4, **{CHECKPOINTING: True})
    assert all(torch.equal(one[name], other[name]) for name in one)
