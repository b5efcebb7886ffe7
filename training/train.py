"""Continued pretraining on weighted windows, from start or checkpoint to the last step.

    world        the ranks
    inputs       shards, order, weights of targets; all that can be refused is refused here
    model        from a Hugging Face folder, sharded over the ranks
    step         the next global_batch windows: one denominator, micro-batches, clip, AdamW
    look         now and then: the figures of the last steps come to the host, are checked, logged
    checkpoint   model, optimizer, and how many windows were taken: all that a run goes on from

SIGTERM stops a run between two micro-batches, of a step or of an evaluation: the ranks agree on it,
what is not complete is given up, and what is done is checkpointed. The run that goes on does what
was given up.
"""

import math
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, takewhile
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from torch.utils.data import DataLoader

from ..schemas.errors import ExactcptError
from .config import TrainConfig
from .models.model import TrainModel, parallelize
from .models.optim import clip, learning_rate, make_optimizer
from .run.checkpoint import CheckpointManager
from .run.evaluation import evaluate
from .run.export import export_model
from .run.folder import held
from .run.inputs import Inputs, build_model, open_inputs
from .run.log import Progress, RunLog, stretches
from .run.metrics import Flops, LocalStep, found_not_finite, step_record
from .run.start import Position, Start, cautions, find_start, open_log, planned_steps
from .run.world import World, joined
from .windows.batches import Batch, MicroBatches, MicroBatchOrder

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
    with (
        _termination() as terminated,
        joined(config.device) as world,
        held(Path(config.out), world),
    ):
        if not world.is_first:
            say = _silent
        inputs = world.together(lambda: open_inputs(config, world))
        # One rank looks and tells: folders may change meanwhile, and a model is long to read.
        start = world.first(lambda: find_start(config, inputs))
        model = world.together(lambda: build_model(config, inputs, world))
        parallelize(
            model,
            world.mesh(),
            dtype=DTYPES[config.precision],
            checkpointing=config.checkpoint_activations,
            compiled=config.compile,
        )
        optimizer = make_optimizer(model, config)
        checkpoints = CheckpointManager(Path(config.out), keep=config.keep)
        if start.checkpoint is not None:
            checkpoints.load(start.checkpoint, model, optimizer if start.at.step else None)
        steps = world.together(lambda: planned_steps(config, start.at, inputs.windows))
        if start.note is not None:
            say(start.note)
        for line in cautions(config, inputs, steps):
            say(line)
        log = world.together(lambda: open_log(config, inputs, world, start))
        loop = _Loop(
            config=config,
            world=world,
            inputs=inputs,
            start=start,
            model=model,
            optimizer=optimizer,
            checkpoints=checkpoints,
            log=log,
            progress=Progress(say, steps),
            steps=steps,
            terminated=terminated,
        )
        try:
            return loop.run()
        finally:
            checkpoints.close()
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
        start: Start,
        model: TrainModel,
        optimizer: torch.optim.Optimizer,
        checkpoints: CheckpointManager,
        log: RunLog | None,
        progress: Progress,
        steps: int,
        terminated: Callable[[], bool],
    ) -> None:
        self.config, self.world, self.inputs, self.start = config, world, inputs, start
        self.model, self.optimizer, self.checkpoints = model, optimizer, checkpoints
        self.log, self.progress = log, progress
        self.steps, self.terminated = steps, terminated
        self.flops = Flops.of(model, world.device, world.size, config)
        self.pending: list[LocalStep] = []
        self.saved: Position | None = None
        self.looked = time.monotonic()

    def run(self) -> Outcome:
        """Takes all steps that are left."""
        at = self.start.at
        if at.step:
            self.saved = at
        done = self.world.first(lambda: self._found(at))
        settings = self.config.recorded() | {
            "device": self.world.device.type,
            "attention": self.model.backend,
        }
        begun = {"step": at.step, "world": self.world.size, "steps": self.steps}
        self._write("start", begun | {"settings": settings})
        goes_on = self._after(at, done)
        batches = self._batches(at)
        self.looked = time.monotonic()
        while goes_on and at.step < self.steps:
            micro_batches = self._next(batches)
            targets, sum_w, stop = self.world.sum(
                sum(batch.targets for batch in micro_batches),
                sum(batch.sum_w for batch in micro_batches),
                self.terminated(),
            )
            denominator = targets if self.config.denominator == "targets" else sum_w
            taken = None if stop else self._step(at.step + 1, micro_batches, denominator or 1.0)
            if taken is None:
                goes_on = False
                break
            at = Position(at.step + 1, at.windows + self.config.global_batch)
            self.pending.append(taken)
            goes_on = self._after(at)
        self._look()
        self._save(at, wait=True)
        self._write("end", {"step": at.step, "status": "finished" if goes_on else "stopped"})
        newest = self.checkpoints.latest()
        return Outcome(goes_on, at.step, self.steps, newest, self.world.is_first)

    def _after(self, at: Position, done: Collection[str] = ()) -> bool:
        """Does what is due after a step; False if SIGTERM has come before all was done.

        Args:
            at: the step.
            done: what is left out, as `_found` names it.
        """
        config = self.config
        evaluates = at.step in (0, self.steps) or _is_due(at.step, config.eval_every)
        exports = _is_due(at.step, config.export_every)
        # An export takes long: if it is killed or fails, no step is lost.
        saves = exports or _is_due(at.step, config.save_every)
        if _is_due(at.step, config.log_every) or evaluates or saves:
            self._look()
        if evaluates and not self._evaluate(at, done):
            return False
        if saves:
            self._save(at, wait=exports)
        if exports and "export" not in done:
            if self._is_over():
                return False
            self._export(at)
        return True

    def _found(self, at: Position) -> set[str]:
        """What was done after a step before the run was ended: "eval NAME", "export"."""
        others = self.log.others if self.log is not None else ()
        evals = [r for r in others if r["kind"] == "eval" and r["step"] == at.step]
        found = {
            f"eval {each.name}"
            for each in self.inputs.eval_sets
            if any(each.identity.items() <= record.items() for record in evals)
        }
        return found | ({"export"} if self._export_of(at).exists() else set())

    def _is_over(self) -> bool:
        """Whether SIGTERM has come to any rank; all ask at the same time."""
        return bool(self.world.sum(self.terminated())[0])

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
        # Workers begin with the blocked signals of this thread: none dies while it still imports.
        if config.loader_workers:
            resource_tracker.ensure_running()  # it would unblock them when it starts
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            return iter(loader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def _next(self, batches: Iterator[Batch]) -> list[Batch]:
        """The micro-batches of a step, or a part of them if SIGTERM has come."""
        ours = takewhile(lambda _: not self.terminated(), batches)
        return list(islice(ours, self._accumulation))

    def _step(self, step: int, micro_batches: list[Batch], denominator: float) -> LocalStep | None:
        """Takes a step; None if SIGTERM has come meanwhile, with weights as they were."""
        device = self.world.device
        divisor = torch.full((), denominator, dtype=torch.float64, device=device)
        sums: list[torch.Tensor] = []
        per_window: list[torch.Tensor] = []
        for host in micro_batches:
            if sums and self._is_over():
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
        self._log_saved()
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
        self.checkpoints.settle()
        self._log_saved()
        newest = self.checkpoints.latest()
        error.fix = f"the last good checkpoint is {newest}" if newest else "there is no checkpoint"
        error.fix += "; look at the text with `exactcpt show`, try a lower learning rate"
        error.fix += "" if newest else ", see that the model's weights are finite"
        self.world.fail(error)

    def _evaluate(self, at: Position, done: Collection[str]) -> bool:
        """Measures on all eval sets but those that are done; False if SIGTERM has come."""
        began = time.monotonic()
        for eval_set in self.inputs.eval_sets:
            if f"eval {eval_set.name}" in done:
                continue
            found = evaluate(self.model, eval_set, self.world, self._is_over)
            if found is None:
                return False
            if not math.isfinite(found["loss"]):
                self._fail(
                    ExactcptError(
                        f"the loss on {eval_set.name} is not finite after step {at.step}",
                        where=str(eval_set.windows.shards.root),
                    )
                )
            record = {"step": at.step, **found}
            self._write("eval", record)
            self.progress.evaluation(record)
        self.looked += time.monotonic() - began
        return True

    def _save(self, at: Position, *, wait: bool) -> None:
        # Before the first step the optimizer has no state yet; to begin again is the same.
        if at.step and self.saved != at:
            began = time.monotonic()
            meta = {
                "step": at.step,
                "windows": at.windows,
                "identity": self.start.identity,
                "settings": self.config.recorded(),
                "stretches": stretches(self.log.others) if self.log is not None else [],
                "earlier": self.start.earlier,
            }
            failure = self.checkpoints.save(at.step, self.model, self.optimizer, meta, wait=wait)
            if failure is not None:
                self._write("failure", {"step": at.step, "error": failure.found})
                self.progress.warning(f"{failure.found}; tried again after step {at.step:,}")
            self.saved = at
            self.looked += time.monotonic() - began
        if wait:
            self.checkpoints.wait()
            self._log_saved()

    def _log_saved(self) -> None:
        for meta in self.checkpoints.completed():
            self._write("checkpoint", {name: meta[name] for name in ("step", "windows")})

    def _export(self, at: Position) -> None:
        began = time.monotonic()
        export_model(self.model, Path(self.config.model), self._export_of(at))
        self.looked += time.monotonic() - began

    def _export_of(self, at: Position) -> Path:
        return Path(self.config.out) / "exports" / f"step-{at.step:08d}"

    def _write(self, kind: str, record: dict[str, Any]) -> None:
        if self.log is not None:
            self.log.write(kind, record)


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step > 0 and step % every == 0


def _silent(_: str) -> None:
    """Other ranks than the first say nothing."""


def _ignore_termination(_: int) -> None:
    """A worker of the loader ends with its rank, which still needs it to stop in good order."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def _termination() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM has come, instead of being ended by it.

    After one, others are ignored to the end: none may cut short what the process still has to do.
    """
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if received else before)
