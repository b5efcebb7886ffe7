"""The command `check-trainer`. Nothing heavy is imported before it runs."""

import json
import sys
from typing import TYPE_CHECKING

import click

from ...schemas.fitting import fitted
from ...schemas.terminal import console, echo_json
from ..options import check_installed, speaker

if TYPE_CHECKING:
    from .job import Report

__all__ = ["check_trainer"]


@click.command(
    "check-trainer", short_help="Check that a trainer keeps documents apart, and uses weights."
)
@click.argument("trainer", metavar="TRAINER")
@click.option(
    "--shards",
    required=True,
    metavar="DIR",
    help="Shard set whose windows the trainer gets. Short windows are enough, and quick.",
)
@click.option(
    "--loop",
    type=click.Choice(("plain", "positions", "exactcpt")),
    help="How a model folder is trained; see above.  [default: plain]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON on stdout.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def check_trainer(
    trainer: str, shards: str, loop: str | None, as_json: bool, quiet: bool, **_: bool
) -> None:
    """Check whether a trainer keeps documents apart, and whether the weights arrive.

    TRAINER is a function, as module:function, a Hugging Face folder, or OWNER/NAME[@REVISION] of
    the Hugging Face hub. Steps are run on the CPU or wherever the function runs them; nothing is
    trained and nothing is written. Tokens, labels and weights are changed, and the gradient shows
    what they matter to.

    \b
    exactcpt check-trainer my_trainer:step --shards shards
    exactcpt check-trainer Qwen/Qwen2.5-0.5B --shards shards --loop exactcpt

    The function takes the micro-batches of one step: a list of dictionaries with input_ids, labels,
    loss_weights, position_ids, cu_seqlens and max_seqlen. It computes the loss of the step, goes
    backward, and returns the model, or its gradients by name. docs/check-trainer.md has an example.

    \b
    Loops of a model folder:
      plain      transformers' own attention and loss, from input_ids and labels; the mean over
                 the micro-batches
      positions  the same with position_ids and without a cache
      exactcpt   what `exactcpt train` does

    \b
    Exit codes:
      0  nothing fails
      1  a check fails, or the trainer ended with an error
      2  wrong usage
    """
    check_installed()
    from .job import check_trainer as run

    report = run(trainer, shards, loop, speaker(quiet))
    if as_json:
        echo_json(json.dumps(report.to_json()))
    elif not quiet:
        _print(report)
    if not report.holds:
        sys.exit(1)


def _print(report: "Report") -> None:
    from .tables import report_tables

    out = console(soft_wrap=True)
    for table in report_tables(report):
        for part in fitted(table, out):
            out.print(part)
