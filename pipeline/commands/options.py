"""The options of the commands: types of values, help texts, and what several commands share.

Every help text is written once, here or in `cli`. Types and defaults come from the configuration.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from typing import Any, TypeVar

import click

from ...schemas.help import Sections
from ...schemas.settings import flag_of
from ...schemas.sizes import parse_size
from ..config import KINDS, MAX_WORKERS, SETTINGS
from ..core.choices import BOUNDARIES, FORMATS
from ..core.parameters import PARAMETERS

__all__ = [
    "BEAM_ARGS",
    "BOUNDARIES_OF_ROWS",
    "DEBUG",
    "JOB_OPTIONS",
    "MIXING_OPTIONS",
    "ONE_VALUE",
    "OUT_SHARDS",
    "OVERWRITE",
    "PACKED_OPTIONS",
    "PACK_OPTIONS",
    "PAD_OF_ROWS",
    "QUIET",
    "RUNNER_OPTIONS",
    "RUN_OPTIONS",
    "SECTIONS",
    "SUMMARY_AS_JSON",
    "TOKENIZE_OPTIONS",
    "FractionType",
    "SizeType",
    "change",
    "options",
    "setting",
    "several",
    "with_terms",
]

F = TypeVar("F", bound=Callable[..., Any])

SECTIONS: Sections = {
    "Sources": (
        "sources", "sample", "packed", "validation", "boundaries", "pad_id", "min_tokens",
        "on_bad_file", "max_rejected", "max_record_bytes", "split_bytes",
    ),
    "Tokenizer": (
        "tokenizer", "tokenizer_backend", "eos_token", "bos", "special_tokens_in_text",
    ),
    "Windows": (
        "window", "packing", "epochs", "share", "token_budget", "validation_fraction", "dedup",
        "seed", "group_tokens", "shard_bytes",
    ),
    "Weights": (*PARAMETERS, "table"),
    "Output": (
        "out", "store", "discard_store", "overwrite", "table_only", "dry_run", "by_source",
        "as_json", "as_csv", "html", "svg",
    ),
    "Running": ("workers", "worker_type", "runner", "config", "print_config"),
}  # fmt: skip
"""Headings in the help of commands with many options, and the parameters under each."""

# Types of values


class SizeType(click.ParamType):
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


class Several(click.ParamType):
    """Values separated by commas; a value that is repeated counts once."""

    def __init__(self, one: click.ParamType) -> None:
        self.one, self.name = one, f"{one.name}[,...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parses 4096,8192."""
        if isinstance(value, tuple):
            return value
        found = (self.one.convert(word.strip(), param, ctx) for word in value.split(","))
        return tuple(dict.fromkeys(found))


