"""What moto does not check or answer in expressions as DynamoDB does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_EXPRESSIONS = (
    "UpdateExpression",
    "ConditionExpression",
    "KeyConditionExpression",
    "FilterExpression",
    "ProjectionExpression",
)
_TOKEN = re.compile(r"[#:][A-Za-z0-9_]+")
_CLAUSE = re.compile(r"\b(SET|REMOVE|ADD|DELETE)\b", re.IGNORECASE)


def unused(request: Mapping[str, Any]) -> str | None:
    """Return DynamoDB's complaint about names and values that no expression uses."""
    used = {token for name in _EXPRESSIONS for token in _TOKEN.findall(request.get(name) or "")}
    for parameter in ("ExpressionAttributeNames", "ExpressionAttributeValues"):
        left = sorted(set(request.get(parameter) or ()) - used)
        if left:
            return f"Value provided in {parameter} unused in expressions: keys: {{{', '.join(left)}}}"
    return None


def updated(request: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ReturnValues=UPDATED_NEW answers: every path that was set, even to the value that it had."""
    result: dict[str, Any] = {}
    for path in _targets(request["UpdateExpression"], request.get("ExpressionAttributeNames") or {}):
        _copy(path, item, result)
    return result


def _targets(expression: str, names: Mapping[str, str]) -> list[list[str]]:
    pieces = _CLAUSE.split(expression)
    targets = []
    for clause, body in zip(pieces[1::2], pieces[2::2], strict=True):
        if clause.upper() == "REMOVE":
            continue
        for action in _split(body):
            path = action.partition("=")[0] if clause.upper() == "SET" else action.split()[0]
            parts = [part for step in path.strip().split(".") for part in re.split(r"(?=\[)", step)]
            targets.append([names.get(part, part) for part in parts])
    return targets


def _split(body: str) -> list[str]:
    """Split at the commas outside parentheses."""
    actions, depth = [""], 0
    for character in body:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            actions.append("")
        else:
            actions[-1] += character
    return [action for action in actions if action.strip()]


def _copy(path: list[str], source: Mapping[str, Any], result: dict[str, Any]) -> None:
    name, rest = path[0], path[1:]
    if name not in source:
        return
    value = source[name]
    if not rest:
        result[name] = value
    elif rest[0].startswith("["):
        elements, index = value.get("L") or [], int(rest[0][1:-1])
        result.setdefault(name, {"L": []})["L"].extend(elements[index : index + 1] or elements[-1:])
    elif "M" in value:
        _copy(rest, value["M"], result.setdefault(name, {"M": {}})["M"])
