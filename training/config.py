"""The settings of a run: TOML file and flags, one set of names, checked where they are made.

A flag overrides the file. A setting's name is its flag's, with underscores.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..schemas.errors import UsageError
from ..schemas.settings import Size, check_range, kinds, read_toml, typed

__all__ = [
    "KINDS",
    "PATHS",
    "SETTINGS",
    "Attention",
    "Check",
    "Denominator",
    "Device",
    "Precision",
    "Schedule",
    "TrainConfig",
    "WeightingName",
    "parse_evals",
    "read_settings",
]

# The modules that use these names import libraries that `--help` must not wait for.
WeightingName = Literal["exact", "uniform", "matched", "document", "shuffled", "tail_flat", "table"]
Denominator = Literal["targets", "sum_w"]
Schedule = Literal["cosine", "wsd"]
Precision = Literal["bf16", "fp32", "fp64"]
Attention = Literal["auto", "varlen", "flex", "exact"]
Device = Literal["auto", "cpu", "cuda"]
Check = Literal["checksums", "sizes"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A run.

    Attributes:
        shards: the shard set.
        model: a Hugging Face folder: config, tokenizer, weights.
        out: the run's folder: log, checkpoints, exports.
        init_from: an earlier run whose newest checkpoint gives the weights instead.
        weighting: of the targets; see `weighting`.
        weight_table: a file, for the weighting `table`.
        denominator: what the sum of weighted losses is divided by: the number of targets, or the
            sum of their weights.
        seed: of the windows' order and of what is drawn.
        global_batch: windows a step.
        micro_batch: windows a rank has in memory at once.
        steps: of the whole run; None where `max_tokens` says, or for one epoch.
        max_tokens: of the whole run, padding included; steps are whole.
        learning_rate: the highest.
        final_learning_rate: at the last step, as a fraction of the highest.
        warmup_steps: until the highest is reached, in a straight line.
        schedule: after that a half cosine, or "wsd": constant, then a straight line down.
        decay_steps: of the line down; None for a tenth of the run.
        weight_decay: AdamW's, for matrices; norms and biases have none.
        beta1, beta2, epsilon: AdamW's.
        clip_norm: what longer gradients are cut to; 0 for no clipping.
        precision: of computation. Weights, gradients' sums and the optimizer are fp32, or all is
            fp64.
        attention: the backend.
        checkpoint_activations: whether blocks are computed again in the backward pass.
        compile: whether blocks are compiled.
        rope_theta, yarn_factor: for windows longer than the model knows.
        eval: name -> shard set whose validation split is evaluated; None for that of `shards`.
        eval_every: steps between evaluations; 0 for none.
        eval_windows: of each set, always the same.
        save_every: steps between checkpoints; there is one at the end in any case.
        keep: how many checkpoints stay.
        export_every: steps between exports to Hugging Face folders, with a checkpoint each; 0 for
            none.
        log_every: steps between looks at the device; every step has its line in the log.
        tensorboard: whether its event files are written too.
        loader_workers: processes that read windows ahead; 0 reads between steps.
        check_shards: whether the shards' checksums are compared at the start, or their sizes alone.
        device: where to train.
        peak_tflops: of one device, for MFU; None for what is known of it.
    """

    shards: str
    model: str
    out: str
    init_from: str | None = None
    weighting: WeightingName = "exact"
    weight_table: str | None = None
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
    precision: Precision = "bf16"
    attention: Attention = "auto"
    checkpoint_activations: bool = False
    compile: bool = False
    rope_theta: float | None = None
    yarn_factor: float | None = None
    eval: Mapping[str, str] | None = None
    eval_every: int = 500
    eval_windows: int = 128
    save_every: int = 500
    keep: int = 2
    export_every: int = 0
    log_every: int = 1
    tensorboard: bool = False
    loader_workers: int = 0
    check_shards: Check = "checksums"
    device: Device = "auto"
    peak_tflops: float | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            check_range(name, getattr(self, name), low, high)
        if self.steps is not None and self.max_tokens is not None:
            raise UsageError("steps and max_tokens both say how long to train", fix="give one")
        if (self.weight_table is None) == (self.weighting == "table"):
            raise UsageError(
                f"weighting is {self.weighting!r}, weight_table is {self.weight_table!r}",
                expected="a weight_table with the weighting `table`, and with no other",
            )
        if self.global_batch % self.micro_batch:
            raise UsageError(
                f"global_batch is {self.global_batch}, micro_batch is {self.micro_batch}",
                expected="a global_batch that micro_batch divides",
            )

    def check_world(self, world: int) -> None:
        """That the global batch can be shared.

        Raises:
            UsageError: world * micro_batch does not divide it.
        """
        if self.global_batch % (world * self.micro_batch):
            raise UsageError(
                f"global_batch is {self.global_batch} windows, on {world} ranks with micro_batch "
                f"{self.micro_batch}",
                expected=f"a multiple of {world} x {self.micro_batch} = {world * self.micro_batch}",
            )

    def recorded(self) -> dict[str, Any]:
        """All settings, as JSON has them."""
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
    "rope_theta": (1, 10**12),
    "yarn_factor": (1, 1000),
    "eval_every": (0, 1 << 40),
    "eval_windows": (1, 1 << 40),
    "save_every": (1, 1 << 40),
    "keep": (1, 1000),
    "export_every": (0, 1 << 40),
    "log_every": (1, 10_000),
    "loader_workers": (0, 1024),
    "peak_tflops": (1e-6, 10**9),
}

PATHS = ("shards", "model", "out", "init_from", "weight_table")
"""Settings that say where something is. What it is, is in a run's identity."""

SETTINGS: dict[str, Any] = dict(TrainConfig.__dataclass_fields__)
"""Every setting, by name."""

KINDS = kinds(TrainConfig)
"""What a value of each setting is, by name."""


def parse_evals(texts: tuple[str, ...]) -> dict[str, str]:
    """`eval` from flags of the form NAME=SHARDS."""
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
    return {name: typed(name, value, KINDS[name], path) for name, value in values.items()}
