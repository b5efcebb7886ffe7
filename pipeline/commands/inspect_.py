"""The command `inspect`: it inspects what paths and flags name, and prints or writes the result.

`inspect_questions` turns the flags into the settings that are asked about.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...schemas.cores import usable_cores
from ...schemas.errors import UsageError
from ...schemas.manifest import TOKEN_STORE
from ...schemas.settings import flag_of
from ...schemas.terminal import console, echo, echo_json
from ..config import TokenizeConfig, parse_mixing, parse_source
from ..core.parameters import PARAMETERS
from ..files.storage import Folder
from ..inspection import report
from ..inspection.as_csv import to_csv
from ..inspection.as_json import to_json
from ..inspection.counted import inspect_shards, inspect_store
from ..inspection.json_types import InspectionJson
from ..inspection.subject import Subject
from ..inspection.tables import print_inspection
from ..job.places import file_to_write
from ..shard_set.beside import store_beside
from ..shard_set.recognize import open_finished
from .inspect_questions import (
    TOKENIZING,
    packings_asked_for,
    refuse_for_corpora,
    refuse_for_packed,
    refuse_for_paths,
    refuse_for_shards,
    weights_asked_for,
)
from .invocation import folder_at
from .weigh import packed_plan

__all__ = ["run_inspect"]

REPORTS = {"html": report.html, "svg": report.svg}
DEFAULT_SAMPLE = 0.02


def run_inspect(flags: Mapping[str, Any]) -> None:
    """Inspects token stores, shard sets or corpora, and prints what was found."""
    if flags["as_json"] and flags["as_csv"]:
        raise UsageError("both --json and --csv are given", expected="one of them")
    places = _places(flags)
    found = to_json(_inspect(flags))
    if places:
        _refuse_given_weights(found)
    for kind, (folder, name) in places.items():
        folder.write(name, REPORTS[kind](found).encode())
    _print(found, flags)


def _places(flags: Mapping[str, Any]) -> dict[str, tuple[Folder, str]]:
    """The places of the web page and the picture, if they are asked for."""
    inspected = [Folder(path) for path in flags["paths"]]
    places = {
        kind: file_to_write(flag_of(kind), flags[kind], apart_from=inspected)
        for kind in REPORTS
        if flags[kind] is not None
    }
    if len(set(places.values())) < len(places):
        raise UsageError("--html and --svg name the same file", where=flags["html"])
    return places


def _inspect(flags: Mapping[str, Any]) -> Sequence[Subject]:
    if flags["packed"]:
        refuse_for_packed(flags)
        return [_inspect_packed(flags)]
    if flags["sources"]:
        refuse_for_corpora(flags)
        return [_inspect_corpora(flags)]
    refuse_for_paths(flags)
    return [_inspect_path(path, flags) for path in flags["paths"]]


def _inspect_path(path: str, flags: Mapping[str, Any]) -> Subject:
    """Counts what a token store would give, or what a shard set has."""
    folder = folder_at(path)
    kind, manifest = open_finished(folder)
    if kind == TOKEN_STORE:
        mixing = parse_mixing(flags["epochs"], flags["share"])
        return inspect_store(folder, path, manifest, packings_asked_for(flags, mixing))
    store = store_beside(folder)
    refuse_for_shards(flags, store)
    weights = weights_asked_for(flags, manifest["settings"])
    return inspect_shards(folder, path, manifest, weights, store.url if store else None)


def _inspect_corpora(flags: Mapping[str, Any]) -> Subject:
    """Estimates from a sample what raw corpora would give."""
    from ..inspection.estimated import inspect_sample
    from ..inspection.sampling import draw
    from ..tokens.backend import choose_backend
    from ..tokens.cores import encode_on_cores
    from ..tokens.plan import has_answers, plan_tokenize
    from ..tokens.probe import probe_sources

    sources = tuple(parse_source(text) for text in flags["sources"])
    given = {name: flags[name] for name in TOKENIZING if flags[name] is not None}
    mixing = {source.name: source.mixing for source in sources if source.is_mixed}
    config = TokenizeConfig(sources=sources, **given)
    packings = packings_asked_for(flags, mixing)
    plan = plan_tokenize(config)
    if has_answers(plan.fields):
        raise UsageError(
            "a sample of documents with answers cannot be inspected: it would count the prompts",
            expected="sources of plain documents, or a token store",
            fix="run `exactcpt tokenize` with the same --source, and inspect the store: it counts "
            "the answers exactly",
        )
    encode_on_cores(usable_cores())
    backend, fallback = choose_backend(plan, probe_sources(plan))
    fraction = DEFAULT_SAMPLE if flags["sample"] is None else flags["sample"]
    return inspect_sample(
        plan,
        plan.tokenizer_manifest(backend, fallback),
        draw(plan, backend, fraction, packings[0]),
        fraction,
        packings,
        _prepare_command(flags["sources"], given),
    )


def _inspect_packed(flags: Mapping[str, Any]) -> Subject:
    """Counts windows that somebody else has packed."""
    from ..inspection.packed import inspect_packed

    window = flags["window"][0] if flags["window"] else None
    values = {**flags, "window": window, "validation": (), **dict.fromkeys(PARAMETERS)}
    plan = packed_plan(values, flags["paths"])
    named = ("tokenizer", "eos_token", "boundaries", "pad_id", "max_record_bytes")
    given = {name: flags[name] for name in named if flags[name] not in (None, "auto")}
    words = [word for name, value in given.items() for word in (flag_of(name), str(value))]
    words += ["--window", str(window)] if window else []
    return inspect_packed(plan, flags["paths"], words, weights_asked_for(flags, plan.settings))


def _prepare_command(sources: Sequence[str], given: Mapping[str, Any]) -> list[str]:
    """The words of the command line that prepares these corpora, settings of packing left out."""
    command = ["exactcpt", "prepare", *(f"--source={text}" for text in sources)]
    for name, value in given.items():
        if name == "bos":
            command.append("--bos" if value else "--no-bos")
        else:
            command += [flag_of(name), str(value)]
    return command


def _refuse_given_weights(found: InspectionJson) -> None:
    """Refuses a report on given weights: its sliders move the parameters of the formula."""
    for subject in found["subjects"]:
        if any("table" in row["settings"] for row in subject["rows"]):
            raise UsageError(
                "the weights of these shards were given, not computed: a report cannot vary them",
                where=subject["path"],
                fix="add --alpha to see the formula instead, or leave out --html and --svg",
            )


def _print(found: InspectionJson, flags: Mapping[str, Any]) -> None:
    if flags["as_json"]:
        echo_json(json.dumps(found, ensure_ascii=False, allow_nan=False))
    elif flags["as_csv"]:
        echo(to_csv(found, by_source=flags["by_source"]), nl=False)
    else:
        print_inspection(found, console(), by_source=flags["by_source"])
