"""The workflows' definitions as LocalStack's Step Functions reads them, and the machines that were made from them."""

import json
from typing import Any

import pytest

from handlers.delivery.workflows import CATALOGUE
from scripts import asl
from tests.localstack.kit import Kit

pytestmark = pytest.mark.together("workflows")


def verdict(kit: Kit, document: Any, kind: str) -> dict[str, Any]:
    answer = kit.clients["stepfunctions"].validate_state_machine_definition(definition=json.dumps(document), type=kind)
    return dict(answer)


@pytest.mark.parametrize("workflow", CATALOGUE)
def test_a_definition_is_valid(kit: Kit, workflow: str) -> None:
    kind = "EXPRESS" if workflow in asl.EXPRESS else "STANDARD"
    answer = verdict(kit, asl.filled(asl.of_workflow(workflow).document), kind)
    assert (answer["result"], answer["diagnostics"]) == ("OK", [])


def test_another_is_not(kit: Kit) -> None:
    document = asl.filled(asl.machine("delivery_callback").document)
    document["States"]["Rounds"]["Type"] = "Chose"
    answer = verdict(kit, document, "STANDARD")
    assert answer["result"] == "FAIL"
    assert answer["diagnostics"]


@pytest.mark.parametrize("workflow", CATALOGUE)
def test_a_machine_is_made_from_its_definition(kit: Kit, workflow: str) -> None:
    machine = kit.clients["stepfunctions"].describe_state_machine(stateMachineArn=kit.stack.machines[workflow])
    assert machine["type"] == ("EXPRESS" if workflow in asl.EXPRESS else "STANDARD")
    made, written = json.loads(machine["definition"]), asl.of_workflow(workflow).document
    assert "${" not in machine["definition"]
    assert list(made["States"]) == list(written["States"])
    assert made["Comment"] == written["Comment"]
