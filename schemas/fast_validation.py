"""Says quickly that a value is valid by a JSON schema; where it does not, jsonschema has to look.

A manifest lists every part of a store, and jsonschema needs a tenth of a millisecond for each.
Functions that are made once from the schema need a tenth of that. They have no messages, and may
say no to a value that is valid, never yes to one that is not.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard, cast

__all__ = ["certainly_valid"]

Check = Callable[[Any], bool]

NOTES = frozenset({"$schema", "title", "description"})
"""Keywords that ask for nothing."""


def certainly_valid(schema: Mapping[str, Any]) -> Check:
    """A function that says whether a value is certainly valid.

    Args:
        schema: a JSON schema of draft 2020-12, without references. An integer is one to Python:
            4096.0 is none.

    Raises:
        KeyError: the schema has a keyword that is unknown here.
    """
    checks = [MAKERS[name](schema[name], schema) for name in schema if name not in NOTES]
    if len(checks) == 1:
        return checks[0]
    return lambda value: all(check(value) for check in checks)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


TYPES: dict[str, Check] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def _type(names: str | list[str], _: Mapping[str, Any]) -> Check:
    if isinstance(names, str):
        return TYPES[names]
    checks = [TYPES[name] for name in names]
    return lambda value: any(check(value) for check in checks)


def _one_of(values: list[Any], _: Mapping[str, Any]) -> Check:
    known = {(value.__class__, value) for value in values}
    return lambda value: not isinstance(value, dict | list) and (value.__class__, value) in known


def _required(names: list[str], _: Mapping[str, Any]) -> Check:
    needed = frozenset(names)
    return lambda value: not isinstance(value, dict) or needed <= cast("Any", value).keys()


def _properties(schemas: Mapping[str, Any], schema: Mapping[str, Any]) -> Check:
    known = {name: certainly_valid(each) for name, each in schemas.items()}
    others = _whatever(schema.get("additionalProperties", True))

    def check(value: Any) -> bool:
        if not isinstance(value, dict):
            return True
        items = cast("dict[str, Any]", value).items()
        return all(known.get(name, others)(each) for name, each in items)

    return check


def _whatever(schema: Any) -> Check:
    """The check of a schema, or of True or False in its place."""
    if isinstance(schema, bool):
        return lambda _: schema
    return certainly_valid(schema)


def _additional(_: object, schema: Mapping[str, Any]) -> Check:
    """Its check is that of `properties`, which has to know both."""
    if "properties" in schema:
        return lambda _: True
    return _properties({}, schema)


def _items(schema: Mapping[str, Any], _: Mapping[str, Any]) -> Check:
    check = certainly_valid(schema)

    def check_all(value: Any) -> bool:
        return not isinstance(value, list) or all(map(check, cast("list[Any]", value)))

    return check_all


def _unique(_: object, __: object) -> Check:
    def check(value: Any) -> bool:
        if not isinstance(value, list):
            return True
        texts = {each for each in cast("list[Any]", value) if isinstance(each, str)}
        return len(texts) == len(cast("list[Any]", value))

    return check


def _pattern(pattern: str, _: Mapping[str, Any]) -> Check:
    search = re.compile(pattern).search
    return lambda value: not isinstance(value, str) or search(value) is not None


def _bound(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Mapping[str, Any]], Check]:
    return lambda bound, _: lambda value: not _is_number(value) or holds(value, bound)


def _length(kind: type, holds: Callable[[int, int], bool]) -> Callable[[Any, Any], Check]:
    return lambda bound, _: lambda value: not isinstance(value, kind) or holds(len(value), bound)


MAKERS: dict[str, Callable[[Any, Mapping[str, Any]], Check]] = {
    "type": _type,
    "const": lambda value, schema: _one_of([value], schema),
    "enum": _one_of,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "uniqueItems": _unique,
    "pattern": _pattern,
    "minimum": _bound(lambda value, bound: value >= bound),
    "maximum": _bound(lambda value, bound: value <= bound),
    "exclusiveMinimum": _bound(lambda value, bound: value > bound),
    "exclusiveMaximum": _bound(lambda value, bound: value < bound),
    "minItems": _length(list, lambda length, bound: length >= bound),
    "maxItems": _length(list, lambda length, bound: length <= bound),
    "minProperties": _length(dict, lambda length, bound: length >= bound),
    "maxProperties": _length(dict, lambda length, bound: length <= bound),
}
"""By keyword: what makes its check, from its value and the schema that it is in."""
