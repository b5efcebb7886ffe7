"""The command line: one function per command, which imports what it needs when it runs."""

import logging
import os
import sys
import threading
from collections.abc import Sequence
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from typing import Any, NoReturn

import click

from ..schemas.disk_errors import disk_error
from ..schemas.errors import ExactcptError
from ..schemas.help import SectionedCommand, Sections, in_sections
from ..schemas.importing import keep_pandas_out_of_pyarrow
from ..schemas.terminal import (
    echo,
    echo_traceback,
    echo_usage,
    log_to_stderr,
    tame_warnings,
)
from .commands.options import (
    BEAM_ARGS,
    BOUNDARIES_OF_ROWS,
    DEBUG,
    JOB_OPTIONS,
    MIXING_OPTIONS,
    ONE_VALUE,
    OUT_SHARDS,
    OVERWRITE,
    PACK_OPTIONS,
    PACKED_OPTIONS,
    PAD_OF_ROWS,
    QUIET,
    RUN_OPTIONS,
    RUNNER_OPTIONS,
    SECTIONS,
    SUMMARY_AS_JSON,
    TOKENIZE_OPTIONS,
    FractionType,
    SizeType,
    change,
    options,
    setting,
    several,
    with_terms,
)
from .commands.streams import settle_streams
from .core.choices import CONVERTED, PUBLISHED
from .core.parameters import PARAMETERS
from .job.interruption import end_on_signals, stop_interrupting

__all__ = ["GROUPS", "cli", "main", "run_command"]


GROUPS: Sections = {
    "Prepare": ("prepare", "tokenize", "pack", "weigh", "reweigh", "verify", "convert", "publish"),
    "Look": ("inspect", "show", "doctor"),
    "Train": ("init-model", "train", "check-trainer", "export"),
    "Study": ("evaluate", "compare", "study", "recall-world"),
}
"""The commands in help, in the order in which they are met."""
CONTINUED = (
    "prepare", "tokenize", "pack", "weigh", "reweigh", "verify", "publish",
    "train", "evaluate", "study",
)  # fmt: skip
"""Commands that go on from what is done when they are given again; the others begin anew."""
PROCESS = object()
"""What the commands get as click's `obj` where the process does nothing but run one of them."""


class _Command(SectionedCommand):
    sections = SECTIONS

    def invoke(self, ctx: click.Context) -> Any:
        if ctx.find_root().obj is PROCESS:
            keep_pandas_out_of_pyarrow()
        return super().invoke(ctx)


class _Commands(click.Group):
    """The commands defined here and those of `training`, which no module here may import."""

    command_class = _Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for _, names in self._grouped(ctx) for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups = self._grouped(ctx)
        width = max(len(name) for _, names in groups for name in names)
        for heading, names in groups:
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(heading):
                room = formatter.width - width - 4
                formatter.write_dl(
                    [
                        (f"{name:<{width}}", command.get_short_help_str(room))
                        for name, command in commands
                        if command is not None
                    ]
                )

    def _grouped(self, ctx: click.Context) -> list[tuple[str, list[str]]]:
        there = sorted({*super().list_commands(ctx), *_registered().names})
        return in_sections(there, GROUPS, "More")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own is None and cmd_name in _registered().names:
            return _registered()[cmd_name].load()
        return own


@cache
def _registered() -> EntryPoints:
    return entry_points(group="exactcpt.commands")


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="exactcpt")
def cli() -> None:
    """Turn text corpora into packed training windows in which every token to predict has a loss
    weight that depends on its effective context: how much of its own document it can see.

    `prepare` does all of it: it tokenizes corpora into a token store, and packs that into a shard
    set: Arrow files of windows with their weights, for `train` or any other trainer.
    """


@cli.command(short_help="Tokenize corpora and pack them into weighted shards.")
@TOKENIZE_OPTIONS
@PACK_OPTIONS
@OUT_SHARDS
@click.option(
    "--store",
    metavar="DIR",
    help="Folder for the token store; one of the same settings and inputs is used again, also "
    "with --overwrite.  [default: OUT.store]",
)
@click.option("--discard-store", is_flag=True, help="Remove the token store at the end.")
@click.option("--dry-run", is_flag=True, help="Estimate tokens, windows and disk space, and stop.")
@JOB_OPTIONS
@with_terms
def prepare(**flags: Any) -> None:
    """Tokenize corpora and pack them into weighted shards: `tokenize`, then `pack`.

    The token store between the two stays, so another window or other weights need no second
    tokenization. If the job is stopped, run the same command again: it continues where it stopped.

    \b
    exactcpt prepare --source books=books.jsonl.zst --source web='web/*.parquet',epochs=0.5 \\
        --tokenizer qwen2_5/tokenizer.json --window 8192 --out shards/
    """
    from .commands.prepare import run_prepare

    run_prepare(flags)


