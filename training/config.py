"""The settings of a run, from a TOML file and flags, checked when they are made.

A flag overrides the file. In the file, a setting has the name of its flag with underscores.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal

from ..schemas.errors import UsageError
from ..schemas.settings import Size, check_range, kinds, read_toml, typed
from ..schemas.sizes import plural

__all__ = [
    "KINDS",
    "PATHS",
    "SETTINGS",
    "TABLE_WEIGHTINGS",
    "Attention",
    "Card",
    "Check",
    "Denominator",
    "Device",
    "Precision",
    "Ranks",
    "Schedule",
    "Tracker",
    "TrainConfig",
    "WeightingName",
    "parse_evals",
    "parse_shards",
    "read_settings",
    "share_of",
]

# Defined here because the modules that use them import libraries that `--help` must not wait for.
WeightingName = Literal[
    "exact", "uniform", "matched", "document", "near", "shuffled", "tail_flat", "table"
]
TABLE_WEIGHTINGS: tuple[WeightingName, ...] = (
    "table", "matched", "document", "near", "shuffled",
)  # fmt: skip
"""Those that can take their weights from a table instead of the shards."""

Denominator = Literal["targets", "sum_w"]
Schedule = Literal["cosine", "wsd"]
Precision = Literal["bf16", "fp32", "fp64"]
Attention = Literal["auto", "varlen", "flex", "cpu", "exact"]
Device = Literal["auto", "cpu", "cuda"]
Card = Literal["a100", "h100", "h200", "b200"]
Check = Literal["auto", "checksums", "sizes"]
Tracker = Literal["wandb", "trackio"]
Ranks = Literal["node", "all"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a run.

    Attributes:
        shards: folder of the shard set; of a mix, the first one.
        mix: folder of each shard set of a mix -> its share, as a decimal; None for `shards` alone.
        model: Hugging Face folder with config, tokenizer and weights.
        out: folder of the run, for its log, checkpoints and exports.
        init_from: folder of an earlier run whose newest checkpoint gives the weights; None for the
            weights in `model`.
        weighting: name of the weighting of the targets; see `windows.weighting`.
        weight_table: file with weights that stand in the place of the shards' weights; None for
            the shards' weights. For `TABLE_WEIGHTINGS` only.
        arm: what `compare` calls the run and those that differ from it in the seed alone; None for
            the name of the weighting.
        denominator: what the sum of weighted losses is divided by: the number of targets, or the
            sum of their weights.
        seed: of the order of the windows and of every random draw.
        global_batch: windows per step, over all ranks.
        micro_batch: windows that a rank processes at a time.
        steps: number of steps of the whole run; None if `max_tokens` gives it, or for one epoch.
        max_tokens: tokens of the whole run, padding included, rounded down to whole steps.
        learning_rate: peak learning rate.
        final_learning_rate: learning rate of the last step, as a fraction of the peak.
        warmup_steps: steps of the linear warm-up to the peak.
        schedule: after the warm-up, "cosine" is half a cosine down, "wsd" is constant with a linear
            decay at the end.
        decay_steps: steps of that linear decay; None for a tenth of the run.
        weight_decay: of AdamW; applies to matrices, not to norms and biases.
        beta1, beta2, epsilon: of AdamW.
        clip_norm: norm that longer gradients are scaled down to; 0 for no clipping.
        max_bad_steps: number of steps that may be skipped because a loss or the gradient is not
            finite; with one more, the run ends.
        grad_norm_from: folder of a finished run with the same windows; before clipping, the
            gradient of each step is scaled to the norm that it had there. None for no scaling.
        precision: of the computation. Weights, sums of gradients and optimizer are fp32, unless
            everything is fp64.
        attention: name of the attention backend.
        checkpoint_activations: whether blocks are computed again in the backward pass.
        compile: whether blocks are compiled; None to do so on CUDA devices.
        rope_theta, yarn_factor: for windows that are longer than the model's positions.
        eval: name of an eval set -> shard set whose validation split it is; None for that of
            `shards`.
        eval_every: steps between evaluations; 0 for none.
        eval_windows: windows per eval set; always the same ones.
        save_every: steps between checkpoints; the last step has one in any case. 0 for no others.
        keep: number of checkpoints to keep.
        export_every: steps between exports as Hugging Face folders, each with a checkpoint; 0 for
            none.
        log_every: steps between transfers of figures from the device; every step is logged.
        profile: number of steps, from the third after each start on, that are traced; 0 for none.
        tensorboard: whether TensorBoard event files are written too.
        log_to: the tracker that gets the figures too; None for none.
        loader_workers: processes that read windows ahead; 0 to read between steps.
        check_shards: whether the checksums of the shards are checked at each start or only their
            sizes; with "auto", the checksums at the first start of a run alone.
        deterministic: whether only algorithms are used that give the same bits each time.
        device: where to train.
        peak_tflops: of one device, for MFU; None for what is known of the device.
        keep_products: with checkpoint_activations, whether the results of matrix products and
            attention are kept and only the rest is computed again.
        reduce_once: whether gradients are summed over the ranks once per step, and not after every
            micro-batch; each rank then has room for the gradient of all weights.
        shard_over: whether the weights are sharded over the ranks of a machine and replicated over
            the machines, or sharded over all ranks.
    """

    shards: str
    model: str
    out: str
    mix: Mapping[str, str] | None = None
    init_from: str | None = None
    weighting: WeightingName = "exact"
    weight_table: str | None = None
    arm: str | None = None
    denominator: Denominator = "targets"
    seed: int = 0
    global_batch: int = 64
    micro_batch: int = 1
    steps: int | None = None
    max_tokens: Size | None = None
    learning_rate: float = 2e-5
    final_learning_rate: float = 0.1
    warmup_steps: int = 100
    schedule: Schedule = "cosine"
    decay_steps: int | None = None
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    clip_norm: float = 1.0
    max_bad_steps: int = 10
    grad_norm_from: str | None = None
    precision: Precision = "bf16"
    attention: Attention = "auto"
    checkpoint_activations: bool = False
    compile: bool | None = None
    rope_theta: float | None = None
    yarn_factor: float | None = None
    eval: Mapping[str, str] | None = None
    eval_every: int = 500
    eval_windows: int = 128
    save_every: int = 500
    keep: int = 2
    export_every: int = 0
    log_every: int = 1
    profile: int = 0
    tensorboard: bool = False
    log_to: Tracker | None = None
    loader_workers: int = 0
    check_shards: Check = "auto"
    deterministic: bool = False
    device: Device = "auto"
    peak_tflops: float | None = None
    keep_products: bool = False
    reduce_once: bool = False
    shard_over: Ranks = "node"

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            check_range(name, getattr(self, name), low, high)
        if self.steps is not None and self.max_tokens is not None:
            raise UsageError("both steps and max_tokens are given", fix="give one of them")
        if self.mix is not None:
            self._check_mix(self.mix)
        if self.weighting == "table" and self.weight_table is None:
            raise UsageError(
                "weighting is 'table', but there is no weight_table",
                fix="`exactcpt reweigh --table-only` writes one",
            )
        if self.weight_table is not None and self.weighting not in TABLE_WEIGHTINGS:
            raise UsageError(
                f"weighting is {self.weighting!r}, weight_table is {self.weight_table!r}",
                expected="with a weight_table, one of the weightings "
                + ", ".join(TABLE_WEIGHTINGS),
                fix="leave one of them out",
            )
        if self.keep_products and not self.checkpoint_activations:
            raise UsageError(
                "keep_products is on, but checkpoint_activations is off: everything is kept",
                fix="turn both on, or leave both out",
            )
        if self.global_batch % self.micro_batch:
            raise UsageError(
                f"global_batch is {self.global_batch}, micro_batch is {self.micro_batch}",
                expected="a global_batch that is a multiple of micro_batch",
            )

    def _check_mix(self, mix: Mapping[str, str]) -> None:
        if len(mix) < 2 or next(iter(mix)) != self.shards:
            raise UsageError(
                f"the mix is of {', '.join(mix) or 'nothing'}; shards is {self.shards}",
                expected="two or more shard sets, the first of which is shards",
            )
        shares = [share_of(path, text) for path, text in mix.items()]
        if sum(shares) != 1:
            raise UsageError(
                f"the shares of the mix add up to {float(sum(shares)):g}",
                expected="1, such as --shards A=0.7 --shards B=0.3",
            )
        if self.steps is None and self.max_tokens is None:
            raise UsageError(
                "a mix has no epoch, so it does not say how long the run is",
                fix="give --max-tokens or --steps",
            )

    @property
    def shares(self) -> tuple[Fraction, ...]:
        """The share of each shard set in the windows, in order."""
        if self.mix is None:
            return (Fraction(1),)
        return tuple(share_of(path, text) for path, text in self.mix.items())

    def check_world(self, world: int) -> None:
        """Checks that the global batch can be divided among the ranks.

        Args:
            world: number of ranks.

        Raises:
            UsageError: global_batch is not a multiple of world * micro_batch.
        """
        if self.global_batch % (world * self.micro_batch):
            raise UsageError(
                f"global_batch is {self.global_batch}, with micro_batch {self.micro_batch} on "
                f"{plural(world, 'rank')}",
                expected=f"a multiple of {world} x {self.micro_batch} = {world * self.micro_batch}",
            )

    def recorded(self) -> dict[str, Any]:
        """All settings, as values that JSON can hold."""
        return asdict(self)


