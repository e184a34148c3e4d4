"""The API's JSON Schemas, which the API's contract shares, applied to what comes in."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import fastjsonschema

from handlers.delivery.errors import Invalid

_FOLDER = Path(__file__).parents[2] / "definitions" / "schemas"
_SHOWN = 100


@cache
def _validator(name: str) -> Callable[[Any], Any]:
    schema = json.loads((_FOLDER / f"{name}.json").read_text())
    validate: Callable[[Any], Any] = fastjsonschema.compile(schema, use_default=False)
    return validate


def check(name: str, body: Any) -> Any:
    """The body, if it is what the schema says. Raises `Invalid` naming field, value and limit."""
    try:
        return _validator(name)(body)
    except fastjsonschema.JsonSchemaValueException as error:
        raise _invalid(error) from None


def _invalid(error: fastjsonschema.JsonSchemaValueException) -> Invalid:
    field = str(error.name).removeprefix("data").removeprefix(".") or "body"
    rule, bound = str(error.rule), error.rule_definition
    if rule == "additionalProperties":
        return _unknown(error, "" if field == "body" else f"{field}.")
    if rule == "required":
        missing = next(name for name in bound if name not in error.value)
        path = missing if field == "body" else f"{field}.{missing}"
        return Invalid(path, None, "given", f"{path} is required")
    limit = _LIMITS.get(rule, "{}").format(bound if not isinstance(bound, list) else ", ".join(map(str, bound)))
    return Invalid(field, error.value, limit)


def _unknown(error: fastjsonschema.JsonSchemaValueException, prefix: str) -> Invalid:
    known = error.definition.get("properties", {})
    name = next(name for name in error.value if name not in known)
    path = f"{prefix}{str(name)[:_SHOWN]}"
    return Invalid(path, error.value[name], f"one of {', '.join(sorted(known))}", f"{path} is not a known field")


_LIMITS = {
    "type": "of type {}",
    "enum": "one of {}",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters long",
    "maxLength": "at most {} characters long",
    "minItems": "a list of at least {}",
    "maxItems": "a list of at most {}",
    "maxProperties": "an object of at most {} fields",
    "pattern": "of the form {}",
}
