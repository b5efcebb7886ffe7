"""The commands `train`, `compare` and `export`. Nothing heavy is imported before one runs."""

import json
import sys
from collections.abc import Callable
from dataclasses import MISSING, asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import click

from ..schemas.errors import FormatError, UsageError
from ..schemas.sizes import parse_size
from .config import KINDS, SETTINGS, TrainConfig, parse_evals, read_settings

__all__ = ["STOPPED", "compare", "export", "train"]

F = TypeVar("F", bound=Callable[..., Any])

STOPPED = 75
"""Exit code of a run that SIGTERM has stopped after a checkpoint: EX_TEMPFAIL of sysexits.h."""

HELP = {
    "shards": ("DIR", "The shard set to train on."),
    "model": ("DIR", "A Hugging Face folder: config, tokenizer, weights."),
    "out": ("DIR", "The run: log, checkpoints, exports. An unfinished run there goes on."),
    "init_from": ("RUN", "Take the weights of an earlier run's newest checkpoint."),
    "weighting": (None, "Which weights the targets have; see above."),
    "weight_table": ("FILE", "A weight table, for --weighting table."),
    "denominator": (None, "What the sum of weighted losses is divided by."),
    "seed": (None, "Seed of the windows' order and of every draw."),
    "global_batch": ("N", "Windows a step."),
    "micro_batch": ("N", "Windows a rank has in memory at once."),
    "steps": ("N", "Steps of the whole run.  [default: one epoch]"),
    "max_tokens": ("SIZE", "Tokens of the whole run, instead of --steps: 500M, 10B."),
    "learning_rate": (None, "The highest learning rate."),
    "final_learning_rate": (None, "The last step's, as a fraction of the highest."),
    "warmup_steps": ("N", "Steps until the highest learning rate is reached."),
    "schedule": (
        None,
        "The learning rate after that: half a cosine, or (wsd) constant and a straight line down.",
    ),
    "decay_steps": ("N", "Steps of wsd's line down.  [default: a tenth of the run]"),
    "weight_decay": (None, "AdamW's weight decay, for matrices alone."),
    "beta1": (None, "AdamW's decay of the mean gradient."),
    "beta2": (None, "AdamW's decay of the mean squared gradient."),
    "epsilon": (None, "AdamW's epsilon."),
    "clip_norm": (None, "The norm that larger gradients are scaled down to; 0 for no clipping."),
    "precision": (None, "What is computed in; weights and optimizer are fp32, or all is fp64."),
    "attention": (None, "Backend of attention; auto takes the fastest that the device has."),
    "checkpoint_activations": (None, "Compute blocks again in the backward pass."),
    "compile": (None, "Compile blocks with torch.compile."),
    "rope_theta": (None, "Another base of the rotary embedding, for a longer window."),
    "yarn_factor": (None, "Stretch the model's positions by YaRN."),
    "eval_every": ("N", "Steps between evaluations; 0 for none."),
    "eval_windows": ("N", "Windows measured of each set, always the same."),
    "save_every": ("N", "Steps between checkpoints."),
    "keep": ("N", "How many checkpoints stay, the newest."),
    "export_every": ("N", "Steps between exports to Hugging Face folders; 0 for none."),
    "log_every": ("N", "Steps between looks at the device; every step is in the log."),
    "tensorboard": (None, "Write TensorBoard's files too."),
    "loader_workers": ("N", "Processes that read windows ahead; 0 reads between steps."),
    "check_shards": (None, "What is compared of the shards at the start."),
    "device": (None, "Where to train."),
    "peak_tflops": (None, "A device's peak, for MFU.  [default: what is known of the device]"),
}


