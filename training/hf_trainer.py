"""The weighted loss in a `transformers.Trainer`.

    class MyTrainer(WeightedLoss, Trainer): ...

    trainer = MyTrainer(
        model=AutoModelForCausalLM.from_pretrained(...),
        args=TrainingArguments(..., remove_unused_columns=False),
        train_dataset=ShardDataset("shards"),
        data_collator=collate,
        denominator="targets",
    )

The Trainer divides the loss of every micro-batch by one number that it counts over the
micro-batches of a step (`num_items_in_batch`): the D of `models.loss`. What it counts, and what
else it divides by, has changed from version to version. So D is counted here, and the first step
checks whether the Trainer has changed the loss after all; if it has, training stops.

The model gets the attention function of `models.attention` and a forward that returns the loss:
logits are never made. To generate text, load the model that the Trainer has saved.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MethodType
from typing import Any, Literal

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..schemas.errors import UsageError
from .models.attention import default_backend
from .models.loss import IGNORE
from .models.model import TrainModel, check_config
from .windows.batches import ShardDataset, collate

__all__ = ["ShardDataset", "WeightedLoss", "collate"]

Denominator = Literal["targets", "sum_w"]

BATCH = ("input_ids", "position_ids", "cu_seqlens", "labels", "loss_weights")


class WeightedLoss:
    """A mixin for `Trainer`: the loss is sum w ce / D over the whole step, on all ranks.

    It stands before `Trainer` among the base classes.

    Args:
        model: of a type that `exactcpt train` takes, not wrapped yet.
        denominator: D: the number of supervised targets, or the sum of their weights.
        backend: one of `attention.BACKENDS`; by default the one for the device.

    Raises:
        UsageError: the model leaks between documents, the settings would change the loss, or the
            version of transformers lacks what this class builds on.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *args: Any,
        denominator: Denominator = "targets",
        backend: str | None = None,
        **more: Any,
    ) -> None:
        _check_version(type(self))
        check_config(model.config)
        super().__init__(model, *args, **more)  # type: ignore[call-arg]
        _check_settings(self)
        self._denominator = denominator
        self._seen: Tensor | None = None
        self._checked = False
        self.model_accepts_loss_kwargs = True  # do not divide by the number of micro-batches
        self.loss_is_scaled_for_ga = True  # the same, in newer versions
        inner = TrainModel(model, backend or default_backend(self.args.device.type))  # type: ignore[attr-defined]
        model.forward = MethodType(_forward_of(inner), model)  # type: ignore[method-assign]

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, *more: Any
    ) -> tuple[list[Any], Tensor]:
        """The micro-batches of a step, and its D over all ranks, in fp64."""
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, *more)  # type: ignore[misc]
        own = sum((self._count(sample) for sample in samples), torch.zeros((), dtype=torch.float64))
        return samples, self.accelerator.reduce(own.to(self.args.device), "sum")  # type: ignore[attr-defined]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """The micro-batch's share of the step's loss; in evaluation, its own loss."""
        batch = {name: inputs[name] for name in BATCH}
        if model.training and num_items_in_batch is None:
            raise RuntimeError("the Trainer did not pass on the count of get_batch_samples")
        denominator = num_items_in_batch if model.training else self._count(inputs)
        loss, _, _ = model(**batch, denominator=denominator)
        self._seen = loss.detach()
        if model.training:
            loss = loss * self.accelerator.num_processes  # type: ignore[attr-defined]  # gradients are averaged
        return (loss, {}) if return_outputs else loss

    def training_step(self, *args: Any, **more: Any) -> Tensor:
        """Trains on a micro-batch; in the first step, checks that its loss was not scaled again."""
        reported = super().training_step(*args, **more)  # type: ignore[misc]
        if not self._checked:
            processes = self.accelerator.num_processes  # type: ignore[attr-defined]
            _check_scale(reported, self._seen, processes)
            self._checked = self.state.global_step > 0  # type: ignore[attr-defined]
        return reported

    def _count(self, batch: Mapping[str, Any]) -> Tensor:
        supervised = batch["labels"] != IGNORE
        counted = supervised if self._denominator == "targets" else batch["loss_weights"]
        return counted.double().mul(supervised).sum()


def _forward_of(inner: TrainModel) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    def forward(model: PreTrainedModel, **batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # `model` is not used: accelerate takes the function and binds it to the model again.
        return inner(**batch)

    return forward


def _check_version(kind: type) -> None:
    """Checks that this version's Trainer has the overridden methods, with the arguments used."""
    trainer = next((base for base in kind.__mro__ if base.__name__ == "Trainer"), None)
    if trainer is None:
        raise UsageError(
            "WeightedLoss is used without a Trainer", fix="class T(WeightedLoss, Trainer)"
        )
    needed = {"get_batch_samples": "num_batches", "compute_loss": "num_items_in_batch"}
    for method, argument in needed.items():
        function = getattr(trainer, method, None)
        if function is None or argument not in inspect.signature(function).parameters:
            raise UsageError(
                f"transformers {transformers.__version__} has no Trainer.{method} with {argument}:"
                " the loss of a step could not be divided by one number",
                expected="transformers 5.17 or newer",
            )


def _check_settings(trainer: Any) -> None:
    arguments = trainer.args
    wrong = {
        "remove_unused_columns is on: the loss weights would be dropped": (
            arguments.remove_unused_columns
        ),
        "fp16 is on: w / D would underflow": arguments.fp16,
        "label_smoothing_factor is not 0": arguments.label_smoothing_factor,
        "compute_loss_func is given": trainer.compute_loss_func,
        "one process has several GPUs (DataParallel)": arguments.n_gpu > 1,
        "DeepSpeed is on: it divides the loss itself": trainer.is_deepspeed_enabled,
        "accelerate divides the loss once more": (
            trainer.accelerator.gradient_accumulation_steps != 1
        ),
    }
    for found, present in wrong.items():
        if present:
            raise UsageError(
                found,
                expected="settings with which the loss of a step is sum w ce / D",
                fix="change the TrainingArguments",
            )


def _check_scale(reported: Tensor, seen: Tensor | None, processes: int) -> None:
    if seen is None or not torch.equal(reported.cpu(), seen.cpu() * processes):
        raise RuntimeError(
            f"transformers {transformers.__version__} scales the loss after compute_loss: gradients"
            " would be wrong. Use another version, or exactcpt train"
        )
