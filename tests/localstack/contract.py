"""The API's contract, held against every answer that a test gets."""

import json
import re
import threading
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fastjsonschema
import yaml
from botocore.credentials import Credentials

from scripts.client import Answer, Api

DEFINITIONS = Path(__file__).parents[2] / "definitions"
CONCURRENT = 4
"""Requests at a time: each one may need a process of its own on the machine that runs the tests."""
_METHODS = {"get", "put", "post", "delete", "patch"}
_ANYTHING: Mapping[str, Any] = {}


class Contract:
    """`definitions/api.openapi.yaml`: what each route may answer. Remembers what it has seen."""

    def __init__(self, file: Path = DEFINITIONS / "api.openapi.yaml") -> None:
        self.document: dict[str, Any] = yaml.safe_load(file.read_text())
        self.seen: set[tuple[str, str, int]] = set()
        self._routes = [
            (method.upper(), path, re.compile(re.sub(r"\{\w+\}", "[^/]*", path)), operation)
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
            if method in _METHODS
        ]
        # A literal path goes before one with a parameter.
        self._routes.sort(key=lambda route: route[1].count("{"))

    def documented(self) -> set[tuple[str, str, int]]:
        """Every answer that the contract names: method, path, status."""
        return {
            (method, path, int(status))
            for method, path, _, operation in self._routes
            for status in operation["responses"]
            if str(status).isdigit()
        }

    def operations(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Every operation: method, path, description."""
        return [(method, path, operation) for method, path, _, operation in self._routes]

    def check(self, method: str, path: str, answer: Answer) -> None:
        """Fail unless the contract has this answer for this request; a route it does not have may answer anything."""
        found = next((r for r in self._routes if r[0] == method and r[2].fullmatch(path)), None)
        if found is None:
            return
        _, template, _, operation = found
        where = f"{method} {template} answered {answer.status}"
        response = operation["responses"].get(str(answer.status))
        assert response is not None, f"{where}, which the contract does not have: {answer.body}"
        content = self._resolved(response).get("content", {})
        kind = answer.headers.get("content-type", "").partition(";")[0].strip()
        assert not content or kind in content, f"{where} as {kind!r}, not as {sorted(content)}: {answer.body}"
        if content:
            self._validator(json.dumps(self._resolved(content[kind].get("schema", _ANYTHING))))(answer.body)
        for name, header in self._resolved(response).get("headers", {}).items():
            required = self._resolved(header).get("required")
            assert not required or name.lower() in answer.headers, f"{where} without {name}"
        self.seen.add((method, template, answer.status))

    @staticmethod
    @cache
    def _validator(schema: str) -> Callable[[Any], Any]:
        validate: Callable[[Any], Any] = fastjsonschema.compile(json.loads(schema))
        return validate

    def _resolved(self, node: Any) -> Any:
        """The node with its references put in place, and OpenAPI's `nullable` said in JSON Schema."""
        if isinstance(node, list):
            return [self._resolved(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return self._resolved(self._target(node["$ref"]))
        resolved = {name: self._resolved(value) for name, value in node.items() if name != "nullable"}
        return {"anyOf": [resolved, {"type": "null"}]} if node.get("nullable") is True else resolved

    def _target(self, reference: str) -> Any:
        if not reference.startswith("#/"):
            return json.loads((DEFINITIONS / reference).read_text())
        target: Any = self.document
        for part in reference[2:].split("/"):
            target = target[part]
        return target


class ContractApi(Api):
    """The API's client; every answer must be one that the contract has."""

    def __init__(self, contract: Contract, url: str, region: str, ack_base_url: str) -> None:
        super().__init__(url, region, ack_base_url=ack_base_url, credentials=Credentials("test", "test"))
        self.contract = contract
        self._base = urlsplit(url).path.rstrip("/")
        self._turns = threading.BoundedSemaphore(CONCURRENT)

    def _send(self, method: str, url: str, data: bytes | None, headers: Mapping[str, str]) -> Answer:
        with self._turns:
            answer = super()._send(method, url, data, headers)
        self.contract.check(method, urlsplit(url).path.removeprefix(self._base), answer)
        return answer
