import copy
import json
import math
import os
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.schemas.errors import FormatError
from exactcpt.schemas.manifest import (
    EVALUATION,
    FORMAT_VERSION,
    NEWEST,
    SHARD_SET,
    TOKEN_STORE,
    _check,
    _inlined,
    _validator,
    dump,
    parse,
)

CHECKSUM = "0123456789abcdef" * 2
WHERE = "shards/manifest.json"

READ = {
    "documents": 3,
    "tokens": 21,
    "text_bytes": 80,
    "rejected": {"not JSON": 1},
    "dropped": {"empty text": 2},
}
SHARED = {
    "format_version": FORMAT_VERSION,
    "versions": {"exactcpt": "0.1.0", "pyarrow": "25.0.1"},
    "tokenizer": {
        "sha256": CHECKSUM * 2,
        "largest_id": 151645,
        "bos_id": None,
        "eos_id": 151643,
        "pad_id": 151643,
        "eos_token": "<|endoftext|>",
        "backend": {"requested": "auto", "used": "gigatoken", "fallback": None},
    },
    "inputs": [
        {
            "source": "dict",
            "path": "dict.jsonl.zst",
            "bytes": 812,
            "xxh3_128": CHECKSUM,
            "skipped": None,
        },
        {
            "source": "dict",
            "path": "torn.jsonl.zst",
            "bytes": None,
            "xxh3_128": None,
            "skipped": "truncated",
        },
    ],
}

STORE = {
    "format": TOKEN_STORE,
    **SHARED,
    "settings": {"bos": None, "seed": 0},
    "sources": [{"name": "dict", "read": READ}],
    "parts": [
        {
            "part": "000000-0000",
            "source": "dict",
            "documents": 3,
            "tokens": 21,
            "file": {"path": "parts/000000-0000.arrow", "bytes": 900, "xxh3_128": CHECKSUM},
            "index": {"path": "parts/000000-0000.index.arrow", "bytes": 90, "xxh3_128": CHECKSUM},
        }
    ],
    "warnings": [],
}


NOTHING = {"documents": 0, "tokens": 0, "targets": 0, "histogram": [0, 0]}
PACKED = {"documents": 3, "tokens": 21, "targets": 18, "histogram": [15, 3]}
NO_WINDOWS = {
    "windows": 0,
    "tokens": 0,
    "padding": 0,
    "segments": 0,
    "cut_documents": 0,
    "targets": 0,
    "histogram": [0, 0],
}
SHARDS = {
    "format": SHARD_SET,
    **SHARED,
    "settings": {
        "window": 16,
        "packing": "concat",
        "tau": 8,
        "alpha": 0.15,
        "gamma": 0.5,
        "epsilon": 1e-8,
        "max_weight": None,
        "validation_fraction": 0.0,
        "token_budget": None,
        "group_tokens": 256_000_000,
        "shard_bytes": 268_435_456,
        "dedup": "none",
        "seed": 0,
        "mixing": {"dict": {"epochs": 1.0}},
        "tokenize": STORE["settings"],
    },
    "sources": [
        {
            "name": "dict",
            "read": READ,
            "copies": 1.0,
            "dropped": {"duplicate": 0},
            "splits": {"train": PACKED, "validation": NOTHING},
        }
    ],
    "splits": {
        "train": {
            "windows": 2,
            "tokens": 21,
            "padding": 11,
            "segments": 3,
            "cut_documents": 0,
            "targets": 18,
            "histogram": [15, 3],
        },
        "validation": NO_WINDOWS,
    },
    "weights": {
        "alpha": 0.15,
        "budget": 0.15,
        "table": [
            {
                "bucket": 0,
                "low": 0,
                "high": 7,
                "targets": 15,
                "in_tail": False,
                "share": None,
                "inverse_frequency": None,
                "weight": 1.0,
            },
            {
                "bucket": 1,
                "low": 8,
                "high": 15,
                "targets": 3,
                "in_tail": True,
                "share": 1.0,
                "inverse_frequency": 1.0,
                "weight": 1.15,
            },
        ],
    },
    "shards": {
        "train": [
            {
                "path": "train/shard-00000-of-00001.arrow",
                "windows": 2,
                "bytes": 1234,
                "xxh3_128": CHECKSUM,
            }
        ],
        "validation": [],
    },
    "documents": [
        {"path": "documents/part-00000.parquet", "rows": 3, "bytes": 700, "xxh3_128": CHECKSUM}
    ],
    "store": {"manifest_xxh3_128": CHECKSUM},
    "warnings": ["the validation set is empty"],
}

