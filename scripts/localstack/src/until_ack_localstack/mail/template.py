"""SES templates: the part of Handlebars that SES documents.

Variables (`{{name}}`, `{{meta.name}}`, `{{{name}}}`), `{{#if}}`, `{{#unless}}`, `{{else}}` and `{{#each}}` with
`{{this}}`. SES does not escape HTML, whatever the number of braces: whoever gives the data must have done so
(https://docs.aws.amazon.com/ses/latest/dg/send-personalized-email-api.html). A variable that the data lacks fails the
rendering; SES then has accepted the mail already and does not send it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_TAG = re.compile(r"\{\{\{\s*(?P<raw>[^{}]+?)\s*\}\}\}|\{\{\s*(?P<tag>[^{}]+?)\s*\}\}")
_MISSING = object()


class RenderingError(Exception):
    """The template cannot be rendered with this data."""


def render(template: str, data: Mapping[str, Any]) -> str:
    """Return the template with the data filled in."""
    tokens = _tokens(template)
    text, end = _render(tokens, [data], shown=True)
    if end is not None:
        raise RenderingError(f"unexpected {{{{{end}}}}}")
    return text


_Token = tuple[str, str]


def _tokens(template: str) -> list[_Token]:
    tokens, position = [], 0
    for match in _TAG.finditer(template):
        tokens.append(("text", template[position : match.start()]))
        tokens.append(("tag", match["raw"] or match["tag"]))
        position = match.end()
    tokens.append(("text", template[position:]))
    tokens.reverse()  # a stack: the next token is the last
    return tokens


def _render(tokens: list[_Token], scope: list[Any], *, shown: bool) -> tuple[str, str | None]:
    """Render up to the end or to a closing tag or `else`, and return that tag."""
    result = []
    while tokens:
        kind, content = tokens.pop()
        if kind == "text":
            result.append(content)
        elif content == "else" or content.startswith("/"):
            return "".join(result), content
        elif content.startswith("#"):
            result.append(_block(content[1:].split(), tokens, scope, shown=shown))
        elif not content.startswith("!") and shown:
            result.append(_text(_required(content, scope)))
    return "".join(result), None


def _block(words: Sequence[str], tokens: list[_Token], scope: list[Any], *, shown: bool) -> str:
    if len(words) != 2 or words[0] not in ("if", "unless", "each"):
        raise RenderingError(f"unknown block {{{{#{' '.join(words)}}}}}")
    name, value = words[0], _lookup(words[1], scope)
    present = value is not _MISSING and bool(value)
    if name != "each":
        rounds: Iterator[list[Any]] = iter([scope])
        first_shown = present == (name == "if")
    else:
        if present and (isinstance(value, str) or not isinstance(value, Sequence)):
            raise RenderingError(f"{words[1]} is not a list")
        rounds = iter([[*scope, element] for element in value] if present else [scope])
        first_shown = present
    start = list(tokens)
    result, end = "", None
    for inner in rounds:
        tokens[:] = start
        text, end = _render(tokens, inner, shown=shown and first_shown)
        result += text if first_shown else ""
    if end == "else":
        text, end = _render(tokens, scope, shown=shown and not first_shown)
        result += "" if first_shown else text
    if end != f"/{name}":
        raise RenderingError(f"{{{{#{name}}}}} is not closed")
    return result


def _lookup(path: str, scope: list[Any]) -> Any:
    steps = [step for step in path.split(".") if step]
    if path in ("this", "."):
        return scope[-1]
    if steps[0] == "this":
        return _descend(scope[-1], steps[1:])
    for data in reversed(scope):
        value = _descend(data, steps)
        if value is not _MISSING:
            return value
    return _MISSING


def _descend(value: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        if not isinstance(value, Mapping) or step not in value:
            return _MISSING
        value = value[step]
    return value


def _required(path: str, scope: list[Any]) -> Any:
    value = _lookup(path, scope)
    if value is _MISSING or value is None:
        raise RenderingError(f"Attribute '{path}' is not present in the rendering data.")
    return value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
