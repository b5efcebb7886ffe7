"""The command `init-model`. Nothing heavy is imported before it runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ...schemas.errors import UsageError
from ...schemas.help import SectionedCommand, Sections
from ...schemas.hub import local_tokenizer
from ...schemas.settings import check_range, flag_of
from ...schemas.terminal import echo_json
from ..options import check_installed, size, speaker
from .shape import SIZES, Shape

__all__ = ["init_model"]

F = TypeVar("F", bound=Callable[..., Any])

HELP = {
    "hidden": f"Width of the model.  [default: {Shape.hidden}]",
    "layers": "Layers.  [default: hidden / 64, at least 2]",
    "heads": "Attention heads of a layer.  [default: hidden / 64, at least 4]",
    "kv_heads": "Heads of keys and values of a layer.  [default: as many as heads]",
    "intermediate": "Width inside of the feed-forward layers.  [default: 8/3 hidden, up to the "
    "next multiple of 64]",
    "positions": f"Longest window, in tokens.  [default: {Shape.positions:,}]",
}


def _sizes(function: F) -> F:
    for name in reversed(SIZES):
        parse: dict[str, Any] = {"callback": size} if name == "positions" else {"type": int}
        metavar = "SIZE" if name == "positions" else "N"
        function = click.option(
            flag_of(name), name, default=None, metavar=metavar, help=HELP[name], **parse
        )(function)
    return function


SECTIONS: Sections = {
    "Model": (
        "tokenizer", "config", "hidden", "layers", "heads", "kv_heads", "intermediate",
        "positions", "seed",
    ),
    "Output": ("as_json",),
}  # fmt: skip
"""Headings in the help, and the options under each."""


@click.command("init-model", cls=SectionedCommand, sections=SECTIONS)
@click.argument("folder", metavar="FOLDER")
@click.option(
    "--tokenizer",
    required=True,
    metavar="PATH",
    help="Tokenizer of the model, which gives its vocabulary: a tokenizer.json, the folder that "
    "has one, or a repository of the Hugging Face hub, OWNER/NAME[@REVISION].",
)
@_sizes
@click.option(
    "--config",
    metavar="FILE",
    help="A config.json of another model that can be trained, instead of sizes; its vocabulary is "
    "replaced.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of the random weights.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON on stdout.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def init_model(
    folder: str,
    tokenizer: str,
    config: str | None,
    seed: int,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Make a Hugging Face folder of an untrained model.

    It is a Llama model of the sizes given, or what --config describes. `exactcpt train --model` and
    `exactcpt evaluate` take the folder. One seed gives the same weights every time.

    \b
    exactcpt init-model small --tokenizer tokenizer.json --hidden 256
    exactcpt init-model big --tokenizer Qwen2.5-0.5B --config Qwen2.5-0.5B/config.json
    """
    sizes = {name: flags[name] for name in SIZES if flags[name] is not None}
    if config is not None and sizes:
        raise UsageError(
            f"both --config and {flag_of(next(iter(sizes)))} are given",
            fix="change the sizes in the file, or give sizes alone",
        )
    check_range("seed", seed, 0, (1 << 64) - 1)
    shape = Shape(**sizes)
    check_installed()
    from .model import init_model as make

    made = make(
        Path(folder),
        described=shape.config() if config is None else Path(config),
        tokenizer=Path(local_tokenizer(tokenizer)),
        seed=seed,
    )
    speaker(quiet)(
        f"{folder} is complete: {made['parameters']:,} parameters, "
        f"{made['vocabulary']:,} tokens in the vocabulary"
    )
    if as_json:
        echo_json(json.dumps({"model": folder, **made}))