EVALUATED: dict[str, Any] = {
    "format": "exactcpt evaluation",
    "format_version": 1,
    "suite": "probe",
    "suite_version": 1,
    "length": 4096,
    "tasks": ["number", "place"],
    "seed": 0,
    "ablation": "replace",
    "haystack": CHECKSUM,
    "tokenizer": CHECKSUM,
    "items": CHECKSUM,
    "model": CHECKSUM,
    "step": 100,
    "tau": 1024,
    "window": 4096,
    "positions": 32768,
    "extrapolated": False,
    "precision": "fp32",
    "device": "cpu",
    "versions": {"exactcpt": "0.1.0"},
    "seconds": 1.5,
    "tokens": 123,
}

MANIFESTS = {TOKEN_STORE: STORE, SHARD_SET: SHARDS, EVALUATION: EVALUATED}
SCHEMA_FILES = {
    TOKEN_STORE: "token-store.schema.json",
    SHARD_SET: "shard-set.schema.json",
    EVALUATION: "evaluation.schema.json",
}
SCHEMAS = {
    kind: json.loads(resources.files("exactcpt.schemas").joinpath(name).read_text("utf-8"))
    for kind, name in SCHEMA_FILES.items()
}
every = pytest.mark.parametrize("kind", MANIFESTS)