RANGES: dict[str, tuple[float, float | None]] = {
    "seed": (0, (1 << 64) - 1),
    "global_batch": (1, 1 << 30),
    "micro_batch": (1, 1 << 20),
    "steps": (1, 1 << 40),
    "max_tokens": (1, 1 << 60),
    "learning_rate": (0, 10),
    "final_learning_rate": (0, 1),
    "warmup_steps": (0, 1 << 40),
    "decay_steps": (0, 1 << 40),
    "weight_decay": (0, 10),
    "beta1": (0, 0.999999),
    "beta2": (0, 0.999999),
    "epsilon": (0, 1),
    "clip_norm": (0, None),
    "max_bad_steps": (0, 1 << 40),
    "rope_theta": (1, 10**12),
    "yarn_factor": (1, 1000),
    "eval_every": (0, 1 << 40),
    "eval_windows": (1, 1 << 40),
    "save_every": (0, 1 << 40),
    "keep": (1, 1000),
    "export_every": (0, 1 << 40),
    "log_every": (1, 10_000),
    "profile": (0, 1000),
    "loader_workers": (0, 1024),
    "peak_tflops": (1e-6, 10**9),
}
"""Smallest and largest value of each number; None if there is no largest."""

SHARE = re.compile(r"0?\.\d{1,4}")
"""Shares are exact: in every 10,000 windows, each set has a whole number."""