class FractionType(click.ParamType):
    """A fraction above 0: 2% or 0.02."""

    name = "fraction"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parses 2% and 0.02."""
        if isinstance(value, float):
            return value
        try:
            fraction = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
        except ValueError:
            self.fail(f"{value!r} is not a fraction such as 2% or 0.02", param, ctx)
        if not 0 < fraction <= 1:
            self.fail(f"{value} is not above 0 and at most 100%", param, ctx)
        return fraction


# Settings

HELP: Mapping[str, str] = {
    "tokenizer": "A tokenizer.json, a folder that contains one, or a repository of the Hugging "
    "Face hub: OWNER/NAME[@REVISION].",
    "tokenizer_backend": "Library that encodes text. auto takes gigatoken if it gives the same "
    "tokens as tokenizers.",
    "eos_token": "Token that ends every document.",
    "bos": "Begin every document with a BOS token, or with none.",
    "special_tokens_in_text": "How to encode the text of a special token: as ordinary text, or "
    "(allow) as that token.",
    "min_tokens": "Drop documents with fewer tokens, BOS and EOS not counted.",
    "split_bytes": "Bytes of input text that one worker tokenizes at a time.",
    "on_bad_file": "What to do with a truncated or corrupt file: end the job, or leave the file "
    "out.",
    "max_rejected": "Fraction of records that may be rejected before the job fails.",
    "max_record_bytes": "Bytes that a record may have: a line, a row's document, a file of text. A "
    "longer one ends the job.",
    "window": "Window length in tokens.",
    "packing": "How to fill windows. concat joins documents and splits them where a window ends; "
    "best_fit splits only documents that are longer than a window.",
    "tau": "Effective context, in tokens, at which the tail begins.",
    "alpha": "Mean extra weight of the targets in the tail.",
    "gamma": "Exponent of the inverse frequency. At 0 the whole tail has one weight; the larger "
    "gamma, the more of the extra weight goes to rare buckets.",
    "epsilon": "Added to each bucket's share of the tail before the power is taken.",
    "max_weight": "Upper limit for the weight of a target.",
    "validation_fraction": "Fraction of documents held out for validation, chosen by content hash.",
    "token_budget": "Number of training tokens.",
    "group_tokens": "Tokens per shuffle group; documents are shuffled and packed within groups.",
    "shard_bytes": "Approximate size of a shard file in bytes.",
    "dedup": "Keep all documents of equal content (none), or only the first (exact).",
    "seed": "Seed of every shuffle and random draw.",
}
"""What each setting means, in every command that has a flag for it."""

DEFAULTS: Mapping[str, str] = {
    "eos_token": "found in the vocabulary",
    "bos": "as the tokenizer's files say",
    "tau": "window / 4",
    "max_weight": "none",
    "token_budget": "all that the sources have",
}
"""Defaults that a value cannot state, in words."""

ONE_VALUE = ("validation_fraction", "token_budget", "group_tokens", "dedup", "seed")
"""Settings of packing that have one value in all combinations that `inspect` shows."""
METAVARS: Mapping[str, str] = {"tokenizer": "PATH", "eos_token": "TOKEN"}


def setting(name: str) -> Callable[[F], F]:
    """The flag of a setting; its help states the default.

    The option itself has none: a value from a configuration file takes precedence over it.
    """
    default = SETTINGS[name].default
    shown = DEFAULTS.get(name, f"{default:,}" if type(default) is int else default)
    text = HELP[name] + (f"  [default: {shown}]" if shown is not MISSING else "")
    return _flag(name, _type_of(name), text)


def several(name: str) -> Callable[[F], F]:
    """The flag of a setting that takes several values; without it the value in the input holds."""
    return _flag(name, Several(_type_of(name)), HELP[name] + UNLIMITED.get(name, ""))


def change(name: str) -> Callable[[F], F]:
    """The flag of a setting that takes a new value; without it the value in the input holds."""
    return _flag(name, _type_of(name), HELP[name] + UNLIMITED.get(name, ""))


UNLIMITED = {"max_weight": " inf: no limit."}


def _type_of(name: str) -> click.ParamType:
    kind = KINDS[name]
    if kind.choices:
        return click.Choice(kind.choices)
    return SizeType() if kind.is_size else click.types.convert_type(kind.type)


def _flag(name: str, kind: click.ParamType, text: str) -> Callable[[F], F]:
    flag = flag_of(name)
    if KINDS[name].type is bool:
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    return click.option(flag, name, type=kind, default=None, metavar=METAVARS.get(name), help=text)


def options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in the order in which help shows them."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


# Options of several commands

TERMS = """\b
Terms:
  target             a token that the model is trained to predict
  effective context  how many tokens of its own document precede a target
                     in its window
  bucket             a range of effective contexts: 0-7, 8-15, 16-31, ...
  tail               the buckets that begin at TAU or above
  weight             1 outside the tail; inside it 1 + ALPHA * r / R, where
                     r is (bucket's share of the tail + EPSILON) ^ -GAMMA,
                     and R the mean of r over the targets of the tail
"""


def with_terms(function: F) -> F:
    """Ends a command's help text with the terms in which the weighting is explained."""
    function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n{TERMS}"
    return function


TOKENIZE_OPTIONS = options(
    click.option(
        "--source",
        "sources",
        multiple=True,
        metavar="[NAME=]PATTERN[,OPTION=X]...",
        help="A corpus: a file, folder, glob or URL. Without NAME, its name is that of the file or "
        "folder; of a glob, the last part without wildcards. Options: text=FIELD and id=FIELD of a "
        "record; tokens=FIELD for documents that are already tokenized; prompt=FIELD and "
        "answer=FIELD, with context=FIELD and template=FILE if you like, or messages=FIELD, for "
        "documents of which only the answers are learnt; epochs=X (times seen) or "
        "share=X (fraction of the token budget); format=F where file names do not show it or a "
        "folder has several; split=NAME where names show several and the one for training is not "
        f"wanted, or split=all. Formats: {', '.join(FORMATS)}. Repeatable.",
    ),
    *map(setting, ("tokenizer", "tokenizer_backend", "eos_token", "bos", "special_tokens_in_text")),
    *map(setting, ("min_tokens", "split_bytes", "on_bad_file", "max_rejected")),
    setting("max_record_bytes"),
)
PACK_OPTIONS = options(
    *map(setting, ("window", "packing", *PARAMETERS)),
    *map(setting, ("validation_fraction", "token_budget", "group_tokens", "shard_bytes")),
    *map(setting, ("dedup", "seed")),
)
BOUNDARIES_OF_ROWS = click.option(
    "--boundaries",
    type=click.Choice(("auto", *BOUNDARIES)),
    default="auto",
    help="How rows say where the documents in a window begin and end: a column of that name, "
    "or the end token after every document. auto takes the first such column that is there.",
    show_default=True,
)
PAD_OF_ROWS = click.option(
    "--pad-id",
    type=click.IntRange(0),
    metavar="ID",
    help="Token id that fills rows.  [default: the tokenizer's padding]",
)
PACKED_OPTIONS = options(
    setting("tokenizer"),
    setting("eos_token"),
    BOUNDARIES_OF_ROWS,
    PAD_OF_ROWS,
    click.option(
        "--validation",
        multiple=True,
        metavar="SOURCE",
        help="Packed windows for validation, whose weights are all 1. Repeatable.",
    ),
    setting("max_record_bytes"),
)
"""How rows that are packed windows are read."""
MIXING_OPTIONS = options(
    click.option(
        "--epochs",
        multiple=True,
        metavar="NAME=X",
        help="Times that a source is seen: 2 for twice, 0.5 for half of it. Repeatable.",
    ),
    click.option(
        "--share",
        multiple=True,
        metavar="NAME=X",
        help="Fraction of the token budget that a source fills. Repeatable.",
    ),
)
OUT_SHARDS = click.option("--out", metavar="DIR", help="Folder to write the shard set to.")
OVERWRITE = click.option(
    "--overwrite", is_flag=True, help="Replace what an earlier job wrote to the output folder."
)
SUMMARY_AS_JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print a summary as JSON on stdout."
)
QUIET = click.option("--quiet", is_flag=True, help="Print nothing but errors.")
DEBUG = click.option("--debug", is_flag=True, help="Show tracebacks and log messages.")
RUNNER_OPTIONS = options(
    click.option(
        "--workers",
        type=click.IntRange(1, MAX_WORKERS),
        help="Number of workers of the embedded runner.  [default: all cores]",
    ),
    click.option(
        "--worker-type",
        type=_type_of("worker_type"),
        help="Kind of workers of the embedded runner; processes suit many cores.  "
        "[default: threads]",
    ),
    click.option(
        "--runner",
        metavar="NAME",
        help="embedded, or any Beam runner; its own options go after --.  [default: embedded]",
    ),
)
"""Where work units run."""
BEAM_ARGS = click.argument(
    "beam_args", nargs=-1, type=click.UNPROCESSED, metavar="[-- BEAM_OPTIONS]"
)
RUN_OPTIONS = options(RUNNER_OPTIONS, OVERWRITE)
"""The same, for a job that writes a folder."""
JOB_OPTIONS = options(
    RUN_OPTIONS,
    click.option(
        "--config", metavar="FILE", help="TOML file with the same settings; flags override it."
    ),
    click.option(
        "--print-config", is_flag=True, help="Print the effective settings as TOML and stop."
    ),
    SUMMARY_AS_JSON,
    QUIET,
    DEBUG,
    BEAM_ARGS,
)
"""What the commands that run a Beam graph have in common."""
