"""Continued pretraining on weighted windows, from a model or a checkpoint to the last step.

    world        the ranks
    inputs       shards, order, weights of targets; whatever can be refused is refused here
    model        from a Hugging Face folder, fetched if need be, sharded over the ranks
    step         the next global_batch windows: one denominator, micro-batches, clipping, AdamW
                 a step whose loss or gradient is not finite is skipped: its windows are done, and
                 weights and optimizer stay as they are
    look         now and then: brings the figures of the last steps to the host, checks, logs them
    checkpoint   model, optimizer, and the number of windows taken: all that a run continues from

SIGTERM or Ctrl-C stops a run between two micro-batches of a step or an evaluation. The ranks agree
to stop, give up what is not complete, and write a checkpoint of what is. When the run is continued,
it does again what was given up. What the ranks have to tell each other in a step travels together:
one sum before the step has its denominator and whether to stop, and the norm of the gradient tells
all of them whether the step is skipped. Only in a step that takes seconds do they ask in between
whether to stop (`run/questions.py`).
"""

import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import NoReturn

import torch

from ..schemas.errors import ExactcptError
from ..schemas.sizes import plural
from .config import TrainConfig
from .models.model import reduce_at
from .models.optim import clip, gradient_of_loss, learning_rate, update
from .run.alike import check_settings
from .run.determinism import determinism
from .run.evaluation import evaluate
from .run.export import export_model
from .run.folder import held
from .run.located import with_model_folder
from .run.log import stretches
from .run.lost_ranks import with_lost_ranks_told
from .run.memory import with_advice
from .run.metrics import LocalStep, found_not_finite, memory_held, step_record
from .run.opening import Run, open_run
from .run.profiling import profiled
from .run.questions import Questions
from .run.start import Position
from .run.termination import grace_caution, termination
from .run.world import joined
from .windows.expansion import Expander
from .windows.loading import MicroBatchOrder, loaded_batches
from .windows.micro_batch import Batch