PATHS = ("shards", "model", "out", "init_from", "weight_table", "grad_norm_from")
"""Settings that name a place. What is there is part of the run's identity."""

SETTINGS: dict[str, Any] = dict(TrainConfig.__dataclass_fields__)
"""Name of each setting -> its field."""

KINDS = kinds(TrainConfig)
"""Name of each setting -> the kind of its values."""


def share_of(path: str, text: str) -> Fraction:
    """The share of a set in a mix.

    Raises:
        UsageError: it is no decimal between 0 and 1 with at most four digits behind the point.
    """
    if not SHARE.fullmatch(text) or not Fraction(text):
        raise UsageError(
            f"the share of {path} is {text!r}",
            expected="a decimal between 0 and 1 with at most four digits, such as 0.7",
        )
    return Fraction(text)


def parse_shards(texts: tuple[str, ...]) -> dict[str, Any]:
    """The settings `shards` and `mix` from flags: one DIR, or two or more DIR=SHARE.

    Raises:
        UsageError: a flag of several has no share, or two name one folder.
    """
    if len(texts) == 1:
        return {"shards": texts[0], "mix": None}
    mix: dict[str, str] = {}
    for text in texts:
        path, equals, share = text.rpartition("=")
        if not (path and equals and share):
            raise UsageError(
                f"--shards {text!r} has no share", expected="DIR=SHARE, as there are several sets"
            )
        if path in mix:
            raise UsageError(f"two --shards name {path}", fix="add their shares up")
        mix[path] = share
    return {"shards": next(iter(mix)), "mix": mix}


def parse_evals(texts: tuple[str, ...]) -> dict[str, str]:
    """The setting `eval` from flags of the form NAME=SHARDS.

    Raises:
        UsageError: a flag has another form, or two have one name.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, shards = text.partition("=")
        if not (name and equals and shards):
            raise UsageError(f"--eval {text!r}", expected="NAME=SHARDS")
        if name in found:
            raise UsageError(f"two --eval have the name {name!r}", fix="give each its own name")
        found[name] = shards
    return found


def read_settings(path: str) -> dict[str, Any]:
    """The settings of a TOML file, by name.

    Raises:
        UsageError: it is missing, is not valid TOML, or a name or value is not allowed.
    """
    values = read_toml(path, SETTINGS)
    found = {name: typed(name, value, KINDS[name], path) for name, value in values.items()}
    if found.get("mix"):
        found.setdefault("shards", next(iter(found["mix"])))
    return found