def changed(kind: str, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The bytes of a valid manifest after a change."""
    manifest = copy.deepcopy(MANIFESTS[kind])
    change(manifest)
    return dump(manifest)


def refused(data: bytes, kind: str) -> FormatError:
    with pytest.raises(FormatError) as raised:
        parse(data, WHERE, kind)
    return raised.value


@every
def test_round_trip(kind):
    assert parse(dump(MANIFESTS[kind]), WHERE, kind) == MANIFESTS[kind]


@every
def test_the_same_manifest_gives_the_same_bytes(kind):
    data = dump(MANIFESTS[kind])
    assert dump(copy.deepcopy(MANIFESTS[kind])) == data
    assert dump(parse(data, WHERE, kind)) == data


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives(text):
    data = changed(TOKEN_STORE, lambda m: m["inputs"][0].update(path=text))
    assert parse(data, WHERE, TOKEN_STORE)["inputs"][0]["path"] == text


def test_bytes_are_plain_utf8_json_with_a_newline_at_the_end():
    data = changed(TOKEN_STORE, lambda m: m["inputs"][0].update(path="地藏.txt"))
    assert data.startswith(b'{\n  "format": "exactcpt token store",\n  "format_version": 1,\n')
    assert data.endswith(b"}\n")
    assert "地藏.txt" in data.decode()


def test_a_file_name_that_is_not_utf8_survives():
    path = os.fsdecode(b"na\xefve.txt")
    data = changed(TOKEN_STORE, lambda m: m["inputs"][0].update(path=path))
    assert data.isascii()
    assert parse(data, WHERE, TOKEN_STORE)["inputs"][0]["path"] == path


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_manifest_holds_what_json_cannot(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        changed(SHARD_SET, lambda m: m["weights"].update(budget=value))


@every
@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_json_cannot_hold_is_refused(kind, constant):
    """Python would read it, and every comparison with it would be silently false."""
    text = dump(MANIFESTS[kind]).decode()
    data = text.replace('"format_version": 1', f'"format_version": {constant}').encode()
    error = refused(data, kind)
    assert error.found == f"the manifest is not JSON: {constant} is not a JSON number"


@every
@pytest.mark.parametrize("data", [b"", b"{", b'{"format": }', b'{"format": "\xff"}', b"{} {}"])
def test_what_is_no_json(kind, data):
    error = refused(data, kind)
    assert error.found.startswith("the manifest is not JSON: ")
    assert (error.where, error.fix) == (WHERE, "restore the file, or write the folder again")


@every
def test_a_torn_manifest(kind):
    data = dump(MANIFESTS[kind])
    for length in range(0, len(data) - 2, 97):
        assert refused(data[:length], kind).found.startswith("the manifest is not JSON: ")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"[]", "null"),
        (b"null", "null"),
        (b'"exactcpt shard set"', "null"),
        (b"{}", "null"),
        (b'{"format": 3}', "3"),
        (b'{"format": "exactcpt token store", "format_version": 99}', '"exactcpt token store"'),
    ],
)
def test_another_format(data, says):
    error = refused(data, SHARD_SET)
    assert str(error) == (
        "this is not an exactcpt shard set\n"
        f'  where:    {WHERE} says "format": {says}\n'
        '  expected: "format": "exactcpt shard set"'
    )


def test_the_kinds_are_told_apart():
    assert refused(dump(STORE), SHARD_SET).found == "this is not an exactcpt shard set"
    assert refused(dump(SHARDS), TOKEN_STORE).found == "this is not an exactcpt token store"


@every
def test_a_newer_version_is_named_before_what_it_changed(kind):
    data = dump({"format": kind, "format_version": NEWEST.get(kind, 1) + 1, "new": "key"})
    assert str(refused(data, kind)) == (
        f"the {kind} has format version {NEWEST.get(kind, 1) + 1}\n"
        f"  where:    {WHERE}\n"
        f"  expected: at most {NEWEST.get(kind, 1)}\n"
        "  fix:      update exactcpt"
    )


@every
@pytest.mark.parametrize("version", [0, -1, "1", None, 1.5, True])
def test_a_version_that_never_was(kind, version):
    error = refused(changed(kind, lambda m: m.update(format_version=version)), kind)
    assert error.found.startswith("the manifest is not valid: ")
    assert error.where == f"{WHERE} at $.format_version"


@every
def test_every_key_is_required_and_no_other_is_allowed(kind):
    for key in set(MANIFESTS[kind]) - {"format"}:
        error = refused(changed(kind, lambda m, key=key: m.pop(key)), kind)
        assert error.found == f"the manifest is not valid: {key!r} is a required property"
    error = refused(changed(kind, lambda m: m.update(extra=1)), kind)
    assert "'extra' was unexpected" in error.found


@pytest.mark.parametrize(
    ("kind", "change", "at"),
    [
        (SHARD_SET, lambda m: m["settings"].update(window=1), "$.settings.window"),
        (SHARD_SET, lambda m: m["settings"].update(packing="greedy"), "$.settings.packing"),
        (SHARD_SET, lambda m: m["settings"].update(tau=-1), "$.settings.tau"),
        (SHARD_SET, lambda m: m["settings"].update(max_weight=0.5), "$.settings.max_weight"),
        (SHARD_SET, lambda m: m["settings"].pop("seed"), "$.settings"),
        (
            SHARD_SET,
            lambda m: m["settings"].update(validation_fraction=1),
            "$.settings.validation_fraction",
        ),
        (
            SHARD_SET,
            lambda m: m["settings"]["mixing"]["dict"].update(share=0.5),
            "$.settings.mixing.dict",
        ),
        (SHARD_SET, lambda m: m["splits"].pop("validation"), "$.splits"),
        (
            SHARD_SET,
            lambda m: m["splits"]["train"].update(windows=1.5),
            "$.splits.train.windows",
        ),
        (
            SHARD_SET,
            lambda m: m["splits"]["train"]["histogram"].append(-1),
            "$.splits.train.histogram[2]",
        ),
        (SHARD_SET, lambda m: m["weights"].update(table=[]), "$.weights.table"),
        (
            SHARD_SET,
            lambda m: m["weights"]["table"][1].update(weight=0),
            "$.weights.table[1].weight",
        ),
        (
            SHARD_SET,
            lambda m: m["shards"]["train"][0].update(windows=0),
            "$.shards.train[0].windows",
        ),
        (
            SHARD_SET,
            lambda m: m["documents"][0].update(xxh3_128=CHECKSUM.upper()),
            "$.documents[0].xxh3_128",
        ),
        (SHARD_SET, lambda m: m["store"].clear(), "$.store"),
        (SHARD_SET, lambda m: m["sources"][0].pop("copies"), "$.sources[0]"),
        (TOKEN_STORE, lambda m: m["parts"][0].update(part="first"), "$.parts[0].part"),
        (TOKEN_STORE, lambda m: m["parts"][0]["file"].pop("bytes"), "$.parts[0].file"),
        (
            TOKEN_STORE,
            lambda m: m["sources"][0]["read"].update(tokens="21"),
            "$.sources[0].read.tokens",
        ),
        (TOKEN_STORE, lambda m: m["tokenizer"].update(sha256="00"), "$.tokenizer.sha256"),
        (TOKEN_STORE, lambda m: m["versions"].pop("exactcpt"), "$.versions"),
        (TOKEN_STORE, lambda m: m["inputs"][0].update(bytes=-1), "$.inputs[0].bytes"),
        (EVALUATION, lambda m: m.update(suite="other"), "$.suite"),
        (EVALUATION, lambda m: m.update(step=1.5), "$.step"),
        (EVALUATION, lambda m: m["versions"].pop("exactcpt"), "$.versions"),
    ],
)
def test_the_place_that_is_not_as_the_schema_says(kind, change, at):
    error = refused(changed(kind, change), kind)
    assert error.found.startswith("the manifest is not valid: ")
    assert error.where == f"{WHERE} at {at}"
    assert error.fix == "restore the file, or write the folder again"


def test_a_long_complaint_is_cut():
    error = refused(changed(TOKEN_STORE, lambda m: m.update(parts="x" * 10_000)), TOKEN_STORE)
    assert len(error.found) < 400


@every
def test_schemas_are_schemas_and_closed(kind):
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[kind])

    def objects(node: Any):
        if isinstance(node, dict):
            if "properties" in node:
                yield node
            for child in node.values():
                yield from objects(child)

    for node in objects(SCHEMAS[kind]):
        assert node["additionalProperties"] is False
        assert set(node.get("required", ())) <= node["properties"].keys()


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside of another."""
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        yield (key,)
        if isinstance(each, dict | list):
            yield from ((key, *rest) for rest in places(each))


@every
def test_a_schema_without_references_says_the_same(kind):
    """Of a manifest in which any one value is another."""
    inlined = _inlined(SCHEMAS[kind])
    assert '"$ref"' not in json.dumps(inlined)
    jsonschema.Draft202012Validator.check_schema(inlined)
    validators = [jsonschema.Draft202012Validator(each) for each in (SCHEMAS[kind], inlined)]
    for *above, last in places(MANIFESTS[kind]):
        value = copy.deepcopy(MANIFESTS[kind])
        at = value
        for key in above:
            at = at[key]
        for other in (None, -1, {"?": 1}):
            at[last] = other
            told = [
                [(error.json_path, error.message) for error in validator.iter_errors(value)]
                for validator in validators
            ]
            assert told[0] == told[1]


@every
def test_a_valid_manifest_is_not_looked_at_twice(kind):
    assert _check(kind)(MANIFESTS[kind])


PLACES = [(kind, place) for kind, each in MANIFESTS.items() for place in places(each)]
OTHERS = [None, True, False, 0, 1, -1, 1.0, 0.5, 3e9, "", "a", [], {}, ["a"], {"a": 1}]


@given(
    st.sampled_from(PLACES), st.sampled_from(OTHERS), st.sampled_from(["other", "none", "twice"])
)
def test_what_is_certainly_valid_is_valid(place, other, change):
    """Of a manifest in which any one value is another, is missing, or is there twice."""
    kind, (*above, last) = place
    manifest = copy.deepcopy(MANIFESTS[kind])
    at = manifest
    for key in above:
        at = at[key]
    if change == "other":
        at[last] = other
    elif change == "none":
        del at[last]
    elif isinstance(at, list):
        at.append(copy.deepcopy(at[last]))
    else:
        at["another"] = at[last]
    assert not _check(kind)(manifest) or _validator(kind).is_valid(manifest)