__all__ = ["Outcome", "is_due", "train"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        finished: whether it took its last step; otherwise it was asked to stop.
        step: number of the last step taken.
        steps: number of steps of the whole run.
        skipped: number of steps that were skipped among those taken.
        checkpoint: the newest one; None if the run was stopped in its first step.
        is_first: whether this is the rank that prints for all.
    """

    finished: bool
    step: int
    steps: int
    skipped: int
    checkpoint: Path | None
    is_first: bool


def train(config: TrainConfig, say: Callable[[str], None]) -> Outcome:
    """Trains from the newest checkpoint of the run, if it has one, to the last step or a signal.

    Args:
        config: the settings of the run. On several ranks, torchrun calls this in each.
        say: takes a line for a person; called on the first rank only.

    Raises:
        UsageError, FormatError, IncompleteError: something is missing or does not fit together.
        ExactcptError: too many steps had a loss or gradient that is not finite, or the device has
            no memory left.
    """
    with (
        determinism(config.deterministic),
        termination(say) as is_terminated,
        joined(config.device) as world,
        with_advice(config, world),
        with_lost_ranks_told(world),
    ):
        check_settings(config, world)
        config = with_model_folder(config, world, say)
        with held(Path(config.out), world), closing(open_run(config, world, say)) as run:
            return _Loop(run, is_terminated).take_steps()


class _Loop:
    """Takes the steps of a run; see the module.

    Attributes:
        run: the open run.
        is_terminated: tells whether SIGTERM or SIGINT has come to this rank.
        expand: makes the model's inputs from batches on the device.
        questions: how often the ranks ask each other whether to stop.
        skipped: number of steps that were skipped, among those that were looked at.
        cautioned: whether a person knows that a checkpoint may take too long.
        pending: steps whose figures are still on the device.
        saved: position of the newest checkpoint; None before the first one.
        looked: time of the last look, moved forward by the time spent on anything but training.
    """

    def __init__(self, run: Run, is_terminated: Callable[[], bool]) -> None:
        self.run = run
        self.is_terminated = is_terminated
        self.expand = Expander(run.inputs.windows.weighting, run.world.device)
        self.questions = Questions(run.accumulation)
        self.skipped = run.start.skipped
        self.cautioned = False
        self.pending: list[LocalStep] = []
        self.saved: Position | None = None
        self.looked = time.monotonic()

    def take_steps(self) -> Outcome:
        """Takes all steps that are left."""
        run, at = self.run, self.run.start.at
        if at.step:
            self.saved = at
        done = run.world.first(lambda: self._done(at))
        self._write_start(at)
        goes_on = self._after(at, done)
        with self._batches(at) as batches, self._profiled(at) as note_step:
            self.looked = time.monotonic()
            while goes_on and at.step < run.steps:
                taken = self._step(at.step + 1, self._next(batches))
                if taken is None:
                    goes_on = False
                    break
                at = Position(at.step + 1, at.windows + run.config.global_batch)
                self.pending.append(taken)
                note_step()
                goes_on = self._after(at)
        self._look()
        self._save(at, wait=True)
        run.world.first(run.checkpoints.tidy)
        run.write("end", {"step": at.step, "status": "finished" if goes_on else "stopped"})
        newest = run.checkpoints.latest()
        return Outcome(goes_on, at.step, run.steps, self.skipped, newest, run.world.is_first)

    def _write_start(self, at: Position) -> None:
        run = self.run
        settings = run.config.recorded() | {
            "device": run.world.device.type,
            "attention": run.model.backend,
            "attention_kernel": run.attention_kernel,
            "compile": run.compiled,
        }
        begun = {"step": at.step, "world": run.world.size, "steps": run.steps}
        run.write("start", begun | {"settings": settings})

    def _after(self, at: Position, done: Collection[str] = ()) -> bool:
        """Does what is due after a step; False if the run is to stop before all of it was done.

        Args:
            at: the progress of the run.
            done: what to leave out, as `_done` names it.
        """
        config = self.run.config
        evaluates = at.step in (0, self.run.steps) or is_due(at.step, config.eval_every)
        exports = is_due(at.step, config.export_every)
        # An export takes long. With a checkpoint before it, no step is lost if it fails.
        saves = exports or is_due(at.step, config.save_every)
        if is_due(at.step, config.log_every) or evaluates or saves:
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

    def _done(self, at: Position) -> set[str]:
        """What an earlier process did after this step: "eval NAME", "export"."""
        evals = [r for r in self.run.recorded if r["kind"] == "eval" and r["step"] == at.step]
        found = {
            f"eval {each.name}"
            for each in self.run.inputs.eval_sets
            if any(each.identity.items() <= record.items() for record in evals)
        }
        return found | ({"export"} if self._export_of(at).exists() else set())

    def _is_over(self) -> bool:
        """Whether any rank is asked to stop; all ranks ask at the same time."""
        return bool(self.run.world.sum(self.is_terminated())[0])

    def _batches(self, at: Position) -> AbstractContextManager[Iterator[Batch]]:
        """This rank's micro-batches of all steps that are left."""
        run, config = self.run, self.run.config
        order = MicroBatchOrder(
            n=len(run.inputs.windows),
            seed=config.seed,
            consumed=at.windows,
            steps=run.steps - at.step,
            global_batch=config.global_batch,
            micro_batch=config.micro_batch,
            rank=run.world.rank,
            world=run.world.size,
            mix=run.inputs.mix,
        )
        return loaded_batches(
            run.inputs.windows,
            order,
            workers=config.loader_workers,
            pin_memory=run.world.device.type == "cuda",
        )

    def _profiled(self, at: Position) -> AbstractContextManager[Callable[[], None]]:
        """Traces the steps that are asked for."""
        config, say = self.run.config, self.run.progress.note
        out = Path(config.out)
        return profiled(out, self.run.world, after=at.step, steps=config.profile, say=say)

    def _next(self, batches: Iterator[Batch]) -> list[Batch]:
        """The micro-batches of a step, or some of them if the run is to stop."""
        ours = takewhile(lambda _: not self.is_terminated(), batches)
        return list(islice(ours, self.run.accumulation))

    def _step(self, step: int, micro_batches: list[Batch]) -> LocalStep | None:
        """Takes a step; None if the run is to stop, and the weights are unchanged."""
        run = self.run
        targets, sum_w, stop, proposed = run.world.sum(
            sum(batch.targets for batch in micro_batches),
            sum(batch.sum_w for batch in micro_batches),
            self.is_terminated(),
            self.questions.proposed(),
        )
        if stop:
            return None
        denominator = (targets if run.config.denominator == "targets" else sum_w) or 1.0
        # A single rank asks itself, which costs nothing.
        apart = 1 if run.world.size == 1 else int(proposed) // run.world.size
        found = self._backward(micro_batches, denominator, ask_every=apart)
        if found is None:
            return None
        sums, per_window = found
        norm_there = None if run.norms is None else run.norms[step - 1]
        norm = clip(run.model.parameters(), run.config.clip_norm, to=norm_there)
        rate = learning_rate(step, run.steps, run.config)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        update(run.optimizer, skip=~torch.isfinite(norm))
        run.optimizer.zero_grad()
        return LocalStep(
            step=step,
            sums=sums,
            per_window=per_window,
            gradient_norm=norm,
            scaled_to=norm_there,
            windows=tuple(w for batch in micro_batches for w in batch.windows),
            digests=tuple(d for batch in micro_batches for d in batch.digests),
            tokens=sum(batch.tokens for batch in micro_batches),
            visible=sum(batch.visible for batch in micro_batches),
            denominator=denominator,
            learning_rate=rate,
        )

    def _backward(
        self, micro_batches: list[Batch], denominator: float, *, ask_every: int
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Adds up the gradients of a step.

        Args:
            micro_batches: this rank's part of the step.
            denominator: D of the step.
            ask_every: number of micro-batches after which the ranks ask each other whether to
                stop; the same on all of them.

        Returns:
            The sums by bucket of all micro-batches [4, buckets], and the sum of cross-entropies of
            each window; None if the run is to stop.
        """
        device = self.run.world.device
        divisor = torch.full((), denominator, dtype=torch.float64, device=device)
        sums: list[torch.Tensor] = []
        per_window: list[torch.Tensor] = []
        for taken, host in enumerate(micro_batches):
            if taken and taken % ask_every == 0 and self._is_over():
                return None
            last = taken == len(micro_batches) - 1
            reduce_at(self.run.model, last=last, once=self.run.config.reduce_once)
            inputs = self.expand(host.to(device))
            loss, by_bucket, by_window = self.run.model(*inputs, divisor, host.longest)
            loss.backward(gradient_of_loss(loss, by_window))
            sums.append(by_bucket)
            per_window.append(by_window)
        return torch.stack(sums).sum(0), torch.cat(per_window)

    def _look(self) -> None:
        """Logs the figures of the steps since the last look; fails if too many were skipped."""
        self._log_saved()
        if not self.pending:
            return
        ours = [step.share() for step in self.pending]
        told = self.run.world.gather((ours, memory_held(self.run.world.device)))
        gathered, memory = zip(*told, strict=True)
        self.pending.clear()
        now = time.monotonic()
        seconds, self.looked = now - self.looked, now
        tokens = sum(share.tokens for rank in gathered for share in rank)
        visible = sum(share.visible for rank in gathered for share in rank)
        speed = {
            "tokens_per_second": tokens / seconds,
            "mfu": self.run.flops.used(tokens, visible, seconds),
            "memory": max((held for held in memory if held is not None), default=None),
        }
        for shares in zip(*gathered, strict=True):
            error = found_not_finite(shares, self.run.inputs.windows.where)
            if error is not None and self.skipped >= self.run.config.max_bad_steps:
                self._fail_skipping(error)
            record = step_record(shares, self.run.inputs.tail, self.run.config.clip_norm) | speed
            if self.run.inputs.mix is not None:
                taken = [window for share in shares for window in share.windows]
                record["mix"] = self.run.inputs.mix.counts(taken)
            self.run.write("step", record)
            if error is not None:
                self._note_skipped(record["step"], error)
            elif self.run.log is not None:
                self.run.progress.step(record)

    def _note_skipped(self, step: int, error: ExactcptError) -> None:
        """Counts and reports a step that was skipped."""
        self.skipped += 1
        record = {"step": step, "error": error.found, "where": error.where, "skipped": self.skipped}
        self.run.write("skipped", record)
        if self.run.log is not None:
            most = self.run.config.max_bad_steps
            self.run.progress.warning(
                f"{error.found} ({error.where}); the step is skipped, {self.skipped} of {most}"
            )

    def _fail_skipping(self, error: ExactcptError) -> NoReturn:
        """Ends the run with the error of a step that is one too many to be skipped."""
        if self.skipped:
            before = plural(self.skipped, "earlier step was", "earlier steps were")
            error.found += f"; {before} skipped for the same reason"
        self._fail(error, "allow more such steps with --max-bad-steps")

    def _fail(self, error: ExactcptError, *advice: str) -> NoReturn:
        """Ends the run on all ranks with an error that all of them found, and with more advice."""
        self.run.checkpoints.settle()
        self._log_saved()
        newest = self.run.checkpoints.latest()
        error.fix = f"the last good checkpoint is {newest}" if newest else "there is no checkpoint"
        tried = ["look at the text with `exactcpt show`", "try a lower learning rate", *advice]
        if not newest:
            tried.append("check that the model's weights are finite")
        error.fix = "; ".join([error.fix, ", ".join(tried)])
        self.run.world.fail(error)

    def _evaluate(self, at: Position, done: Collection[str]) -> bool:
        """Evaluates on all eval sets that are not done yet; False if the run is to stop."""
        began = time.monotonic()
        for eval_set in self.run.inputs.eval_sets:
            if f"eval {eval_set.name}" in done:
                continue
            found = evaluate(self.run.model, eval_set, self.run.world, self._is_over)
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
            self.run.write("eval", record)
            self.run.progress.evaluation(record)
        self.looked += time.monotonic() - began
        return True

    def _save(self, at: Position, *, wait: bool) -> None:
        # Before the first step the optimizer has no state, and starting again is the same.
        if at.step and self.saved != at:
            began = time.monotonic()
            meta = {
                "step": at.step,
                "windows": at.windows,
                "skipped": self.skipped,
                "identity": self.run.start.identity,
                "settings": self.run.config.recorded(),
                "stretches": stretches(self.run.recorded),
                "earlier": self.run.start.earlier,
            }
            self.run.sync()  # a run that continues from it has the lines of all steps before it
            with self.run.world.agreed():
                failure = self.run.checkpoints.save(
                    at.step, self.run.model, self.run.optimizer, meta, wait=wait
                )
            if failure is not None:
                self.run.write("failure", {"step": at.step, "error": failure.found})
                self.run.progress.warning(f"{failure.found}; tried again after step {at.step:,}")
            self.saved = at
            self.looked += time.monotonic() - began
        if wait:
            with self.run.world.agreed():
                self.run.checkpoints.wait()
            self._log_saved()

    def _log_saved(self) -> None:
        for meta, seconds in self.run.checkpoints.completed():
            done = {name: meta[name] for name in ("step", "windows")}
            self.run.write("checkpoint", done | {"seconds": seconds})
            self._caution(grace_caution(seconds))

    def _caution(self, line: str | None) -> None:
        """Tells a person what may go wrong, once, though it may have several occasions."""
        if line is not None and not self.cautioned:
            self.cautioned = True
            self.run.progress.warning(line)

    def _export(self, at: Position) -> None:
        began = time.monotonic()
        source, out = Path(self.run.config.model), self._export_of(at)
        end_token = self.run.inputs.end_token
        self.run.world.together(
            lambda: export_model(self.run.model, source, out, end_token=end_token)
        )
        self.looked += time.monotonic() - began

    def _export_of(self, at: Position) -> Path:
        return Path(self.run.config.out) / "exports" / f"step-{at.step:08d}"


def is_due(step: int, every: int) -> bool:
    """Whether something that is done every `every` steps is due after a step; 0 for never."""
    return every > 0 and step > 0 and step % every == 0
