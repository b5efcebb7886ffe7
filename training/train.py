"""Continued pretraining on weighted windows, from start or checkpoint to the last step.

    world        the ranks
    inputs       shards, order, weights of targets; all that can be refused is refused here
    model        from a Hugging Face folder, sharded over the ranks
    step         the next global_batch windows: one denominator, micro-batches, clip, AdamW
    look         now and then: the figures of the last steps come to the host, are checked, logged
    checkpoint   model, optimizer, and how many windows were taken: all that a run goes on from

SIGTERM stops a run between two micro-batches: the ranks agree on it, a step that is not complete is
given up, and what is done is checkpointed.
"""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from torch.utils.data import DataLoader

from ..schemas.errors import ExactcptError
from .checkpoint import CheckpointManager, read_meta
from .config import TrainConfig
from .data import Batch, MicroBatches, MicroBatchOrder
from .evaluation import evaluate
from .export import export_model
from .inputs import Inputs, build_model, open_inputs
from .log import Progress, RunLog
from .metrics import Flops, LocalStep, found_not_finite, step_record
from .model import TrainModel, parallelize
from .optim import clip, learning_rate, make_optimizer
from .start import Position, find_newest, find_origin, open_log, planned_steps
from .world import World, joined

__all__ = ["Outcome", "train"]

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        finished: whether it took its last step; otherwise SIGTERM stopped it.
        step: the last step taken.
        steps: of the whole run.
        checkpoint: the newest; None if it was stopped before the first step was done.
        is_first: whether this is the rank that speaks for all.
    """

    finished: bool
    step: int
    steps: int
    checkpoint: Path | None
    is_first: bool


def train(config: TrainConfig, say: Callable[[str], None]) -> Outcome:
    """Trains to the end, or until SIGTERM; goes on from the newest checkpoint of the run.

    Args:
        config: the run. On several ranks, torchrun starts this in each.
        say: takes a line for a person; called on the first rank alone.

    Raises:
        UsageError, FormatError, IncompleteError: something is missing or does not fit together.
        ExactcptError: a loss or gradient is not finite.
    """
    with joined(config.device) as world, _termination() as terminated:
        if not world.is_first:
            say = _silent
        inputs = world.together(lambda: open_inputs(config, world))
        # One rank looks and tells: folders may change meanwhile, and a model is long to read.
        origin = world.first(lambda: find_origin(config))
        identity = inputs.identity | {"model": origin.model, "init_from": origin.earlier}
        inputs = replace(inputs, identity=identity)
        checkpoints = CheckpointManager(Path(config.out), keep=config.keep)
        newest = world.first(lambda: find_newest(config, inputs.identity))
        model = world.together(lambda: build_model(config, inputs, world))
        parallelize(
            model.to(world.device),
            world.mesh(),
            dtype=DTYPES[config.precision],
            checkpointing=config.checkpoint_activations,
            compiled=config.compile,
        )
        optimizer = make_optimizer(model, config)
        start = Position()
        if newest is not None:
            meta = read_meta(newest)
            checkpoints.load(newest, model, optimizer)
            start = Position(step=meta["step"], windows=meta["windows"])
            say(f"goes on after step {start.step:,}, from {newest}")
        elif origin.path is not None:
            checkpoints.load(origin.path, model, None)
        steps = world.together(lambda: planned_steps(config, start, inputs.windows))
        log = world.together(lambda: open_log(config, inputs, world, start))
        loop = _Loop(
            config=config,
            world=world,
            inputs=inputs,
            model=model,
            optimizer=optimizer,
            checkpoints=checkpoints,
            log=log,
            progress=Progress(say, steps),
            steps=steps,
            terminated=terminated,
        )
        try:
            return loop.run(start)
        finally:
            if log is not None:
                log.close()


class _Loop:
    """Takes the steps of a run; see the module."""

    def __init__(
        self,
        *,
        config: TrainConfig,
        world: World,
        inputs: Inputs,
        model: TrainModel,
        optimizer: torch.optim.Optimizer,
        checkpoints: CheckpointManager,
        log: RunLog | None,
        progress: Progress,
        steps: int,
        terminated: Callable[[], bool],
    ) -> None:
        self.config, self.world, self.inputs = config, world, inputs
        self.model, self.optimizer, self.checkpoints = model, optimizer, checkpoints
        self.log, self.progress = log, progress
        self.steps, self.terminated = steps, terminated
        self.flops = Flops.of(model, world.device, world.size, config)
        self.pending: list[LocalStep] = []
        self.saved: Position | None = None
        self.looked = time.monotonic()

    def run(self, at: Position) -> Outcome:
        """Takes all steps after a position."""
        config = self.config
        self._write("start", {"step": at.step, "world": self.world.size, "steps": self.steps})
        if at.step == 0:
            self._evaluate(at)
        else:
            self.saved = at
        batches = self._batches(at)
        stopped = False
        self.looked = time.monotonic()
        while at.step < self.steps:
            micro_batches = list(islice(batches, self._accumulation))
            targets, sum_w, stop = self.world.sum(
                sum(batch.targets for batch in micro_batches),
                sum(batch.sum_w for batch in micro_batches),
                self.terminated(),
            )
            denominator = targets if config.denominator == "targets" else sum_w
            done = None if stop else self._step(at.step + 1, micro_batches, denominator or 1.0)
            if done is None:
                stopped = True
                break
            at = Position(at.step + 1, at.windows + config.global_batch)
            self.pending.append(done)
            evaluates = _is_due(at.step, config.eval_every) or at.step == self.steps
            saves = _is_due(at.step, config.save_every)
            exports = _is_due(at.step, config.export_every)
            if _is_due(at.step, config.log_every) or evaluates or saves or exports:
                self._look()
            if evaluates:
                self._evaluate(at)
            if saves:
                self._save(at, wait=False)
            if exports:
                self._export(at)
        self._look()
        self._save(at, wait=True)
        self._write("end", {"step": at.step, "status": "stopped" if stopped else "finished"})
        newest = self.checkpoints.latest()
        return Outcome(not stopped, at.step, self.steps, newest, self.world.is_first)

    @property
    def _accumulation(self) -> int:
        return self.config.global_batch // (self.world.size * self.config.micro_batch)

    def _batches(self, at: Position) -> Iterator[Batch]:
        config, windows = self.config, self.inputs.windows
        order = MicroBatchOrder(
            n=len(windows),
            seed=config.seed,
            consumed=at.windows,
            steps=self.steps - at.step,
            global_batch=config.global_batch,
            micro_batch=config.micro_batch,
            rank=self.world.rank,
            world=self.world.size,
        )
        loader = DataLoader(
            MicroBatches(windows),
            batch_size=None,
            sampler=order,
            num_workers=config.loader_workers,
            # A fork would copy the threads' locks of gloo and CUDA; a fork server would die of the
            # SIGTERM that torchrun sends to all processes of a rank.
            multiprocessing_context="spawn" if config.loader_workers else None,
            worker_init_fn=_ignore_termination,
            pin_memory=self.world.device.type == "cuda",
        )
        return iter(loader)

    def _step(self, step: int, micro_batches: list[Batch], denominator: float) -> LocalStep | None:
        """Takes a step; None if SIGTERM has come meanwhile, with weights as they were."""
        device = self.world.device
        divisor = torch.tensor(denominator, dtype=torch.float64, device=device)
        sums: list[torch.Tensor] = []
        per_window: list[torch.Tensor] = []
        for host in micro_batches:
            if sums and self.world.sum(self.terminated())[0]:
                return None
            batch = host.to(device)
            loss, by_bucket, by_window = self.model(
                batch.input_ids,
                batch.position_ids,
                batch.cu_seqlens,
                batch.labels,
                batch.loss_weights,
                divisor,
            )
            loss.backward()
            sums.append(by_bucket)
            per_window.append(by_window)
        norm = clip(self.model.parameters(), self.config.clip_norm)
        rate = learning_rate(step, self.steps, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return LocalStep(
            step=step,
            sums=torch.stack(sums).sum(0),
            per_window=torch.cat(per_window),
            gradient_norm=norm,
            windows=tuple(w for batch in micro_batches for w in batch.windows),
            digests=tuple(d for batch in micro_batches for d in batch.digests),
            tokens=sum(batch.tokens for batch in micro_batches),
            visible=sum(batch.visible for batch in micro_batches),
            denominator=denominator,
            learning_rate=rate,
        )

    def _look(self) -> None:
        """Brings the figures of the steps since the last look to the log; refuses bad ones."""
        if not self.pending:
            return
        gathered = self.world.gather([step.share() for step in self.pending])
        self.pending.clear()
        now = time.monotonic()
        seconds, self.looked = now - self.looked, now
        tokens = sum(share.tokens for rank in gathered for share in rank)
        visible = sum(share.visible for rank in gathered for share in rank)
        speed = {
            "tokens_per_second": tokens / seconds,
            "mfu": self.flops.used(tokens, visible, seconds),
        }
        for shares in zip(*gathered, strict=True):
            error = found_not_finite(shares, self.inputs.windows.where)
            if error is not None:
                self._fail(error)
            record = step_record(shares, self.inputs.tail, self.config.clip_norm) | speed
            self._write("step", record)
            if self.log is not None:
                self.progress.step(record)

    def _fail(self, error: ExactcptError) -> NoReturn:
        """Ends the run on all ranks with an error that all have found."""
        self.checkpoints.wait()
        newest = self.checkpoints.latest()
        error.fix = f"the last good checkpoint is {newest}" if newest else "there is no checkpoint"
        error.fix += "; look at the text with `exactcpt show`, try a lower learning rate"
        self.world.fail(error)

    def _evaluate(self, at: Position) -> None:
        began = time.monotonic()
        for eval_set in self.inputs.eval_sets:
            record = {"step": at.step, **evaluate(self.model, eval_set, self.world)}
            if not math.isfinite(record["loss"]):
                self._fail(
                    ExactcptError(
                        f"the loss on {eval_set.name} is not finite after step {at.step}",
                        where=str(eval_set.windows.shards.root),
                    )
                )
            self._write("eval", record)
            self.progress.evaluation(record)
        self.looked += time.monotonic() - began

    def _save(self, at: Position, *, wait: bool) -> None:
        # Before the first step the optimizer has no state yet; to begin again is the same.
        if at.step and self.saved != at:
            began = time.monotonic()
            meta = {
                "step": at.step,
                "windows": at.windows,
                "identity": self.inputs.identity,
                "settings": self.config.recorded(),
            }
            self.checkpoints.save(at.step, self.model, self.optimizer, meta, wait=wait)
            self.saved = at
            self._write("checkpoint", {"step": at.step, "windows": at.windows})
            self.looked += time.monotonic() - began
        if wait:
            self.checkpoints.wait()

    def _export(self, at: Position) -> None:
        began = time.monotonic()
        out = Path(self.config.out) / "exports" / f"step-{at.step:08d}"
        export_model(self.model, Path(self.config.model), out)
        self.looked += time.monotonic() - began

    def _write(self, kind: str, record: dict[str, Any]) -> None:
        if self.log is not None:
            self.log.write(kind, record)


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _silent(_: str) -> None:
    """Other ranks than the first say nothing."""


def _ignore_termination(_: int) -> None:
    """A worker of the loader ends with its rank, which still needs it to stop in good order."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def _termination() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM has come, instead of being ended by it."""
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, before)
