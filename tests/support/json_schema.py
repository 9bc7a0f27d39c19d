"""As much of JSON Schema as our own schemas use; unknown keywords are an error, not a pass.

    for problem in problems(schema, value): ...

With strict, an object's key that the schema does not describe is a problem too: what we print
is described, while readers stay open for keys that come later.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Iterator

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
KNOWN = {"$schema", "$comment", "title", "description", "default", "type", "properties", "required",
         "additionalProperties", "items", "minItems", "pattern", "enum", "const", "minimum", "maximum",
         "maxLength", "oneOf"}


def has_type(name: str, value: Any) -> bool:
    if name == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if name == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def problems(schema: Dict[str, Any], value: Any, at: str = "$", strict: bool = True) -> Iterator[str]:
    unknown = set(schema) - KNOWN
    if unknown:
        yield f"{at}: the schema uses {sorted(unknown)}, which is not checked"
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    if names and not any(has_type(name, value) for name in names):
        yield f"{at}: {value!r} is not {' or '.join(names)}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{at}: {value!r} is not {schema['const']!r}"
    if "oneOf" in schema:
        fitting = sum(not list(problems(one, value, at, strict)) for one in schema["oneOf"])
        if fitting != 1:
            yield f"{at}: fits {fitting} of the alternatives"
    yield from bounds(schema, value, at)
    if isinstance(value, dict):
        yield from members(schema, value, at, strict)
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from problems(schema.get("items", {}), item, f"{at}[{i}]", strict)


def bounds(schema: Dict[str, Any], value: Any, at: str) -> Iterator[str]:
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{at}: {value!r} does not match {schema['pattern']}"
        if len(value) > schema.get("maxLength", len(value)):
            yield f"{at}: longer than {schema['maxLength']}"
    if isinstance(value, list) and len(value) < schema.get("minItems", 0):
        yield f"{at}: fewer than {schema['minItems']}"
    if has_type("number", value):
        if value < schema.get("minimum", value) or value > schema.get("maximum", value):
            yield f"{at}: {value} is out of range"


def members(schema: Dict[str, Any], value: Dict[str, Any], at: str, strict: bool) -> Iterator[str]:
    described = schema.get("properties", {})
    more = schema.get("additionalProperties")
    for key in schema.get("required", []):
        if key not in value:
            yield f"{at}: {key} is missing"
    for key, item in value.items():
        if key in described:
            yield from problems(described[key], item, f"{at}.{key}", strict)
        elif isinstance(more, dict):
            yield from problems(more, item, f"{at}.{key}", strict)
        elif more is False or (more is None and strict and described):
            yield f"{at}: {key} is not described"
