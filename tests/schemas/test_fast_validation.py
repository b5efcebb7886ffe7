"""Quick validation says yes to what jsonschema says yes to, and to nothing else."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from exactcpt.schemas.fast_validation import NOTES, certainly_valid
from exactcpt.schemas.manifest import SCHEMAS, _schema

KEYWORDS: list[tuple[dict[str, Any], Any, Any]] = [
    ({"type": "object"}, {}, []),
    ({"type": "array"}, [], {}),
    ({"type": "string"}, "", 1),
    ({"type": "number"}, 1.5, True),
    ({"type": "integer"}, 1, True),
    ({"type": "boolean"}, False, 0),
    ({"type": "null"}, None, 0),
    ({"type": ["string", "null"]}, None, 0),
    ({"const": 1}, 1, True),
    ({"enum": ["a", None]}, None, {}),
    ({"required": ["a"]}, {"a": 1, "b": 2}, {"b": 2}),
    ({"properties": {"a": {"const": 1}}}, {"b": 2}, {"a": 2}),
    ({"properties": {"a": {}}, "additionalProperties": False}, {"a": 2}, {"a": 2, "b": 3}),
    (
        {"additionalProperties": {"const": 2}, "properties": {"a": {"const": 1}}},
        {"a": 1, "b": 2},
        {"a": 1, "b": 1},
    ),
    ({"additionalProperties": {"const": 1}}, {"a": 1}, {"a": 2}),
    ({"items": {"const": 1}}, [1, 1], [1, 2]),
    ({"uniqueItems": True}, ["a", "b"], ["a", "a"]),
    ({"pattern": "^a$"}, "a", "ba"),
    ({"minimum": 1}, 1, 0),
    ({"maximum": 1}, 1, 2),
    ({"exclusiveMinimum": 1}, 2, 1),
    ({"exclusiveMaximum": 1}, 0, 1),
    ({"minItems": 1}, [0], []),
    ({"maxItems": 1}, [0], [0, 0]),
    ({"minProperties": 1}, {"a": 0}, {}),
    ({"maxProperties": 1}, {"a": 0}, {"a": 0, "b": 0}),
]


def keywords(schema: Any) -> Iterator[str]:
    """The keywords of a schema and of all schemas in it."""
    if isinstance(schema, dict):
        yield from schema
        properties = schema.get("properties", {}).values()
        for each in (*properties, schema.get("items"), schema.get("additionalProperties")):
            yield from keywords(each)


@pytest.mark.parametrize(("schema", "valid", "invalid"), KEYWORDS, ids=str)
def test_a_keyword(schema, valid, invalid):
    check, slow = certainly_valid(schema), jsonschema.Draft202012Validator(schema)
    assert (check(valid), slow.is_valid(valid)) == (True, True)
    assert (check(invalid), slow.is_valid(invalid)) == (False, False)


def test_every_keyword_of_the_schemas_is_above():
    used = {name for kind in SCHEMAS for name in keywords(_schema(kind))}
    assert used - NOTES == {name for schema, _, _ in KEYWORDS for name in schema}


def test_a_keyword_that_nobody_knows():
    with pytest.raises(KeyError, match="oneOf"):
        certainly_valid({"items": {"oneOf": []}})
