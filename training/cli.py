"""The commands `train`, `compare` and `export`. Nothing heavy is imported before one runs."""

import json
import sys
from collections.abc import Callable
from dataclasses import MISSING, asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..schemas.errors import UsageError
from ..schemas.help import SectionedCommand, Sections
from ..schemas.settings import flag_of
from ..schemas.sizes import plural
from ..schemas.terminal import console, echo, echo_json, echo_toml
from .config import (
    KINDS,
    SETTINGS,
    TABLE_WEIGHTINGS,
    TrainConfig,
    parse_evals,
    parse_shards,
    read_settings,
)
from .options import check_installed, size, speaker
from .run.forecast_options import forecast_options

if TYPE_CHECKING:
    from .train import Outcome

__all__ = ["STOPPED", "compare", "export", "train"]

F = TypeVar("F", bound=Callable[..., Any])

STOPPED = 75
"""Exit code of a run that was stopped after a checkpoint: EX_TEMPFAIL of sysexits.h."""

HELP = {
    "shards": (
        "DIR[=SHARE]",
        "Shard set to train on, or its URL. Repeat it for a mix, each set with its share of the "
        "windows: A=0.7.",
    ),
    "model": (
        "DIR|NAME",
        "Hugging Face folder with config, tokenizer and weights, or a repository of the Hugging "
        "Face hub: OWNER/NAME[@REVISION].",
    ),
    "out": (
        "DIR",
        "Folder of the run, for its log, checkpoints and exports. An unfinished run in it is "
        "continued.",
    ),
    "init_from": ("RUN", "Start with the weights of another run's newest checkpoint."),
    "weighting": (None, "Weights of the targets; see above."),
    "weight_table": ("FILE", "Weight table in the place of the shards' weights; see above."),
    "arm": (
        "NAME",
        "What `exactcpt compare` calls this run and those that differ from it in the seed alone.  "
        "[default: the weighting]",
    ),
    "denominator": (
        None,
        "Divide the sum of weighted losses by the number of targets or by the sum of their "
        "weights.",
    ),
    "seed": (None, "Seed of the order of the windows and of every random draw."),
    "global_batch": ("N", "Windows per step, over all ranks."),
    "micro_batch": ("N", "Windows that a rank processes at a time."),
    "steps": ("N", "Steps of the whole run.  [default: one epoch]"),
    "max_tokens": (
        "SIZE",
        "Tokens of the whole run, padding included, such as 500M or 10B; instead of --steps.",
    ),
    "learning_rate": (None, "Peak learning rate."),
    "final_learning_rate": (None, "Learning rate of the last step, as a fraction of the peak."),
    "warmup_steps": ("N", "Steps of linear warm-up to the peak."),
    "schedule": (
        None,
        "Learning rate after the warm-up: half a cosine, or constant with a linear decay at the "
        "end (wsd).",
    ),
    "decay_steps": ("N", "Steps of the linear decay of wsd.  [default: a tenth of the run]"),
    "weight_decay": (None, "Weight decay of AdamW; applies to matrices only."),
    "beta1": (None, "AdamW's decay rate of the mean gradient."),
    "beta2": (None, "AdamW's decay rate of the mean squared gradient."),
    "epsilon": (None, "AdamW's epsilon."),
    "clip_norm": (None, "Scale a gradient of larger norm down to this norm; 0 for no clipping."),
    "max_bad_steps": (
        "N",
        "End the run when it has skipped more steps than this. A step is skipped if its loss or "
        "gradient is not finite.",
    ),
    "grad_norm_from": (
        "RUN",
        "Scale the gradient of every step, before clipping, to the norm that it had in a finished "
        "run with the same windows.",
    ),
    "precision": (
        None,
        "Precision of the computation. Weights and optimizer are fp32; with fp64, everything is "
        "fp64.",
    ),
    "attention": (None, "Attention backend; auto takes the fastest one for the device."),
    "checkpoint_activations": (
        None, "Save memory: compute each block again in the backward pass.",
    ),
    "compile": (None, "Compile each block with torch.compile.  [default: on CUDA devices]"),
    "rope_theta": (None, "New base of the rotary embedding, for longer windows."),
    "yarn_factor": (None, "Factor by which YaRN stretches the model's positions."),
    "eval_every": ("N", "Steps between evaluations; 0 for none."),
    "eval_windows": ("N", "Windows per eval set; always the same ones."),
    "save_every": ("N", "Steps between checkpoints; 0 for one at the end only."),
    "keep": ("N", "Number of checkpoints to keep; older ones are removed."),
    "export_every": ("N", "Steps between exports as Hugging Face folders; 0 for none."),
    "log_every": (
        "N",
        "Steps between transfers of figures from the device. Every step is logged in any case.",
    ),
    "profile": (
        "STEPS",
        "Trace so many steps, from the third on, with PyTorch's profiler; the trace lies in the "
        "run's folder. 0 for none.",
    ),
    "tensorboard": (None, "Write TensorBoard event files too."),
    "log_to": (None, "Send the figures to Weights & Biases or Trackio too."),
    "loader_workers": ("N", "Processes that read windows ahead; 0 to read between steps."),
    "check_shards": (
        None,
        "Compare the checksums of the shards at each start, or only their sizes. With auto, a run "
        "that is continued does not read its shards and its model's weights through again.",
    ),
    "deterministic": (
        None,
        "Give the same bits each time, on the same machine with the same number of ranks. On a GPU "
        "that makes attention's backward pass slower.",
    ),
    "device": (None, "Device to train on."),
    "peak_tflops": (
        None, "Peak TFLOPS of one device, for MFU.  [default: by the name of the device]",
    ),
    "keep_products": (
        None,
        "With --checkpoint-activations, keep the results of matrix products and attention: less "
        "is computed again, more is kept.",
    ),
    "reduce_once": (
        None,
        "Sum gradients over the ranks once per step, not after every micro-batch. Each rank holds "
        "the gradient of all weights.",
    ),
    "shard_over": (
        None,
        "Shard weights over the ranks of each machine, so that machines exchange gradients alone, "
        "or over all ranks, which saves memory.",
    ),
}  # fmt: skip
"""Metavariable and help text of each setting's flag."""