def _size(_: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _flag(name: str) -> Callable[[F], F]:
    """A setting's flag. Its default is the configuration's, so that a file can come between."""
    metavar, text = HELP[name]
    default = SETTINGS[name].default
    if default is not MISSING and default is not None and not isinstance(default, bool):
        shown = f"{default:,}" if isinstance(default, int) else default
        text = f"{text}  [default: {shown}]"
    flag = "--" + name.replace("_", "-")
    common: dict[str, Any] = {"default": None, "help": text, "metavar": metavar}
    kind = KINDS[name]
    if kind.choices:
        return click.option(flag, name, type=click.Choice(kind.choices), **common)
    if kind.type is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", name, **common)
    if kind.is_size:
        return click.option(flag, name, callback=_size, **common)
    return click.option(flag, name, type=kind.type, **common)


def _settings(function: F) -> F:
    for name in reversed(HELP):
        function = _flag(name)(function)
    return function


@click.command()
@_settings
@click.option(
    "--eval",
    "eval",
    multiple=True,
    metavar="NAME=SHARDS",
    help="Measure on the validation split of a shard set, also of longer windows. Repeatable."
    "  [default: that of --shards]",
)
@click.option("--config", metavar="FILE", help="TOML with the same settings; flags override it.")
@click.option("--print-config", is_flag=True, help="Print the effective settings as TOML and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON on stdout.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def train(**flags: Any) -> None:
    """Weight-aware training on a shard set, alone or under torchrun.

    \b
    exactcpt train --shards shards/ --model Qwen2.5-0.5B/ --out run/ --max-tokens 1B
    torchrun --nproc-per-node 8 --no-python exactcpt train --shards ...

    The same command goes on where a run has stopped, on any number of ranks. Exit codes: 0 the run
    is finished, 75 SIGTERM has stopped it after a checkpoint (torchrun itself returns 1), 1 it
    failed, 2 wrong usage.

    \b
    --weighting, always of the same windows in the same order:
      exact      the shards' weights
      uniform    1: standard continued pretraining
      matched    the mean of exact for every target: its loss scale alone
      document   the mean of exact over the target's segment
      shuffled   the weights of exact, drawn at random for every target
      tail_flat  1 + alpha in the tail, else 1
      table      those of --weight-table, as `exactcpt reweigh --table-only` writes them
    """
    config = _effective(flags)
    if flags["print_config"]:
        import tomli_w

        shown = {name: value for name, value in asdict(config).items() if value is not None}
        click.echo(tomli_w.dumps(shown), nl=False)
        return
    _check_installed()
    from .run.log import read_log
    from .train import train as run

    say = _speaker(flags["quiet"])
    outcome = run(config, say)
    if outcome.is_first:
        how = "finished" if outcome.finished else "stopped; the same command goes on"
        say(f"step {outcome.step:,} of {outcome.steps:,}  {how}")
    if flags["as_json"] and outcome.is_first:
        last = next((r for r in reversed(read_log(Path(config.out))) if r["kind"] == "step"), None)
        summary = {
            "status": "finished" if outcome.finished else "stopped",
            "step": outcome.step,
            "steps": outcome.steps,
            "checkpoint": outcome.checkpoint and str(outcome.checkpoint),
            "last": last,
        }
        click.echo(json.dumps(summary))
    if not outcome.finished:
        sys.exit(STOPPED)


def _check_installed() -> None:
    """That the package was installed with what training needs."""
    for name in ("torch", "transformers"):
        if find_spec(name) is None:
            raise UsageError(f"{name} is not installed", fix="pip install 'exactcpt[train]'")


def _effective(flags: dict[str, Any]) -> TrainConfig:
    """The file's settings, overridden by flags."""
    file = read_settings(flags["config"]) if flags["config"] else {}
    given = {name: value for name, value in flags.items() if name in HELP and value is not None}
    if flags["eval"]:
        given["eval"] = parse_evals(flags["eval"])
    rivals = {"steps": "max_tokens", "max_tokens": "steps"}
    if given.get("weighting", "table") != "table":
        rivals["weighting"] = "weight_table"
    overridden = {rivals[name] for name in given if name in rivals}
    values = {name: value for name, value in file.items() if name not in overridden} | given
    for name in ("shards", "model", "out"):
        if name not in values:
            raise UsageError(f"--{name} is missing", expected=f"--{name} DIR")
    return TrainConfig(**values)


def _speaker(quiet: bool) -> Callable[[str], None]:
    if quiet:
        return lambda _: None
    return lambda line: click.echo(line, err=True)


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON on stdout.")
@click.option("--svg", metavar="FILE", help="Draw loss curves and differences as SVG.")
@click.option("--html", metavar="FILE", help="The same as a page for a browser.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def compare(
    runs: tuple[str, ...], as_json: bool, svg: str | None, html: str | None, **_: Any
) -> None:
    """Runs side by side: what the weights did to the loss.

    Whether the runs saw the same windows, which settings differ, and the unweighted loss by
    effective context, over several seeds with intervals.
    """
    from .comparison.runs import compare as run

    found = run(runs)
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        from rich.console import Console

        from .comparison.tables import comparison_tables

        console = Console(highlight=False, soft_wrap=True)
        for table in comparison_tables(found):
            console.print(table)
    if svg or html:
        from .comparison.picture import draw_page, draw_svg
        from .run.log import write_whole

        if svg:
            write_whole(Path(svg), draw_svg(found).encode())
        if html:
            write_whole(Path(html), draw_page(found).encode())


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--out", required=True, metavar="DIR", help="The Hugging Face folder to write.")
@click.option("--step", type=int, metavar="N", help="Which checkpoint.  [default: the newest]")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def export(run: str, out: str, step: int | None, **_: Any) -> None:
    """A run's checkpoint to a Hugging Face folder.

    It has safetensors, config and tokenizer.
    """
    _check_installed()
    from .run.checkpoint import complete_checkpoints
    from .run.log import read_run

    recorded = read_run(Path(run))
    saved = {int(path.name.rpartition("-")[2]): path for path in complete_checkpoints(Path(run))}
    if not saved or (step is not None and step not in saved):
        raise UsageError(
            "there is no such checkpoint" if saved else "the run has no checkpoint yet",
            where=run,
            expected=f"--step {' or '.join(map(str, saved))}" if saved else None,
        )
    from .run.export import export_checkpoint

    source = Path(recorded["model_folder"])
    _check_trained(source, recorded["identity"].get("model"))
    settings = recorded["settings"]
    export_checkpoint(
        saved[max(saved) if step is None else step],
        Path(out),
        source=source,
        window=recorded["longest_window"],
        rope_theta=settings["rope_theta"],
        yarn_factor=settings["yarn_factor"],
    )
    click.echo(f"{out} is complete", err=True)


def _check_trained(model: Path, trained: str | None) -> None:
    """That a folder still has the model that a run has trained: an export takes its config."""
    from .windows.agreement import model_fingerprint

    found = model_fingerprint(model)
    if found != trained:
        raise FormatError(
            f"the model's folder has another model than the run has trained: {found}",
            where=str(model),
            expected=f"{trained}, over config.json and weights",
            fix="restore the folder",
        )
