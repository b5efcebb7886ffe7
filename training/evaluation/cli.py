"""The command `evaluate`. Nothing heavy is imported before it runs."""

import json
from typing import Any, get_args

import click

from ...schemas.fitting import fitted
from ...schemas.help import SectionedCommand, Sections
from ...schemas.sizes import parse_size
from ...schemas.terminal import console, echo_json
from ..config import Device, Precision
from ..options import check_installed, size, speaker
from .config import (
    ABLATIONS,
    FILES,
    ITEMS,
    EvaluateConfig,
    chosen_scores,
    chosen_suites,
    chosen_tasks,
)

__all__ = ["evaluate"]


def _lengths(
    _: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(parse_size(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


SECTIONS: Sections = {
    "Items": (
        "suite", "tasks", "lengths", "items", "haystack", "ablation", "squad", "hotpotqa", "nolima",
        "data", "shots", "tokenizer", "seed",
    ),
    "Scores": ("score",),
    "Machine": ("device", "precision", "batch_tokens"),
    "Output": ("out", "items_only", "as_json"),
}  # fmt: skip
"""Headings in the help, and the options under each."""


@click.command(cls=SectionedCommand, sections=SECTIONS)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--suite",
    default="probe",
    show_default=True,
    metavar="NAME,...",
    help="What to evaluate: any of probe, buckets, ruler, latent, nolima and standard.",
)
@click.option(
    "--tasks",
    metavar="NAME,...",
    help="Tasks of the suites, by name or as patterns such as 'gain-*'.  [default: all; qa_1 and "
    "qa_2 only with their files]",
)
@click.option(
    "--lengths",
    metavar="SIZE,...",
    callback=_lengths,
    help="Tokens of the longest prompts with their answers, such as 4096,8192; 4K is 4,000.  "
    "[default: the trained window, twice and four times it]",
)
@click.option(
    "--items",
    type=int,
    metavar="N",
    help="Facts of each task and length in the probe, for natural at each distance; prompts in "
    "ruler, latent and nolima; windows in buckets; the first items of each task in standard.  "
    f"[default: {ITEMS}; in standard all]",
)
@click.option(
    "--haystack",
    metavar="PATH",
    help="Where the text around the facts comes from: the validation documents of a shard set, a "
    "file named *.txt or *.jsonl, or the world.json of `exactcpt recall-world`.  [default: the "
    "shards of the first run]",
)
@click.option(
    "--tokenizer",
    metavar="PATH",
    help="Tokenizer for --items-only with a text file.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the items, not of the runs."
)
@click.option(
    "--ablation",
    type=click.Choice(ABLATIONS),
    default="replace",
    show_default=True,
    help="What stands in the evidence's place without it: another fact, the same fact with another "
    "value, or no fact.",
)
@click.option(
    "--score",
    metavar="NAME,...",
    help="How answers of ruler, latent and nolima are scored: loglik, choice, generate.  "
    "[default: loglik,choice]",
)
@click.option(
    "--squad", metavar="FILE", help="SQuAD 2.0, such as dev-v2.0.json, for the task qa_1 of ruler."
)
@click.option(
    "--hotpotqa",
    metavar="FILE",
    help="HotpotQA, such as hotpot_dev_distractor_v1.json, for the task qa_2 of ruler.",
)
@click.option(
    "--nolima",
    metavar="DIR",
    help="Folder with the data of NoLiMa, which you have downloaded, for the suite nolima.",
)
@click.option(
    "--data",
    metavar="DIR",
    help="Folder with TASK.jsonl and TASK.shots.jsonl for the tasks of standard.  [default: the "
    "Hugging Face hub, or its cache]",
)
@click.option(
    "--shots",
    type=int,
    metavar="N",
    help="Solved examples before each item of standard.  [default: the usual number of each task]",
)
@click.option(
    "--batch-tokens",
    metavar="SIZE",
    callback=size,
    help="Tokens in memory at once; halved when the memory runs out.  [default: 16,384 on the CPU, "
    "262,144 on CUDA]",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="Precision of the computation.  [default: fp32 on the CPU, bf16 on CUDA]",
)
@click.option(
    "--device",
    type=click.Choice(get_args(Device)),
    default="auto",
    show_default=True,
    help="Device to evaluate on.",
)
@click.option(
    "--out",
    metavar="DIR",
    help="Folder for the results, with a folder for each model.  [default: RUN/eval of each run]",
)
@click.option(
    "--items-only",
    is_flag=True,
    help="Write the items of probe, ruler and latent with their prompts to --out, and stop.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the means as JSON on stdout.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def evaluate(**flags: Any) -> None:
    """Evaluate models: how well they use distant text.

    A MODEL is a run, by its newest checkpoint; RUN@STEP, by another one; a Hugging Face folder; or
    OWNER/NAME[@REVISION] of the Hugging Face hub.
    All must have one tokenizer. Every model gets the same items, so `exactcpt compare` can compare
    runs item by item. What is finished is not computed again, and an evaluation that was stopped
    goes on when the same command is given again.

    \b
    exactcpt evaluate runs/exact runs/uniform --suite probe,buckets --haystack shards
    exactcpt evaluate trained --haystack shards --lengths 4096 --out evaluated

    \b
    Suites and their tasks:
      probe    A fact is hidden in a text, at many distances from the question that asks for it.
               The score is what the fact is worth to the answer, and whether the model prefers
               the right answer to seven others.
               number, place, code, alias: facts that are made up
               natural: a rare sequence of tokens of a real document, which comes back
               recall: the only task where the haystack is a recall world
      buckets  The loss on validation windows: by effective context, what a longer context
               takes off it, and by how far back the same two tokens stand.
               bucket, gain-128, gain-512, gain-tau, recurrence
      ruler    The tasks of RULER: values, variables and words are found, traced and counted in
               long prompts. The answers are scored, chosen or written.
               niah_single_1 to 3, niah_multikey_1 to 3, niah_multivalue, niah_multiquery,
               vt, cwe, fwe, qa_1, qa_2
      latent   Needles that share no word with the question: somebody bought a banjo, and the
               owner of a musical instrument is asked for.
               alone: one needle; among: eight, of different kinds
      nolima   NoLiMa, with the data that you have downloaded (--nolima).
               needle_set; by name, any other needle set of the data
      standard Whether nothing was harmed: benchmarks through lm-evaluation-harness.
               mmlu, arc_challenge, hellaswag, winogrande, piqa, gsm8k; by name, any of its others
    """
    suites = chosen_suites(flags["suite"])
    config = EvaluateConfig(
        models=flags["models"],
        suites=suites,
        tasks=chosen_tasks(
            flags["tasks"],
            suites,
            flags["haystack"],
            lacking=[task for task, name in FILES.items() if not flags[name]],
        ),
        score=chosen_scores(flags["score"], suites),
        **{
            name: flags[name]
            for name in (
                "lengths", "items", "haystack", "tokenizer", "seed", "ablation", "squad",
                "hotpotqa", "nolima", "data", "shots", "batch_tokens", "precision", "device",
                "out", "items_only",
            )
        },
    )  # fmt: skip
    say = speaker(flags["quiet"])
    if config.items_only:
        from .items_only import write_items

        folders = write_items(config, say)
        if flags["as_json"]:
            echo_json(json.dumps({"items": [str(folder) for folder in folders]}))
        return
    check_installed()
    from .job import evaluate as run
    from .summary import summary

    summaries = [summary(each) for each in run(config, say)]
    if flags["as_json"]:
        echo_json(json.dumps({"evaluations": summaries}))
    elif not flags["quiet"]:
        _print(summaries)


def _print(summaries: list[dict[str, Any]]) -> None:
    from .tables import evaluation_tables

    out = console(soft_wrap=True)
    for table in evaluation_tables(summaries):
        for part in fitted(table, out):
            out.print(part)