SECTIONS: Sections = {
    "Run": ("shards", "model", "out", "init_from", "arm", "seed", "steps", "max_tokens"),
    "Weights of the targets": ("weighting", "weight_table", "denominator"),
    "Steps": (
        "global_batch", "micro_batch", "learning_rate", "final_learning_rate", "warmup_steps",
        "schedule", "decay_steps", "weight_decay", "beta1", "beta2", "epsilon", "clip_norm",
        "max_bad_steps", "grad_norm_from",
    ),
    "Longer windows": ("rope_theta", "yarn_factor"),
    "Evaluation": ("eval", "eval_every", "eval_windows"),
    "Checkpoints and logs": (
        "save_every", "keep", "export_every", "log_every", "profile", "tensorboard", "log_to",
    ),
    "Machine": (
        "device", "precision", "attention", "compile", "checkpoint_activations", "loader_workers",
        "check_shards", "deterministic", "peak_tflops", "keep_products", "reduce_once",
        "shard_over",
    ),
    "What it will take": ("dry_run", "card", "gpus"),
}  # fmt: skip
"""Headings in the help of `train`, and the settings under each."""


def _flag(name: str) -> Callable[[F], F]:
    """Makes a setting's flag. It has no default: a file may set what no flag does."""
    metavar, text = HELP[name]
    default = SETTINGS[name].default
    if default is not MISSING and default is not None and not isinstance(default, bool):
        shown = f"{default:,}" if isinstance(default, int) else default
        text = f"{text}  [default: {shown}]"
    flag = flag_of(name)
    common: dict[str, Any] = {"default": None, "help": text, "metavar": metavar}
    kind = KINDS[name]
    if name == "shards":
        return click.option(flag, name, multiple=True, help=text, metavar=metavar)
    if kind.choices:
        return click.option(flag, name, type=click.Choice(kind.choices), **common)
    if kind.type is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", name, **common)
    if kind.is_size:
        return click.option(flag, name, callback=size, **common)
    return click.option(flag, name, type=kind.type, **common)


