"""The command line. Nothing heavy is imported before a command needs it."""

import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import MISSING
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from typing import Any, NoReturn, TypeVar

import click

from ..schemas.errors import ExactcptError
from ..schemas.sizes import parse_size
from .config import CHOICES, MAX_WORKERS, SETTINGS
from .job.interruption import end_on_signals

__all__ = ["cli", "main", "run_command"]

F = TypeVar("F", bound=Callable[..., Any])


class Size(click.ParamType):
    """A count of tokens or bytes, with an optional unit."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parses 4096, 256M, 32MiB."""
        if isinstance(value, int):
            return value
        try:
            return parse_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


SIZE = Size()


class Several(click.ParamType):
    """Values with commas between them; none is twice in the list."""

    def __init__(self, kind: click.ParamType) -> None:
        self.kind, self.name = kind, f"{kind.name}[,...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parses 4096,8192."""
        if isinstance(value, tuple):
            return value
        found = (self.kind.convert(word.strip(), param, ctx) for word in value.split(","))
        return tuple(dict.fromkeys(found))


class Part(click.ParamType):
    """A part of something: 2% or 0.02."""

    name = "part"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parses 2% and 0.02."""
        if isinstance(value, float):
            return value
        try:
            part = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
        except ValueError:
            self.fail(f"{value!r} is no part such as 2% or 0.02", param, ctx)
        if not 0 < part <= 1:
            self.fail(f"{value} is not above 0 and at most 100%", param, ctx)
        return part


def asked(name: str, kind: click.ParamType, help_text: str) -> Callable[[F], F]:
    """A flag for one or more values of a setting of packing."""
    flag = "--" + name.replace("_", "-")
    return click.option(flag, name, type=Several(kind), default=None, help=help_text)


def setting(name: str, help_text: str, kind: Any = None, **attributes: Any) -> Callable[[F], F]:
    """A flag for a setting; its default is the configuration's, so that a file can come between."""
    default = SETTINGS[name].default
    if default is not MISSING and default is not None:
        shown = (
            f"{default:,}"
            if isinstance(default, int) and not isinstance(default, bool)
            else default
        )
        help_text = f"{help_text}  [default: {shown}]"
    if name in CHOICES:
        kind = click.Choice(CHOICES[name])
    flag = "--" + name.replace("_", "-")
    return click.option(flag, name, type=kind, default=None, help=help_text, **attributes)


def options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in the order in which help shows them."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


TOKENIZE_OPTIONS = options(
    click.option(
        "--source",
        "sources",
        multiple=True,
        metavar="NAME=PATTERN[,OPTION=X]...",
        help="A corpus: a file, folder, glob or URL. Options: text=FIELD, id=FIELD, tokens=FIELD "
        "(pre-tokenized), epochs=X or share=X, format=jsonl|parquet|arrow|text|hub (where names do "
        "not say it, or a folder has several). Repeatable.",
    ),
    setting("tokenizer", "tokenizer.json, or a folder that has one.", metavar="PATH"),
    setting("tokenizer_backend", "Which library encodes."),
    setting(
        "eos_token", "Ends every document; by default found in the vocabulary.", metavar="TOKEN"
    ),
    click.option(
        "--bos/--no-bos",
        "bos",
        default=None,
        help="Whether documents begin with a BOS.  [default: as the tokenizer's template]",
    ),
    setting("special_tokens_in_text", "Whether the text of a special token becomes that token."),
    setting("min_tokens", "Shorter documents are dropped (BOS and EOS do not count).", SIZE),
    setting("split_bytes", "Input text of a unit of work.", SIZE),
    setting("on_bad_file", "Truncated or corrupt files end the job, or are left out."),
    setting("max_rejected", "Fraction of records that may be rejected.", float),
)
PACK_OPTIONS = options(
    setting("window", "Window length in tokens.", SIZE),
    setting("packing", "How documents are packed into windows."),
    setting(
        "tau", "Where the tail begins, in tokens of effective context.  [default: window / 4]", SIZE
    ),
    setting("alpha", "Mean extra weight of the tail's targets.", float),
    setting("gamma", "Exponent of the inverse frequency.", float),
    setting("epsilon", "Added to a bucket's share before the power.", float),
    setting("max_weight", "Ceiling for a weight.  [default: none]", float),
    setting("validation_fraction", "Documents that validate, by content hash.", float),
    setting("token_budget", "Training tokens.  [default: what the sources have]", SIZE),
    setting("group_tokens", "Scope of the shuffle, in tokens.", SIZE),
    setting("shard_bytes", "Size of a shard.", SIZE),
    setting("dedup", "Whether documents of equal content are dropped."),
    setting("seed", "Of every shuffle and draw.", int),
)
MIXING_OPTIONS = options(
    click.option(
        "--epochs", multiple=True, metavar="NAME=X", help="How often a source is seen. Repeatable."
    ),
    click.option(
        "--share",
        multiple=True,
        metavar="NAME=X",
        help="A source's part of the token budget. Repeatable.",
    ),
)
RUN_OPTIONS = options(
    click.option(
        "--workers",
        type=click.IntRange(1, MAX_WORKERS),
        help="Of the embedded runner.  [default: all cores]",
    ),
    click.option(
        "--worker-type",
        type=click.Choice(CHOICES["worker_type"]),
        help="Of the embedded runner; processes for many cores.  [default: threads]",
    ),
    click.option(
        "--runner",
        help="embedded, or any runner of Beam; its options go after --.  [default: embedded]",
    ),
    click.option(
        "--overwrite",
        is_flag=True,
        help="Write the output anew, whatever job has written there before. prepare keeps a token "
        "store of the same settings and inputs.",
    ),
)
OUTPUT_OPTIONS = options(
    click.option(
        "--config", metavar="FILE", help="TOML with the same settings; flags override it."
    ),
    click.option(
        "--print-config", is_flag=True, help="Print the effective settings as TOML and stop."
    ),
    click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON on stdout."),
    click.option("--quiet", is_flag=True, help="Print nothing but errors."),
    click.option("--debug", is_flag=True, help="Show tracebacks and the runner's log."),
)
BEAM_ARGS = click.argument(
    "beam_args", nargs=-1, type=click.UNPROCESSED, metavar="[-- BEAM_OPTIONS]"
)


