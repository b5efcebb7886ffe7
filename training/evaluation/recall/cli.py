"""The command `recall-world`. Nothing heavy is imported before it runs."""

import json
from collections.abc import Callable
from dataclasses import MISSING
from pathlib import Path
from typing import Any, TypeVar

import click

from ....schemas.help import SectionedCommand, Sections
from ....schemas.settings import flag_of, kinds
from ....schemas.terminal import console, echo, echo_json
from ...options import size, speaker
from .config import WorldConfig

__all__ = ["recall_world"]

F = TypeVar("F", bound=Callable[..., Any])

HELP = {
    "fillers": ("N", "Fillers of the language."),
    "keys": ("N", "Keys of the language."),
    "values": ("N", "Values of the language; to recall one is worth log N nats."),
    "window": ("N", "Tokens of the longest documents."),
    "tau": ("N", "Tokens of the longest short documents."),
    "short": ("SIZE", "Tokens of short.jsonl."),
    "mixed": ("SIZE", "Tokens of mixed.jsonl."),
    "long_share": (None, "Share of the documents of mixed.jsonl that are long."),
    "seed": (None, "Seed of the language and of the documents."),
}  # fmt: skip
"""Metavariable and help text of each setting's flag."""


def _settings(function: F) -> F:
    for name, kind in reversed(kinds(WorldConfig).items()):
        default = WorldConfig.__dataclass_fields__[name].default
        assert default is not MISSING
        metavar, text = HELP[name]
        read: dict[str, Any] = {"callback": size} if kind.is_size else {"type": kind.type}
        shown = f"{text}  [default: {default:,}]"
        function = click.option(
            flag_of(name), name, metavar=metavar, help=shown, default=None, **read
        )(function)
    return function


SECTIONS: Sections = {
    "Language": ("fillers", "keys", "values", "seed"),
    "Documents": ("window", "tau", "short", "mixed", "long_share"),
    "Output": ("as_json",),
}  # fmt: skip
"""Headings in the help, and the options under each."""


@click.command(cls=SectionedCommand, sections=SECTIONS)
@click.argument("folder", metavar="DIR")
@_settings
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON on stdout.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def recall_world(folder: str, as_json: bool, quiet: bool, debug: bool, **flags: Any) -> None:
    """Write a corpus in which only recall needs a long context.

    A document is filler among pairs of a key and a value. When a key comes again, its value is the
    one that it had before in the document: a model that recalls it is certain, and another one has
    to guess. Small models learn that in minutes on a CPU, so whole experiments fit there.

    \b
    exactcpt recall-world world
    exactcpt prepare --source mixed=world/mixed.jsonl --tokenizer world/tokenizer \\
        --tokenizer-backend tokenizers --window 512 --packing best_fit --out shards
    exactcpt evaluate RUN --haystack world/world.json

    \b
    DIR has
      short.jsonl   documents of at most tau tokens, to learn recall from
      mixed.jsonl   the same with a few long documents: long windows, rarely a long context
      tokenizer     a word for every token
      world.json    the language, a haystack for `exactcpt evaluate`
    """
    config = WorldConfig(**{name: value for name, value in flags.items() if value is not None})
    from .corpus import write_world

    corpora = write_world(Path(folder), config, speaker(quiet))
    if as_json:
        echo_json(json.dumps({"folder": folder, "corpora": [each.summary() for each in corpora]}))
    elif not quiet:
        from .tables import corpus_table

        console(soft_wrap=True).print(corpus_table(corpora))
        echo(f"{folder} is complete", err=True)