def _settings(function: F) -> F:
    for name in reversed(HELP):
        function = _flag(name)(function)
    return function


@click.command(cls=SectionedCommand, sections=SECTIONS)
@_settings
@click.option(
    "--eval",
    "eval",
    multiple=True,
    metavar="NAME=SHARDS",
    help="Evaluate on the validation split of a shard set; its windows may be longer. Repeatable."
    "  [default: the validation split of --shards]",
)
@click.option("--config", metavar="FILE", help="TOML file with these settings; flags override it.")
@click.option("--print-config", is_flag=True, help="Print the effective settings as TOML and stop.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the memory and the hours that the run will take, and stop. Of the model, only "
    "config.json is read.",
)
@forecast_options
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON on stdout.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def train(**flags: Any) -> None:
    """Train a model on a shard set, every target with a weight.

    \b
    exactcpt train --shards shards/ --model Qwen/Qwen2.5-0.5B --out run/ --max-tokens 1B
    torchrun --nproc-per-node 8 --no-python exactcpt train --shards ...

    Ctrl-C or SIGTERM stops a run after a checkpoint. To continue it, give the same command again,
    on any number of ranks. torchrun gives it 30 seconds for its checkpoint; --shutdown-timeout 600,
    before --no-python, gives it more.

    A target is a token that the model is trained to predict, and its effective context is the
    number of tokens of its own document before it in the window. --weighting gives its loss a
    weight; windows and their order are the same for all weightings:

    \b
      exact      the weight in the shards
      uniform    1: standard continued pretraining
      matched    the mean of exact over all targets: the same scale of the loss
      document   the mean of exact over the targets of the same document in the window
      near       1 in the tail; what exact adds there, a document's other targets share equally
      shuffled   a weight of exact, drawn at random for every target
      tail_flat  1 + alpha in the tail (effective contexts of at least tau), 1 elsewhere
      table      the weight in --weight-table

    With --weight-table, matched, document, near and shuffled take the weights in that table for
    those of exact. `exactcpt reweigh --table-only` writes tables: with another alpha, another dose
    of the weights. --arm names the runs with it.

    \b
    Exit codes:
      0   the run is finished
      1   the run failed
      2   wrong usage
      75  Ctrl-C or SIGTERM stopped the run after a checkpoint (torchrun itself returns 1)
    """
    config = _effective(flags)
    if flags["print_config"]:
        _print_config(config)
        return
    check_installed()
    if flags["dry_run"]:
        _print_forecast(config, flags)
        return
    from .train import train as run

    say = speaker(flags["quiet"])
    outcome = run(config, say)
    if outcome.is_first:
        how = "finished" if outcome.finished else "stopped; the same command continues the run"
        skipped = f"; {plural(outcome.skipped, 'step was', 'steps were')} skipped"
        how += skipped if outcome.skipped else ""
        say(f"step {outcome.step:,} of {outcome.steps:,}  {how}")
    if flags["as_json"] and outcome.is_first:
        echo_json(json.dumps(_summary(outcome, Path(config.out))))
    if not outcome.finished:
        sys.exit(STOPPED)


def _print_config(config: TrainConfig) -> None:
    import tomli_w

    shown = {name: value for name, value in asdict(config).items() if value is not None}
    echo_toml(tomli_w.dumps(shown))


def _print_forecast(config: TrainConfig, flags: dict[str, Any]) -> None:
    from .run.forecast import forecast
    from .run.forecast_tables import forecast_tables

    found = forecast(config, flags["card"], list(flags["gpus"]))
    if flags["as_json"]:
        echo_json(json.dumps(found.to_json()))
        return
    printer = console(soft_wrap=True)
    for part in forecast_tables(found):
        printer.print(part)