class _Commands(click.Group):
    """The commands defined here and those of `training`, which no module here may import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_registered().names})

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
    """Packed long-context training data, every target weighted by its effective context."""


@cli.command()
@TOKENIZE_OPTIONS
@PACK_OPTIONS
@click.option("--out", metavar="DIR", help="The shard set to write.")
@click.option("--store", metavar="DIR", help="The token store between.  [default: OUT.store]")
@click.option("--discard-store", is_flag=True, help="Remove the token store at the end.")
@click.option("--dry-run", is_flag=True, help="Estimate windows and disk space, and stop.")
@RUN_OPTIONS
@OUTPUT_OPTIONS
@BEAM_ARGS
def prepare(**flags: Any) -> None:
    """Corpora to weighted shards: tokenize and pack.

    \b
    exactcpt prepare --source books=books.jsonl.zst --source web='web/*.parquet',epochs=0.5 \\
        --tokenizer qwen2_5/tokenizer.json --window 8192 --out shards/
    """
    from .commands.prepare import run_prepare

    run_prepare(flags)


@cli.command(short_help="Corpora to a token store.")
@TOKENIZE_OPTIONS
@click.option("--out", metavar="DIR", help="The token store to write.")
@click.option("--dry-run", is_flag=True, help="Estimate tokens and disk space, and stop.")
@RUN_OPTIONS
@OUTPUT_OPTIONS
@BEAM_ARGS
def tokenize(**flags: Any) -> None:
    """Corpora to a token store, from which any window and packing can be made."""
    from .commands.tokenize_ import run_tokenize

    run_tokenize(flags)


@cli.command()
@click.argument("store", metavar="STORE")
@PACK_OPTIONS
@MIXING_OPTIONS
@click.option("--out", metavar="DIR", help="The shard set to write.")
@RUN_OPTIONS
@OUTPUT_OPTIONS
@BEAM_ARGS
def pack(**flags: Any) -> None:
    """A token store to weighted shards."""
    from .commands.pack import run_pack

    run_pack(flags)


@cli.command(short_help="Re-derive what a shard set claims.")
@click.argument("shards", metavar="SHARDS")
@click.option(
    "--store",
    metavar="DIR",
    help="Compare with this token store.  [default: SHARDS.store, if it is there]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout.")
@click.option("--quiet", is_flag=True, help="Print nothing; the exit code tells.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def verify(**flags: Any) -> None:
    """Re-derive what a shard set claims; exit 1 and a list if anything is wrong.

    Duplicates, split and copies, segments, codes, histograms and weights are worked out a second
    time. Not checked: the order of windows, and which of them are in one shard (group_tokens,
    shard_bytes); without the store, that tokens and content hashes are those of the documents.
    """
    from .commands.verify import run_verify

    run_verify(flags["shards"], flags["store"], as_json=flags["as_json"], quiet=flags["quiet"])


@cli.command()
@click.argument("shards", metavar="SHARDS")
@click.option("--tau", type=SIZE, help="Where the tail begins, in tokens of effective context.")
@click.option("--alpha", type=float, help="Mean extra weight of the tail's targets.")
@click.option("--gamma", type=float, help="Exponent of the inverse frequency.")
@click.option("--epsilon", type=float, help="Added to a bucket's share before the power.")
@click.option("--max-weight", type=float, help="Ceiling for a weight; inf for none.")
@click.option("--table", metavar="FILE", help="A weight table (JSON) instead of the formula.")
@click.option("--out", metavar="DIR", help="The shard set to write.")
@click.option("--table-only", is_flag=True, help="Write the weight table, to --out or stdout.")
@click.option("--overwrite", is_flag=True, help="Replace what another job has written there.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON on stdout.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def reweigh(**flags: Any) -> None:
    """The same shards with other weights, without the token store.

    What is not given stays as it is in SHARDS. The result is what `pack` would write.
    """
    from .commands.reweigh import run_reweigh

    run_reweigh(flags)


@cli.command(short_help="See where the supervision goes, before training.")
@click.argument("paths", nargs=-1, metavar="PATH...")
@asked("window", SIZE, "Window lengths in tokens.")
@asked("packing", click.Choice(CHOICES["packing"]), "How documents are packed into windows.")
@asked("tau", SIZE, "Where the tail begins, in tokens of effective context.  [default: window / 4]")
@asked("alpha", click.FLOAT, "Mean extra weight of the tail's targets.")
@asked("gamma", click.FLOAT, "Exponent of the inverse frequency.")
@asked("epsilon", click.FLOAT, "Added to a bucket's share before the power.")
@asked("max_weight", click.FLOAT, "Ceilings for a weight; inf for none.")
@MIXING_OPTIONS
@setting("validation_fraction", "Documents that validate, by content hash.", float)
@setting("token_budget", "Training tokens.  [default: what the sources have]", SIZE)
@setting("group_tokens", "Scope of the shuffle, in tokens.", SIZE)
@setting("dedup", "Whether documents of equal content are dropped.")
@setting("seed", "Of every shuffle and draw.", int)
@TOKENIZE_OPTIONS
@click.option(
    "--sample",
    type=Part(),
    metavar="PART",
    help="How much of the sources is read and tokenized, to estimate from: 2% or 0.02.  "
    "[default: 2%]",
)
@click.option("--by-source", is_flag=True, help="Show every source's histogram, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a line a row and bucket.")
@click.option("--html", metavar="FILE", help="Write a page for a browser, with sliders.")
@click.option("--svg", metavar="FILE", help="Write the charts as a picture.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def inspect(**flags: Any) -> None:
    """See where the supervision goes, before anything is trained: histograms and weights.

    PATH is a token store, which answers for any settings (one row a combination), or a shard set,
    which answers for any weights. Two paths are compared. Raw corpora (--source, --tokenizer) are
    estimated from a sample.

    \b
    exactcpt inspect shards.store --window 4096,8192,16384 --packing concat,best_fit
    exactcpt inspect shards --alpha 0.05,0.15,0.5 --by-source
    exactcpt inspect --source web='web/*.parquet' --tokenizer tokenizer.json --sample 1%
    """
    from .commands.inspect_ import run_inspect

    run_inspect(flags)


@cli.command(short_help="Windows as a person reads them.")
@click.argument("shards", metavar="SHARDS")
@click.option("--window", type=click.IntRange(0), metavar="N", help="This window.  [default: 0]")
@click.option("--split", type=click.Choice(("train", "validation")), help="[default: train]")
@click.option(
    "--doc", metavar="ID", help="A document through its windows: its id, or #N for doc_index N."
)
@click.option(
    "--heaviest",
    type=click.IntRange(1),
    is_flag=False,
    flag_value=20,
    metavar="[N]",
    help="The segments with the most extra weight.  [N: 20]",
)
@click.option("--html", metavar="FILE", help="Write a page instead of printing.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def show(**flags: Any) -> None:
    """Windows as a person reads them: text, documents, effective contexts, weights.

    Without colour (in a pager, a file, or with NO_COLOR) the margin has the weights;
    FORCE_COLOR=1 keeps the shades for `less -R`.
    """
    from .commands.show import run_show

    run_show(flags)


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code: 0 done, 1 failed, 2 wrong usage."""
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    _set_up_logging(debug)
    try:
        cli.main(arguments, prog_name="exactcpt", standalone_mode=False)
        return 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except SystemExit as error:
        return int(error.code or 0)
    except ExactcptError as error:
        return _fail(str(error), error.exit_code, debug)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted; run the same command again to go on", 1, debug=False)
    except OSError as error:
        from .job.halt import disk_error

        return _fail(str(disk_error(error)), 1, debug)
    except Exception as error:
        return _fail(
            f"internal error: {type(error).__name__}: {error}\n  fix:      see --debug; report it",
            1,
            debug,
        )


def _fail(text: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    click.secho(f"error: {text}", fg="red", err=True)
    return code


def _set_up_logging(debug: bool) -> None:
    import logging

    logging.basicConfig(level=logging.DEBUG if debug else logging.CRITICAL)


def main() -> NoReturn:
    """The console script."""
    end_on_signals()
    if "--debug" not in sys.argv:
        threading.excepthook = _ignore  # Beam's and gRPC's, whose connections break with a worker
    code = run_command()
    sys.stdout.flush()
    sys.stderr.flush()
    if any(thread.name.startswith("exactcpt-") for thread in threading.enumerate()):
        os._exit(code)  # they are still at work on what was given up
    sys.exit(code)


def _ignore(_: object) -> None:
    """Errors of other libraries' threads; a job's own error comes from its main thread."""
