"""A run that is open: everything is read and checked, and ready for the next step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..config import TrainConfig
from ..models.kernels import attention_kernel, can_compile
from ..models.loss import has_kernel
from ..models.model import TrainModel, parallelize
from ..models.optim import make_optimizer
from ..models.spreading import fill, values_of
from .alike import check_alike
from .checked import hashed_model
from .checkpoint import CheckpointManager
from .gradient_norms import gradient_norms
from .inputs import Inputs, attention_for, build_model, open_inputs
from .log import Progress, RunLog
from .metrics import Flops
from .start import Start, cautions, find_start, open_log, planned_steps
from .world import World

__all__ = ["Run", "open_run"]

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that the steps of a run need.

    Attributes:
        config: its settings.
        world: its ranks.
        inputs: what it trains on and what it is evaluated on.
        start: where it starts.
        steps: number of steps of the whole run.
        norms: what the gradient of each step is scaled to; None for no scaling.
        model: sharded over the ranks, with the weights that the run starts with.
        compiled: whether its blocks are compiled.
        attention_kernel: what its attention runs; None if its backend has no choice.
        optimizer: of the model, with the state that the run starts with.
        checkpoints: saves the model and the optimizer.
        flops: counts the work of training the model.
        log: on the first rank; None on the others.
        progress: tells a person how training goes.
    """

    config: TrainConfig
    world: World
    inputs: Inputs
    start: Start
    steps: int
    norms: Sequence[float] | None
    model: TrainModel
    compiled: bool
    attention_kernel: str | None
    optimizer: torch.optim.Optimizer
    checkpoints: CheckpointManager
    flops: Flops
    log: RunLog | None
    progress: Progress

    @property
    def accumulation(self) -> int:
        """Micro-batches that a rank takes in each step."""
        return self.config.global_batch // (self.world.size * self.config.micro_batch)

    @property
    def recorded(self) -> list[dict[str, Any]]:
        """The log's records except those of steps; empty on all ranks but the first."""
        return self.log.others if self.log is not None else []

    def write(self, kind: str, record: dict[str, Any]) -> None:
        """Adds a record to the log, on the first rank."""
        if self.log is not None:
            self.log.write(kind, record)

    def sync(self) -> None:
        """Waits until the log is on the disk."""
        if self.log is not None:
            self.log.sync()

    def close(self) -> None:
        """Completes the checkpoint that is being written and closes the log."""
        self.checkpoints.close()
        if self.log is not None:
            self.log.close()


def open_run(config: TrainConfig, world: World, say: Callable[[str], None]) -> Run:
    """Opens a run, new or to be continued.

    Args:
        config: its settings.
        world: the ranks; all call this.
        say: takes a line for a person; called on the first rank, and on one that copies shards.

    Raises:
        UsageError, FormatError, IncompleteError: something is missing or does not fit together.
    """
    inputs = world.together(lambda: open_inputs(config, world, say))
    if not world.is_first:
        say = _silent
    trained = _same_inputs(config, inputs, world)
    # One rank looks for all: folders may change meanwhile.
    start = world.first(lambda: find_start(config, inputs, trained))
    compiled = (
        world.device.type == "cuda" and can_compile() if config.compile is None else config.compile
    )
    kernel = attention_kernel(attention_for(config, world.device.type), world.device)
    model = _sharded_model(config, inputs, world, compiled=compiled)
    optimizer = make_optimizer(model, config)
    checkpoints = CheckpointManager(Path(config.out), keep=config.keep)
    if start.checkpoint is not None:
        with world.agreed():
            checkpoints.load(start.checkpoint, model, optimizer if start.at.step else None)
    windows = inputs.windows
    steps = world.together(lambda: planned_steps(config, start.at, len(windows), windows.window))
    norms = world.first(lambda: gradient_norms(config, steps))
    if start.note is not None:
        say(start.note)
    if world.device.type == "cuda":
        say(_on_the_device(model, kernel, compiled))
    for line in cautions(config, inputs, steps):
        say(line)
    return Run(
        config=config,
        world=world,
        inputs=inputs,
        start=start,
        steps=steps,
        norms=norms,
        model=model,
        compiled=compiled,
        attention_kernel=kernel,
        optimizer=optimizer,
        checkpoints=checkpoints,
        flops=Flops.of(model, world.device, world.size, config),
        log=world.together(lambda: open_log(config, inputs, world, start)),
        progress=Progress(say, steps, config.global_batch * inputs.windows.window),
    )


def _same_inputs(config: TrainConfig, inputs: Inputs, world: World) -> str:
    """Checks that all ranks read the same; returns the fingerprint of the model.

    Machines may have copies of their own. A model takes long to read: one rank of each machine
    does.
    """
    trained = world.together(lambda: hashed_model(config) if world.is_first_here else None)
    evals = {
        f"the shards of --eval {each.name}": each.windows.shards.fingerprint
        for each in inputs.eval_sets
    }
    check_alike(
        {
            "the shards": inputs.shards.fingerprint,
            **evals,
            "the weight table": inputs.identity["weight_table"],
            "the model": trained,
        },
        world,
        fix="give every machine the same files, or folders that they share",
    )
    return world.gather(trained)[0]  # type: ignore[return-value]  # rank 0 has read it


def _sharded_model(
    config: TrainConfig, inputs: Inputs, world: World, *, compiled: bool
) -> TrainModel:
    """The model with its weights, which one rank reads for all."""
    shared = world.size > 1
    model = world.together(lambda: build_model(config, inputs, world, empty=shared))
    values = world.together(
        lambda: values_of(build_model(config, inputs, world)) if shared and world.is_first else None
    )
    parallelize(
        model,
        world.mesh(config.shard_over),
        dtype=DTYPES[config.precision],
        checkpointing=config.checkpoint_activations,
        keeps_products=config.keep_products,
        compiled=compiled,
    )
    if shared:
        fill(model, values, world.device)
    return model


def _on_the_device(model: TrainModel, kernel: str | None, compiled: bool) -> str:
    """A line about what is fast and what is not."""
    attention = model.backend if kernel is None else f"{model.backend} ({kernel})"
    without = "without a kernel: Triton or a C compiler is missing"
    return (
        f"attention {attention}, blocks {'compiled' if compiled else 'not compiled'}, "
        f"loss {'in a kernel' if has_kernel() else without}"
    )


def _silent(_: str) -> None:
    """The other ranks say nothing."""