def _summary(outcome: "Outcome", run: Path) -> dict[str, Any]:
    """How a run ended, with the record of its last step, as JSON values."""
    from .run.log import read_log

    steps = [record for record in read_log(run) if record["kind"] == "step"]
    return {
        "status": "finished" if outcome.finished else "stopped",
        "step": outcome.step,
        "steps": outcome.steps,
        "skipped": outcome.skipped,
        "checkpoint": outcome.checkpoint and str(outcome.checkpoint),
        "last": steps[-1] if steps else None,
    }


def _effective(flags: dict[str, Any]) -> TrainConfig:
    """The settings of the file, overridden by the flags."""
    file = read_settings(flags["config"]) if flags["config"] else {}
    given = {name: value for name, value in flags.items() if name in HELP and value is not None}
    shards = given.pop("shards", ())
    if shards:
        given |= parse_shards(shards)
    if flags["eval"]:
        given["eval"] = parse_evals(flags["eval"])
    rivals = {"steps": "max_tokens", "max_tokens": "steps"}
    if given.get("weighting", "table") not in TABLE_WEIGHTINGS:
        rivals["weighting"] = "weight_table"
    overridden = {rivals[name] for name in given if name in rivals}
    values = {name: value for name, value in file.items() if name not in overridden} | given
    for name in ("shards", "model", "out"):
        if name not in values:
            what = "DIR or OWNER/NAME of the Hugging Face hub" if name == "model" else "DIR"
            raise UsageError(f"--{name} is missing", expected=f"--{name} {what}")
    return TrainConfig(**values)


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option(
    "--baseline",
    metavar="ARM",
    help="Arm that the others are compared with.  [default: the first with weighting uniform]",
)
@click.option(
    "--primary",
    multiple=True,
    metavar="ENDPOINT",
    help="Endpoint that was named before the runs were trained: far, near or slope of the probe, "
    "ruler, or standard. All others are exploratory. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON on stdout.")
@click.option("--svg", metavar="FILE", help="Draw loss curves and differences as an SVG file.")
@click.option("--html", metavar="FILE", help="Write the same charts as an HTML page.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def compare(
    runs: tuple[str, ...],
    baseline: str | None,
    primary: tuple[str, ...],
    as_json: bool,
    svg: str | None,
    html: str | None,
    **_: Any,
) -> None:
    """Compare runs: what the weighting did to the loss.

    Print whether the runs saw the same windows, which settings differ, and the unweighted loss by
    effective context. A target is a token that the model is trained to predict; its effective
    context is the number of tokens of its own document before it in the window. Runs that differ
    only in the seed form one arm, named by its weighting or by `exactcpt train --arm`. With several
    seeds, differences between arms have 95% intervals.
    """
    from .comparison.runs import compare as run

    found = run(runs, baseline, primary)
    if as_json:
        echo_json(json.dumps(found.to_json()))
    else:
        from .comparison.tables import comparison_tables

        printer = console(soft_wrap=True)
        for table in comparison_tables(found, printer):
            printer.print(table)
    if svg or html:
        from .comparison.picture import draw_page, draw_svg
        from .run.log import write_whole

        if svg:
            write_whole(Path(svg), draw_svg(found).encode())
        if html:
            write_whole(Path(html), draw_page(found).encode())


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--out", required=True, metavar="DIR", help="Hugging Face folder to write.")
@click.option(
    "--step", type=int, metavar="N", help="Step of the checkpoint.  [default: the newest]"
)
@click.option(
    "--dtype",
    type=click.Choice(("fp32", "bf16")),
    default="fp32",
    show_default=True,
    help="Type of the weights in the files. bf16 takes half of the room and rounds them.",
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def export(run: str, out: str, step: int | None, dtype: str, **_: Any) -> None:
    """Write a run's checkpoint as a Hugging Face folder.

    The folder has the weights as safetensors, in files of at most 5 GB, the config and the
    tokenizer.
    """
    check_installed()
    from .run.exported import export_run

    export_run(Path(run), Path(out), step, dtype)
    echo(f"{out} is complete", err=True)