@cli.command(short_help="Tokenize corpora into a token store.")
@TOKENIZE_OPTIONS
@click.option("--out", metavar="DIR", help="Folder to write the token store to.")
@click.option("--dry-run", is_flag=True, help="Estimate tokens and disk space, and stop.")
@JOB_OPTIONS
def tokenize(**flags: Any) -> None:
    """Tokenize corpora into a token store, from which `pack` makes shards of any window length,
    packing and weighting.

    \b
    exactcpt tokenize --source web='web/*.parquet' --tokenizer tokenizer.json --out web.store
    """
    from .commands.tokenize_ import run_tokenize

    run_tokenize(flags)


@cli.command(short_help="Pack a token store into weighted shards.")
@click.argument("store", metavar="STORE")
@PACK_OPTIONS
@MIXING_OPTIONS
@OUT_SHARDS
@JOB_OPTIONS
@with_terms
def pack(**flags: Any) -> None:
    """Pack a token store into windows, and write them as shards with a loss weight per target.

    \b
    exactcpt pack shards.store --window 4096 --packing best_fit --alpha 0.3 --out shards-4096
    """
    from .commands.pack import run_pack

    run_pack(flags)


@cli.command(short_help="Give windows that are packed already their loss weights.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="SOURCE... [-- BEAM_OPTIONS]")
@PACKED_OPTIONS
@click.option(
    "--window",
    type=SizeType(),
    help="Window length in tokens; shorter rows are padded.  [default: that of the rows, which "
    "must then be equal]",
)
@options(*map(setting, (*PARAMETERS, "shard_bytes")))
@OUT_SHARDS
@RUN_OPTIONS
@SUMMARY_AS_JSON
@QUIET
@DEBUG
@with_terms
def weigh(**flags: Any) -> None:
    """Give windows that are packed already their loss weights, and write them as a shard set.

    SOURCE is a file, folder, glob or URL of Parquet or Arrow files, a data set saved by
    `datasets`, or one of the hub: [NAME=]PATTERN[,OPTION=X]..., with the options tokens=FIELD
    (default: input_ids), format=hub and split=NAME. Each row is one window of token ids. Nothing
    is tokenized, packed or shuffled again.

    \b
    exactcpt weigh 'packed/*.parquet' --tokenizer tokenizer.json --out shards
    exactcpt weigh old=packed.arrow --boundaries end_token --tokenizer qwen2_5 --out shards
    """
    from .commands.weigh import run_weigh

    run_weigh(flags)


@cli.command(short_help="Check a shard set against what its manifest claims.")
@click.argument("shards", metavar="SHARDS")
@click.option(
    "--store",
    metavar="DIR",
    help="Token store to compare with.  [default: SHARDS.store, if it is there]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout.")
@click.option("--quiet", is_flag=True, help="Print nothing; the exit code is the answer.")
@DEBUG
@RUNNER_OPTIONS
@BEAM_ARGS
def verify(**flags: Any) -> None:
    """Check a shard set against what its manifest claims. If anything is wrong, list it and exit
    with code 1.

    Segments, effective contexts, duplicates, the split, mixing, histograms and weights are derived
    a second time, from the shards themselves. Not checked: the order of the windows, and which of
    them share a shard (group_tokens, shard_bytes); without the token store, whether tokens and
    content hashes are those of the documents.
    """
    from .commands.verify import run_verify

    run_verify(flags)


@cli.command(short_help="Copy a shard set with other loss weights.")
@click.argument("shards", metavar="SHARDS")
@options(*map(change, PARAMETERS))
@click.option(
    "--table", metavar="FILE", help="Take the weights from a weight table (JSON), not the formula."
)
@OUT_SHARDS
@click.option(
    "--table-only",
    is_flag=True,
    help="Write only the weight table: to the file --out, or to stdout.",
)
@RUN_OPTIONS
@SUMMARY_AS_JSON
@QUIET
@DEBUG
@BEAM_ARGS
@with_terms
def reweigh(**flags: Any) -> None:
    """Copy a shard set with other loss weights. No token store is needed.

    Parameters that are not given keep the values of SHARDS. The copy is what `pack` would write
    with the new ones.

    \b
    exactcpt reweigh shards --alpha 0.3 --tau 1024 --out shards-0.3
    exactcpt reweigh shards --gamma 1 --table-only > table.json
    """
    from .commands.reweigh import run_reweigh

    run_reweigh(flags)


@cli.command(short_help="Write the windows of a shard set in another format.", sections={})
@click.argument("shards", metavar="SHARDS")
@click.option(
    "--to",
    type=click.Choice(CONVERTED),
    required=True,
    help="The format: of MosaicML Streaming, of Megatron-LM, or Parquet, with weights as floats.",
)
@click.option("--out", metavar="DIR", help="Folder to write, on a local disk.")
@QUIET
@DEBUG
def convert(**flags: Any) -> None:
    """Write the windows of a shard set in another format, with their weights and boundaries.

    Every file is compared with the manifest of SHARDS on the way. The folder gets its name when all
    of it is written. The same command again leaves it as it is.

    \b
    exactcpt convert shards --to mds --out shards-mds
    exactcpt convert shards --to parquet --out shards-parquet
    """
    from .commands.convert import run_convert

    run_convert(flags)


@cli.command(short_help="Write a shard set as a data set with a card, for the hub.")
@click.argument("shards", metavar="SHARDS")
@click.option("--out", metavar="DIR", help="Folder to write the data set to.")
@click.option(
    "--format",
    "to",
    type=click.Choice(PUBLISHED),
    default="parquet",
    show_default=True,
    help="Format of the windows: Parquet, for whatever reads tables, or Arrow, for exactcpt too.",
)
@click.option("--title", metavar="TEXT", help="Title of the card.  [default: names the sources]")
@click.option(
    "--license",
    "--licence",
    "license",
    metavar="SPDX",
    help="Licence, as an SPDX identifier such as CC-BY-4.0.  [default: not stated]",
)
@click.option(
    "--push",
    metavar="REPO",
    help="Upload the folder to a data set of the Hugging Face hub, OWNER/NAME. One that is not "
    "there yet is made, and is private.",
)
@OVERWRITE
@QUIET
@DEBUG
def publish(**flags: Any) -> None:
    """Write a shard set as a data set that explains itself, as the Hugging Face hub wants it.

    The folder has the windows, the table of documents, the tokenizer, the manifest, and a card
    (README.md) with the weights, a picture of them, the sources and their checksums, what the
    columns mean, and how to load them. Look at it before you show it: the licences of the sources
    are not known here, and ids of documents and names of files are published as they are.

    \b
    exactcpt publish shards --out shards-hub --title "Novels in long windows" --license CC0-1.0
    exactcpt publish shards --out shards-hub --format arrow --push me/novels
    """
    from .commands.publish import run_publish

    run_publish(flags)


@cli.command(short_help="Show histograms and weights before anything is trained.")
@click.argument("paths", nargs=-1, metavar="PATH...")
@options(*map(several, ("window", "packing", *PARAMETERS)))
@MIXING_OPTIONS
@options(*map(setting, ONE_VALUE))
@TOKENIZE_OPTIONS
@click.option(
    "--sample",
    type=FractionType(),
    help="Fraction of the text to tokenize for the estimate: 2% or 0.02.  [default: 2%]",
)
@click.option(
    "--packed",
    is_flag=True,
    help="PATHs are windows that are packed already, as `weigh` takes them.",
)
@BOUNDARIES_OF_ROWS
@PAD_OF_ROWS
@click.option("--by-source", is_flag=True, help="Also show the histogram of every source.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option(
    "--csv", "as_csv", is_flag=True, help="Print CSV: one line per combination and bucket."
)
@click.option("--html", metavar="FILE", help="Write a web page with sliders for the weights.")
@click.option("--svg", metavar="FILE", help="Write the charts as a picture.")
@DEBUG
@with_terms
def inspect(**flags: Any) -> None:
    """Show histograms and weights before anything is trained: how many targets have how much
    effective context, and what share of the loss weight they get.

    PATH is a token store, for which any window, packing and weights can be tried, or a shard set,
    for which any weights can. Two paths are compared. Raw corpora (--source, --tokenizer) are
    estimated from a sample. Windows of another packer (--packed, --tokenizer) are counted.

    Where several values can be given, separated by commas, every combination is shown. A setting
    that is not given has the default of `pack` for a token store and corpora, and the set's own
    value for a shard set.

    \b
    exactcpt inspect shards.store --window 4096,8192,16384 --packing concat,best_fit
    exactcpt inspect shards --alpha 0.05,0.15,0.5 --by-source
    exactcpt inspect --source web='web/*.parquet' --tokenizer tokenizer.json --sample 1%
    exactcpt inspect --packed 'packed/*.parquet' --tokenizer tokenizer.json
    """
    from .commands.inspect_ import run_inspect

    run_inspect(flags)


@cli.command(short_help="Show windows as text, with effective contexts and weights.", sections={})
@click.argument("shards", metavar="[SHARDS]", required=False)
@click.option("--window", type=click.IntRange(0), metavar="N", help="Show the window of a number.")
@click.option(
    "--split",
    type=click.Choice(("train", "validation")),
    help="Split that the window is in.  [default: train]",
)
@click.option(
    "--doc",
    metavar="ID",
    help="Show a document through all its windows: its id, or #N for doc_index N.",
)
@click.option(
    "--heaviest",
    type=click.IntRange(1),
    is_flag=False,
    flag_value=20,
    metavar="[N]",
    help="Show the segments with the most extra weight, from N documents.  [N: 20]",
)
@click.option(
    "--run",
    metavar="RUN",
    help="With --step: the folder of a run of `train`. Without SHARDS, its shard set is taken.",
)
@click.option(
    "--step",
    type=click.IntRange(1),
    metavar="N",
    help="Show the windows that a step of the run takes, in the order of the run.",
)
@click.option("--html", metavar="FILE", help="Write a web page instead of printing.")
@DEBUG
def show(**flags: Any) -> None:
    """Show windows as text: documents, effective contexts, loss weights. Without options, show
    the first place where a target weighs more than 1.

    \b
    exactcpt show shards
    exactcpt show shards --window 3
    exactcpt show --run runs/exact --step 1234

    A segment is the part of a document that is in one window. The effective context of a token is
    how many tokens precede it in its segment. Colours are shades of the weight; without colour (in
    a pager, a file, or with NO_COLOR) the margin has the weights. FORCE_COLOR=1 keeps the shades
    for `less -R`.
    """
    from .commands.show import run_show

    run_show(flags)


@cli.command(short_help="Say what is installed, and what this machine would use.", sections={})
@click.argument("folder", metavar="[FOLDER]", default=".")
@click.option(
    "--tokenizer",
    metavar="PATH",
    help="Try a tokenizer.json: whether gigatoken gives the same tokens as tokenizers.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
@DEBUG
def doctor(**flags: Any) -> None:
    """Say what is installed, and what this machine would use: versions, cores, memory, disks,
    devices, and the attention backend that `train` takes.

    FOLDER is where shards or runs are to go; the room on its disk is shown.

    \b
    exactcpt doctor
    exactcpt doctor /data --tokenizer qwen2_5/tokenizer.json
    """
    from .commands.doctor import run_doctor

    run_doctor(flags)


def run_command(arguments: Sequence[str] | None = None, obj: object = None) -> int:
    """Runs the command line and returns its exit code: 0 done, 1 failed, 2 wrong usage.

    Args:
        arguments: of the command line; None for those of the process.
        obj: PROCESS, if the process is there for this command alone.
    """
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    _set_up_logging(debug)
    try:
        cli.main(arguments, prog_name="exactcpt", standalone_mode=False, obj=obj)
        return 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        echo_usage(error)
        return 2
    except SystemExit as error:
        return int(error.code or 0)
    except ExactcptError as error:
        return _fail(str(error), error.exit_code, debug)
    except (KeyboardInterrupt, click.Abort):
        return _interrupted(arguments)
    except Exception as error:
        from .job.halt import internal_error

        told = disk_error(error) if isinstance(error, OSError) else internal_error(error)
        return _fail(str(told), told.exit_code, debug)


def _interrupted(arguments: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    goes_on = next((word for word in words if not word.startswith("-")), None) in CONTINUED
    advice = "; run the same command again to continue" if goes_on else ""
    return _fail(f"interrupted{advice}", 1, debug=False)


def _fail(text: str, code: int, debug: bool) -> int:
    if debug:
        echo_traceback()
    echo(f"error: {text}", fg="red", err=True)
    return code


def _set_up_logging(debug: bool) -> None:
    log_to_stderr(logging.DEBUG if debug else logging.CRITICAL)


def main() -> NoReturn:
    """Runs the console script."""
    try:
        settle_streams()
        end_on_signals()
        tame_warnings()
        if "--debug" not in sys.argv:
            threading.excepthook = _ignore  # Beam's, gRPC's: connections break with a worker
        code = _flush(run_command(obj=PROCESS))
    except KeyboardInterrupt:  # before the command began, or after it ended
        code = _interrupted()
    stop_interrupting()
    if any(thread.name.startswith("exactcpt-") for thread in threading.enumerate()):
        os._exit(code)  # such a thread still works on a job that was given up
    sys.exit(code)


def _flush(code: int) -> int:
    """Writes out what was printed; the exit code is an error's if that cannot be done."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError as error:
        return _fail(str(disk_error(error)), code or 1, debug=False)
    return code


def _ignore(_: object) -> None:
    """Drops errors in other libraries' threads; a job's own error is raised in the main thread."""
