"""The command `inspect`: from flags to questions, from paths to answers, and what is printed."""

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import click
import xxhash

from ..schemas.errors import UsageError
from ..schemas.manifest import MANIFEST, TOKEN_STORE
from .config import PackConfig, parse_mixing
from .inspect_csv import to_csv
from .inspect_tables import print_inspection
from .inspection import WEIGHING, Subject, inspect_shards, inspect_store, to_json
from .recognize import open_finished
from .storage import Folder

__all__ = ["run_inspect"]

SWEPT = ("window", "packing", *WEIGHING)
SINGLE = ("validation_fraction", "token_budget", "group_tokens", "dedup", "seed")


def run_inspect(flags: Mapping[str, Any]) -> None:
    """Inspects one path or more."""
    if flags["as_json"] and flags["as_csv"]:
        raise UsageError("--json and --csv are two forms of one output", fix="give one of them")
    if not all(flags["paths"]) or not flags["paths"]:
        raise UsageError(
            "there is nothing to inspect", expected="the path of a token store or shard set"
        )
    found = to_json([_inspect(path, flags) for path in flags["paths"]])
    if flags["as_json"]:
        click.echo(json.dumps(found, ensure_ascii=False, allow_nan=False))
    elif flags["as_csv"]:
        click.echo(to_csv(found, by_source=flags["by_source"]), nl=False)
    else:
        from rich.console import Console

        print_inspection(found, Console(highlight=False), by_source=flags["by_source"])


def _inspect(path: str, flags: Mapping[str, Any]) -> Subject:
    folder = Folder(path.rstrip("/") or "/")
    kind, manifest = open_finished(folder)
    if kind == TOKEN_STORE:
        return inspect_store(folder, path, manifest, _configs(flags))
    store = _store_of(folder)
    _refuse_packing(flags, store)
    own = {name: manifest["settings"][name] for name in PackConfig.__dataclass_fields__}
    weighings = list(_combinations(flags, WEIGHING))
    for weighing in weighings:
        _config({**own, **weighing}, weighing)
    return inspect_shards(folder, path, manifest, weighings, store)


def _store_of(shards: Folder) -> str | None:
    """The token store beside a shard set, if it is the one that the set was packed from."""
    beside = Folder(f"{shards.url.rstrip('/')}.store")
    if not beside.exists(MANIFEST):
        return None
    wanted = json.loads(shards.read(MANIFEST))["store"]["manifest_xxh3_128"]
    return beside.url if xxhash.xxh3_128_hexdigest(beside.read(MANIFEST)) == wanted else None


def _refuse_packing(flags: Mapping[str, Any], store: str | None) -> None:
    """Nobody can tell from shards what other windows would have."""
    others = ("window", "packing", *SINGLE, "epochs", "share")
    given = [name for name in others if flags[name] not in (None, ())]
    if given:
        raise UsageError(
            f"{_flag(given[0])} asks what another packing would be, and shards are packed",
            expected="a token store, or only " + ", ".join(map(_flag, WEIGHING)),
            fix=f"inspect its token store: {store or 'the one it was packed from'}",
        )


def _combinations(flags: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Every combination of the values that were asked for."""
    asked = {name: flags[name] for name in names if flags[name] is not None}
    for values in itertools.product(*asked.values()):
        yield dict(zip(asked, values, strict=True))


def _configs(flags: Mapping[str, Any]) -> list[PackConfig]:
    fixed = {name: flags[name] for name in SINGLE if flags[name] is not None}
    mixing = parse_mixing(flags["epochs"], flags["share"])
    return [
        _config({**fixed, **asked, "mixing": mixing}, asked)
        for asked in _combinations(flags, SWEPT)
    ]


def _config(settings: Mapping[str, Any], asked: Mapping[str, Any]) -> PackConfig:
    try:
        return PackConfig(**settings)
    except UsageError as error:
        flags = [f"{_flag(name)} {value}" for name, value in asked.items()]
        where = " ".join(flags) or None
        raise UsageError(error.found, expected=error.expected, where=where, fix=error.fix) from None


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
