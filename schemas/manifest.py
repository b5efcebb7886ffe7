"""Manifests: the JSON file that turns a folder of files into a token store or a shard set."""

import json
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any, Literal, NotRequired, TypedDict, cast

from .errors import FormatError
from .fast_validation import certainly_valid
from .json_text import parse_json

__all__ = [
    "EVALUATION",
    "FORMAT_VERSION",
    "MANIFEST",
    "PARQUET_SET",
    "RECALL_WORLD",
    "SHARD_SET",
    "SUPERVISED_VERSION",
    "TOKENIZER",
    "TOKEN_STORE",
    "WEIGHT_TABLE",
    "Bucket",
    "Encoding",
    "Input",
    "Kind",
    "Manifest",
    "Part",
    "PartFile",
    "Read",
    "ShardFile",
    "dump",
    "has_spans",
    "parse",
]

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
"""The tokenizer's copy in a token store or a shard set."""
TOKEN_STORE = "exactcpt token store"
SHARD_SET = "exactcpt shard set"
PARQUET_SET = "exactcpt shard set as Parquet"
"""What a shard set was published as; nothing here reads it as a set."""
WEIGHT_TABLE = "exactcpt weight table"
EVALUATION = "exactcpt evaluation"
RECALL_WORLD = "exactcpt recall world"
FORMAT_VERSION = 1
SUPERVISED_VERSION = 2
"""Of a token store or shard set that says which tokens of its documents are supervised."""
NEWEST = {TOKEN_STORE: SUPERVISED_VERSION, SHARD_SET: SUPERVISED_VERSION}
"""The highest version of a format, where it is not 1."""

Manifest = dict[str, Any]
Kind = Literal[
    "exactcpt token store",
    "exactcpt shard set",
    "exactcpt weight table",
    "exactcpt evaluation",
    "exactcpt recall world",
]
SCHEMAS = {
    TOKEN_STORE: "token-store",
    SHARD_SET: "shard-set",
    WEIGHT_TABLE: "weight-table",
    EVALUATION: "evaluation",
    RECALL_WORLD: "recall-world",
}
NOUNS = {WEIGHT_TABLE: "weight table", RECALL_WORLD: "recall world"}
"""What a file is called that is no manifest of a folder."""


class PartFile(TypedDict):
    """One file of a token store."""

    path: str
    bytes: int
    xxh3_128: str


class Part(TypedDict):
    """One part of a token store."""

    part: str
    source: str
    documents: int
    tokens: int
    file: PartFile
    index: PartFile


class Encoding(TypedDict):
    """What the tokens of a source do not say of its text; characters are those of a sample."""

    unknown_tokens: int
    inner_ends: int
    documents_with_inner_ends: int
    sampled_characters: int
    lost_characters: int


class Read(TypedDict):
    """Counts of a source's records, as tokenization read them."""

    documents: int
    tokens: int
    text_bytes: int
    rejected: dict[str, int]
    dropped: dict[str, int]
    encoding: NotRequired[Encoding]


class Input(TypedDict):
    """One input file."""

    source: str
    path: str
    bytes: int | None
    xxh3_128: str | None
    skipped: str | None


class Bucket(TypedDict):
    """One row of the weight table."""

    bucket: int
    low: int
    high: int
    targets: int
    in_tail: bool
    share: float | None
    inverse_frequency: float | None
    weight: float


class ShardFile(TypedDict):
    """One file of a shard set: a shard with windows, or a file of the documents table with rows."""

    path: str
    bytes: int
    xxh3_128: str
    windows: NotRequired[int]
    rows: NotRequired[int]


def has_spans(manifest: Manifest) -> bool:
    """Whether a token store or shard set says which tokens of its documents are supervised."""
    return manifest["format_version"] == SUPERVISED_VERSION


def dump(manifest: Manifest) -> bytes:
    """The bytes of a manifest; equal manifests have equal bytes."""
    text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False)
    # File names that are not UTF-8 come as lone surrogates; JSON has an escape for them.
    return (text + "\n").encode(errors="backslashreplace")


def parse(data: bytes, where: str, kind: Kind) -> Manifest:
    """A manifest (or a weight table) from its bytes, checked against its JSON schema.

    Raises:
        FormatError: it is not JSON, is of another format or a newer version, or violates its
            schema.
    """
    noun = NOUNS.get(kind, "manifest")
    fix = None if kind == WEIGHT_TABLE else "restore the file, or write the folder again"
    try:
        value = parse_json(data)
    except ValueError as error:
        raise FormatError(f"the {noun} is not JSON: {error}", where=where, fix=fix) from None
    manifest = cast(Manifest, value) if isinstance(value, dict) else {}
    found = manifest.get("format")
    if found != kind:
        raise FormatError(
            f"this is not an {kind}",
            expected=f'"format": "{kind}"',
            where=f'{where} says "format": {json.dumps(found)[:80]}',
        )
    version = manifest.get("format_version")
    newest = NEWEST.get(kind, FORMAT_VERSION)
    if isinstance(version, int) and version > newest:
        raise FormatError(
            f"the {kind} has format version {version}",
            expected=f"at most {newest}",
            where=where,
            fix="update exactcpt",
        )
    if not _check(kind)(manifest):
        error = next(_validator(kind).iter_errors(manifest), None)
        if error is not None:
            raise FormatError(
                f"the {noun} is not valid: {error.message[:300]}",
                where=f"{where} at {error.json_path}",
                fix=fix,
            )
    return manifest


@cache
def _check(kind: Kind) -> Callable[[Manifest], bool]:
    return certainly_valid(_schema(kind))


@cache
def _schema(kind: Kind) -> Any:
    name = f"{SCHEMAS[kind]}.schema.json"
    text = resources.files("exactcpt.schemas").joinpath(name).read_text("utf-8")
    return _inlined(json.loads(text))


@cache
def _validator(kind: Kind) -> Any:
    import jsonschema
    from jsonschema import validators

    # To JSON Schema 4096.0 is an integer too; to Python it is not.
    types = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
    making: Any = validators
    strict = making.extend(jsonschema.Draft202012Validator, type_checker=types)
    return strict(_schema(kind))


def _inlined(schema: dict[str, Any]) -> Any:
    """A schema without references, which take time to look up; no definition refers to itself."""
    definitions = schema.get("$defs", {})

    def inlined(value: Any) -> Any:
        if isinstance(value, list):
            return [inlined(each) for each in cast("list[Any]", value)]
        if not isinstance(value, dict):
            return value
        named = cast("dict[str, Any]", value)
        rest = {key: inlined(each) for key, each in named.items() if key != "$ref"}
        if "$ref" in named:
            rest |= inlined(definitions[named["$ref"].removeprefix("#/$defs/")])
        return rest

    return inlined({key: value for key, value in schema.items() if key != "$defs"})


def _is_integer(_: object, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
