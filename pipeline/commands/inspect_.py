"""The command `inspect`: from flags to questions, from paths to answers, and what is printed."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
import xxhash

from ...schemas.errors import UsageError
from ...schemas.manifest import MANIFEST, TOKEN_STORE
from ..config import PackConfig, TokenizeConfig, parse_mixing, parse_source
from ..core.parameters import PARAMETERS
from ..files.storage import Folder
from ..inspection import report
from ..inspection.as_csv import to_csv
from ..inspection.as_json import to_json
from ..inspection.counted import inspect_shards, inspect_store
from ..inspection.subject import Subject
from ..inspection.tables import print_inspection
from ..job.places import file_to_write
from ..pack.settings import settings_with
from ..shard_set.recognize import open_finished

__all__ = ["run_inspect"]

REPORTS = {"html": report.html, "svg": report.svg}
SWEPT = ("window", "packing", *PARAMETERS)
TOKENIZING = tuple(name for name in TokenizeConfig.__dataclass_fields__ if name != "sources")
DEFAULT_SAMPLE = 0.02
SINGLE = ("validation_fraction", "token_budget", "group_tokens", "dedup", "seed")


def run_inspect(flags: Mapping[str, Any]) -> None:
    """Inspects one path or more."""
    if flags["as_json"] and flags["as_csv"]:
        raise UsageError("--json and --csv are two forms of one output", fix="give one of them")
    places = _places(flags)
    if flags["sources"]:
        subjects = [_sample(flags)]
    else:
        subjects = [_inspect(path, flags) for path in _paths(flags)]
    found = to_json(subjects)
    if places:
        _refuse_given_weights(found)
    for kind, (folder, name) in places.items():
        folder.write(name, REPORTS[kind](found).encode())
    if flags["as_json"]:
        click.echo(json.dumps(found, ensure_ascii=False, allow_nan=False))
    elif flags["as_csv"]:
        click.echo(to_csv(found, by_source=flags["by_source"]), nl=False)
    else:
        from rich.console import Console

        print_inspection(found, Console(highlight=False), by_source=flags["by_source"])


def _paths(flags: Mapping[str, Any]) -> Sequence[str]:
    paths = flags["paths"]
    if not paths or not all(paths):
        raise UsageError(
            "there is nothing to inspect", expected="the path of a token store or shard set"
        )
    given = [name for name in (*TOKENIZING, "sample") if flags[name] is not None]
    if given:
        raise UsageError(
            f"{_flag(given[0])} is for raw corpora, and {paths[0]} is tokenized already",
            fix="name corpora with --source, or leave it out",
        )
    return paths


def _sample(flags: Mapping[str, Any]) -> Subject:
    """Inspects a sample of raw corpora."""
    if flags["paths"]:
        raise UsageError(
            f"both --source and the path {flags['paths'][0]}", expected="one of the two"
        )
    if flags["epochs"] or flags["share"]:
        raise UsageError(
            "--epochs and --share are for token stores",
            fix="put it into the source: --source NAME=PATTERN,epochs=X",
        )
    if flags["dedup"] == "exact":
        raise UsageError(
            "a sample does not tell which documents of the corpus are repeated",
            fix="tokenize the corpora, and inspect the token store",
        )
    if not flags["tokenizer"]:
        raise UsageError("--tokenizer is missing", expected="--tokenizer PATH of a tokenizer.json")
    from ..inspection.estimated import inspect_sample
    from ..inspection.sampling import draw
    from ..tokens.backend import choose_backend
    from ..tokens.plan import plan_tokenize
    from ..tokens.probe import probe_sources

    sources = tuple(parse_source(text) for text in flags["sources"])
    given = {name: flags[name] for name in TOKENIZING if flags[name] is not None}
    config = TokenizeConfig(sources=sources, **given)
    configs = _configs(flags, {one.name: one.mixing for one in sources if one.is_mixed})
    plan = plan_tokenize(config)
    backend, fallback = choose_backend(plan, probe_sources(plan))
    fraction = DEFAULT_SAMPLE if flags["sample"] is None else flags["sample"]
    command = ["exactcpt", "prepare", *(f"--source={text}" for text in flags["sources"])]
    for name, value in given.items():
        if name == "bos":
            command.append("--bos" if value else "--no-bos")
        else:
            command += [_flag(name), str(value)]
    return inspect_sample(
        plan,
        plan.tokenizer_manifest(backend, fallback),
        draw(plan, backend, fraction, configs[0].seed),
        configs,
        command,
    )


def _places(flags: Mapping[str, Any]) -> dict[str, tuple[Folder, str]]:
    """Where the page and the picture go, of those that were asked for."""
    inspected = [Folder(path) for path in flags["paths"]]
    places = {
        kind: file_to_write(f"--{kind}", flags[kind], apart_from=inspected)
        for kind in REPORTS
        if flags[kind] is not None
    }
    if len(set(places.values())) < len(places):
        raise UsageError("--html and --svg name one file", where=flags["html"])
    return places


def _refuse_given_weights(found: Mapping[str, Any]) -> None:
    """A report's sliders move the parameters of the formula, which given weights have none of."""
    for subject in found["subjects"]:
        if any("table" in row["settings"] for row in subject["rows"]):
            raise UsageError(
                "the weights of these shards were given, not computed: a report cannot vary them",
                where=subject["path"],
                fix="add --alpha to see the formula instead, or leave out --html and --svg",
            )


def _inspect(path: str, flags: Mapping[str, Any]) -> Subject:
    folder = Folder(path.rstrip("/") or "/")
    kind, manifest = open_finished(folder)
    if kind == TOKEN_STORE:
        return inspect_store(
            folder, path, manifest, _configs(flags, parse_mixing(flags["epochs"], flags["share"]))
        )
    store = _store_of(folder)
    _refuse_packing(flags, store)
    weighings = list(_combinations(flags, PARAMETERS))
    for weighing in weighings:
        with _naming(weighing):
            settings_with(manifest["settings"], weighing)
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
            expected="a token store, or only " + ", ".join(map(_flag, PARAMETERS)),
            fix=f"inspect its token store: {store or 'the one it was packed from'}",
        )


def _combinations(flags: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Every combination of the values that were asked for."""
    asked = {name: flags[name] for name in names if flags[name] is not None}
    if "max_weight" in asked:
        asked["max_weight"] = [None if most == math.inf else most for most in asked["max_weight"]]
    for values in itertools.product(*asked.values()):
        yield dict(zip(asked, values, strict=True))


def _configs(flags: Mapping[str, Any], mixing: Mapping[str, Any]) -> list[PackConfig]:
    fixed = {name: flags[name] for name in SINGLE if flags[name] is not None}
    return [
        _config({**fixed, **asked, "mixing": mixing}, asked)
        for asked in _combinations(flags, SWEPT)
    ]


def _config(settings: Mapping[str, Any], asked: Mapping[str, Any]) -> PackConfig:
    with _naming(asked):
        return PackConfig(**settings)


@contextmanager
def _naming(asked: Mapping[str, Any]) -> Iterator[None]:
    """Wrong usage is told with the flags of the combination that it is about."""
    try:
        yield
    except UsageError as error:
        flags = [f"{_flag(name)} {value}" for name, value in asked.items()]
        where = " ".join(flags) or None
        raise UsageError(error.found, expected=error.expected, where=where, fix=error.fix) from None


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
