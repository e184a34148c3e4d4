"""The API's contract is a sound OpenAPI document, with examples that are what it says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft4Validator
from openapi_spec_validator import OpenAPIV30SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

FILE = Path(__file__).parents[2] / "definitions/api.openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(FILE.read_text())
WORKFLOWS_OWN = {"execution_input.json", "execution_output.json", "task_answer.json"}
"""What passes between functions and executions, and never over the API."""
SCHEMAS = {path.name: json.loads(path.read_text()) for path in (FILE.parent / "schemas").glob("*.json")}


def inlined() -> dict[str, Any]:
    """The document with its schema files in their places."""
    schemas = {
        name: SCHEMAS[Path(schema["$ref"]).name] if str(schema.get("$ref", "")).startswith("schemas/") else schema
        for name, schema in DOCUMENT["components"]["schemas"].items()
    }
    return {**DOCUMENT, "components": {**DOCUMENT["components"], "schemas": schemas}}


def resolve(node: dict[str, Any]) -> dict[str, Any]:
    """What a reference within the document stands for."""
    found: Any = node
    while "$ref" in found:
        target: Any = inlined()
        for part in found["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        found = target
    return dict(found)


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each operation, by method and path."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def examples() -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Each example of a body, with its schema."""
    for route, operation in operations():
        bodies = [(route, operation["requestBody"])] if "requestBody" in operation else []
        bodies += [(f"{route} {status}", resolve(answer)) for status, answer in operation["responses"].items()]
        for name, body in bodies:
            for media in body.get("content", {}).values():
                if "example" in media:
                    yield name, media["schema"], media["example"]
                for title, example in media.get("examples", {}).items():
                    yield f"{name} {title}", media["schema"], example["value"]


def test_is_openapi_3_0() -> None:
    assert [error.message for error in OpenAPIV30SpecValidator(inlined()).iter_errors()] == []


@pytest.mark.parametrize(("name", "schema", "example"), list(examples()))
def test_example_is_what_the_schema_says(name: str, schema: dict[str, Any], example: Any) -> None:
    document: Resource[Any] = Resource.from_contents(inlined(), default_specification=DRAFT4)
    validator = Draft4Validator(nullable(within(schema)), registry=registry(document))
    assert [error.message for error in validator.iter_errors(example)] == [], name


def registry(document: "Resource[Any]") -> "Registry[Any]":
    """Where a validator finds the document."""
    contents: Resource[Any] = Resource.from_contents(nullable(document.contents), DRAFT4)
    known: Registry[Any] = Registry().with_resource("contract", contents)
    return known


def within(node: Any) -> Any:
    """The node, with its references made to the document by name."""
    if isinstance(node, list):
        return [within(part) for part in node]
    if not isinstance(node, dict):
        return node
    return {name: f"contract{part}" if name == "$ref" else within(part) for name, part in node.items()}


def nullable(node: Any) -> Any:
    """The node, with OpenAPI's `nullable` said as JSON Schema says it."""
    if isinstance(node, list):
        return [nullable(part) for part in node]
    if not isinstance(node, dict):
        return node
    said = {name: nullable(part) for name, part in node.items() if name != "nullable"}
    if node.get("nullable") is True:
        said["type"] = [node["type"], "null"]
    return said


def test_every_schema_file_is_used() -> None:
    used = {Path(s["$ref"]).name for s in DOCUMENT["components"]["schemas"].values() if "$ref" in s}
    assert used == set(SCHEMAS) - WORKFLOWS_OWN


@pytest.mark.parametrize(("route", "operation"), list(operations()))
def test_every_operation_says_what_it_does_and_who_may(route: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    schemes = {name for scheme in operation["security"] for name in scheme}
    assert (
        schemes
        == {
            "producer": {"iam"},
            "internal": {"iam"},
            "target": set() if route == "POST /acks" else {"capability", "capabilityHeader"},
        }[operation["tags"][0]]
    )


@pytest.mark.parametrize(("route", "operation"), list(operations()))
def test_every_failure_is_a_problem(route: str, operation: dict[str, Any]) -> None:
    failures = {status: resolve(answer) for status, answer in operation["responses"].items() if status >= "400"}
    assert {"429", "500", "503"} <= failures.keys()
    for status, answer in failures.items():
        page = route == "GET /messages/{id}/ack" and status == "403"
        assert ("text/html" if page else "application/problem+json") in answer["content"], status
