"""The workflows' definitions: the rules that they keep to, the proof that each rule is looked at, and the contracts."""

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from statelint.linter import Linter  # type: ignore[import-untyped]

from handlers.delivery.message import Record, Scheduler, Status
from handlers.delivery.workflows import CATALOGUE, MAX_ASKS, again, execution_input
from scripts import asl, draw
from scripts.asl import Cost, Machine
from tests.definitions import problems
from tests.fakes.records import a_record, claimed
from tests.fakes.world import START

MACHINES = asl.machines()
SCHEMAS = asl.FOLDER / "schemas"
CONTRACTS = ("execution_input", "execution_output", "task_answer")
OPEN = (Status.PENDING, Status.AWAITING_ACK)

every_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def valid(name: str, document: Any) -> bool:
    return Draft202012Validator(schema(name)).is_valid(document)


# The rules


@every_machine
def test_a_definition_keeps_to_the_rules(machine: Machine) -> None:
    assert problems(machine.document) == []


@every_machine
def test_another_validator_finds_nothing_either(machine: Machine) -> None:
    assert Linter.validate(asl.filled(machine.document)) == []


def test_every_workflow_has_a_definition_and_every_definition_a_workflow() -> None:
    assert {asl.of_workflow(workflow).name for workflow in CATALOGUE} == {machine.name for machine in MACHINES}


def test_every_variable_is_used() -> None:
    texts = "".join(path.read_text() for path in asl.FOLDER.glob(f"*{asl.SUFFIX}"))
    assert set(asl.VARIABLE.findall(texts)) == set(asl.SAMPLES)


def test_a_definition_is_filled_in_without_a_trace() -> None:
    for machine in MACHINES:
        text = json.dumps(asl.filled(machine.document))
        assert "${" not in text
        assert "$$.State.EnteredTime" in text or "apigateway" in text
    with pytest.raises(KeyError):
        asl.filled({"Resource": "${unheard_of}"})


# The proof that the rules are looked at: each seeded violation is found

Change = Callable[[dict[str, Any]], None]


def put(path: str, value: Any) -> Change:
    """Change one field; None takes it away. `path` names fields, with slashes between, and places in lists."""

    def change(document: dict[str, Any]) -> None:
        *way, last = path.split("/")
        node: Any = document
        for step in way:
            node = node[int(step)] if isinstance(node, list) else node[step]
        key: Any = int(last) if isinstance(node, list) else last
        if value is None:
            del node[key]
        else:
            node[key] = value

    return change


def both(*changes: Change) -> Change:
    def change(document: dict[str, Any]) -> None:
        for one in changes:
            one(document)

    return change


SEND = "States/Send"
BRANCH = f"{SEND}/Branches/0"
HOLD = f"{BRANCH}/States/Hold"
LAST_CATCH = {"ErrorEquals": ["States.ALL"], "ResultPath": "$.trouble", "Next": "Settle"}
ENDING = {"Type": "Pass", "Comment": "An end.", "End": True}
OUTPUT = {"v": 1, "message_id.$": "$.message_id", "life.$": "$.life", "status.$": "$.answer.status"}

VIOLATIONS = [
    ("callback", put("Comment", None), "machine: no Comment"),
    ("callback", put("QueryLanguage", None), "machine: QueryLanguage must be JSONPath"),
    ("callback", put("QueryLanguage", "JSONata"), "machine: QueryLanguage must be JSONPath"),
    ("callback", put(f"{SEND}/QueryLanguage", "JSONata"), "Send: QueryLanguage must be JSONPath"),
    ("callback", put(f"{SEND}/Arguments", {}), "Send: JSONata's fields: Arguments"),
    ("callback", put("States/Ended/Parameters/status.$", "{% $states.input %}"), "status.$: JSONata"),
    ("callback", put("States/Rounds/Comment", ""), "Rounds: no Comment"),
    ("push", put(f"{HOLD}/Comment", None), "Send[0].Hold: no Comment"),
    ("callback", put("States/Rounds/Choices/0/Comment", None), "Rounds: a choice without a Comment"),
    ("callback", put("States/Rounds/Default", None), "Rounds: no Default"),
    ("callback", put("States/Advance/End", True), "Advance: either Next or End"),
    ("callback", put("States/Done/End", None), "Done: either Next or End"),
    ("callback", put("States/Done/Type", "Fail"), "Done: Type must be one of"),
    ("callback", put("StartAt", "Nowhere"), "StartAt names no state: Nowhere"),
    ("callback", put("States/Advance/Next", "Nowhere"), "Advance: leads to no state: Nowhere"),
    ("callback", put("States/Rounds/Default", "Nowhere"), "Rounds: leads to no state: Nowhere"),
    ("callback", put("States/Rounds/Choices/0/Next", "Nowhere"), "Rounds: leads to no state: Nowhere"),
    ("callback", put(f"{SEND}/Catch/0/Next", "Nowhere"), "Send: leads to no state: Nowhere"),
    ("push", put(f"{BRANCH}/StartAt", "Nowhere"), "Send[0].StartAt names no state: Nowhere"),
    (
        "push",
        both(put(f"{HOLD}/End", None), put(f"{HOLD}/Next", "Rounds")),
        "Send[0].Hold: leads to no state: Rounds",
    ),
    ("callback", put("States/Alone", ENDING), "Alone: nothing leads here"),
    ("push", put(f"{BRANCH}/States/Alone", ENDING), "Send[0].Alone: nothing leads here"),
    ("push", put(f"{BRANCH}/States/Done", ENDING), "Done: two states of this name"),
    ("push", put(f"{SEND}/Branches", []), "Send: nothing inside"),
    ("callback", put(f"{SEND}/TimeoutSecondsPath", None), "Send: either TimeoutSeconds or TimeoutSecondsPath"),
    ("callback", put(f"{SEND}/TimeoutSeconds", 15), "Send: either TimeoutSeconds or TimeoutSecondsPath"),
    (
        "event",
        both(put(f"{SEND}/TimeoutSecondsPath", None), put(f"{SEND}/TimeoutSeconds", 15)),
        "Send: what waits for an answer takes its timeout from TimeoutSecondsPath",
    ),
    (
        "push",
        both(put(f"{HOLD}/TimeoutSecondsPath", None), put(f"{HOLD}/TimeoutSeconds", 15)),
        "Send[0].Hold: what waits for an answer takes its timeout from TimeoutSecondsPath",
    ),
    ("poll", put(f"{SEND}/TimeoutSeconds", None), "Send: either TimeoutSeconds or TimeoutSecondsPath"),
    ("poll", put(f"{SEND}/TimeoutSeconds", 14400), "Send: TimeoutSeconds must be 1 to 120"),
    ("activity", put(f"{SEND}/HeartbeatSeconds", 60), "Send: a literal delay: HeartbeatSeconds"),
    (
        "poll",
        both(put("States/Wait/SecondsPath", None), put("States/Wait/Seconds", 15)),
        "Wait: a literal delay: Seconds",
    ),
    ("poll", put("States/Wait/SecondsPath", None), "Wait: a Wait takes its time from SecondsPath"),
    ("callback", put("States/Advance/Parameters/wait", 14400), "wait: the literal number 14400"),
    (
        "callback",
        put("States/Advance/Parameters/wait.$", "States.ArrayGetItem(States.Array(15, 30), 1)"),
        "wait.$: the literal number 15",
    ),
    ("callback", put(f"{SEND}/Catch/0/ResultPath", None), "Send: a Catch without a ResultPath"),
    ("callback", put(f"{SEND}/Catch", None), "Send: the last Catch must take States.ALL to Settle with $.trouble"),
    ("push", put(f"{SEND}/Catch/1/ResultPath", "$.over"), "Send: the last Catch must take States.ALL"),
    ("callback", put(f"{SEND}/Catch/1/Next", "Rounds"), "Send: the last Catch must take States.ALL"),
    ("callback", put(f"{SEND}/Catch", [LAST_CATCH] * 2), "Send: States.ALL must stand alone in the last Catch"),
    ("poll", put(f"{SEND}/Catch/0/Next", "Ended"), "Send: the error ApiGateway.410 may end in Ended"),
    ("poll", put(f"{SEND}/Catch/0/Next", "Wait"), "Send: the error ApiGateway.410 does not lead to Settle"),
    ("callback", put("States/Rounds/Default", "Ended"), "Send: the error States.Timeout may end in Ended"),
    ("callback", put("States/Settle", None), "Settle: must be there and invoke the function settle"),
    (
        "callback",
        put("States/Settle/Parameters/FunctionName", "${job_function}"),
        "Settle: must be there and invoke the function settle",
    ),
    ("callback", put("States/Settle/Next", "Ended"), "Settle: must lead to Done and nowhere else"),
    ("callback", put("States/Settle/Catch", [LAST_CATCH]), "Settle: must lead to Done and nowhere else"),
    ("callback", put("States/Rounds/Default", "Done"), "Rounds: only Settle may lead to Done"),
    ("callback", put("States/Ended/Parameters/more", "x"), "Ended: an end must be a Pass that writes the output"),
    ("callback", put("States/Ended/Parameters/life.$", None), "Ended: an end must be a Pass that writes the output"),
    ("poll", put("States/Read/ResultPath", None), "Read: no ResultPath, so the data would be lost"),
    ("push", put(f"{SEND}/ResultPath", "$"), "Send: no ResultPath, so the data would be lost"),
    ("poll", put("States/Read/Retry", None), "Read: no Retry"),
    ("push", put(f"{HOLD}/Retry", []), "Send[0].Hold: no Retry"),
    ("poll", put("States/Read/Retry/0/MaxDelaySeconds", None), "Read: a Retry needs"),
    ("poll", put("States/Read/Retry/0/BackoffRate", None), "Read: a Retry needs"),
    ("poll", put("States/Read/Retry/0/JitterStrategy", "NONE"), "Read: a Retry's JitterStrategy must be FULL"),
    ("poll", put(f"{SEND}/Retry/0/ErrorEquals", ["States.ALL"]), "Send: States.ALL must stand alone in the last Retry"),
    ("callback", put(f"{SEND}/Retry/0/ErrorEquals", ["States.ALL"]), "Send: a Retry would wait the whole delay again"),
    (
        "push",
        put(f"{HOLD}/Retry/0/ErrorEquals", ["States.Timeout"]),
        "Send[0].Hold: a Retry would wait the whole delay",
    ),
    ("poll", put("States/Read/Resource", "arn:aws:states:::dynamodb:getItem"), "Read: unknown Resource arn:aws"),
    ("poll", put("States/Read/Resource", "arn:${partition}:states:::dynamodb:scan"), "Read: unknown Resource arn:"),
    ("callback", put(f"{SEND}/Parameters/MessageBody/task/token.$", "$.token"), "Send: the task's token is not sent"),
    ("activity", put(f"{SEND}/Parameters/task/token.$", "$$.Task.Token"), "Send: there is no task token here"),
    ("poll", put("States/Read/Parameters/TableName", "${tables}"), "TableName: the unknown variable tables"),
    ("poll", put("States/Read/Parameters/TableName", "a-${table}"), "TableName: a variable inside a text"),
]


@pytest.mark.parametrize(("name", "change", "words"), VIOLATIONS, ids=[words for *_, words in VIOLATIONS])
def test_a_seeded_violation_is_found(name: str, change: Change, words: str) -> None:
    document: dict[str, Any] = copy.deepcopy(dict(asl.machine(f"delivery_{name}").document))
    change(document)
    assert any(found.startswith(words) for found in problems(document)), problems(document)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("States/Advance/ResultPath", "next"), 'is "next" but should be a Reference Path'),
        (put("States/Advance/Surprise", 1), 'Field "Surprise" not allowed'),
        (put("States/Rounds/Default", "Nowhere"), "Nowhere"),
        (put(f"{SEND}/Retry/0/MaxDelaySeconds", -1), "MaxDelaySeconds"),
        (put("States/Advance/Parameters/index.$", "States.MathAdd("), "index.$"),
    ],
)
def test_the_other_validator_looks_as_well(change: Change, words: str) -> None:
    document = asl.filled(asl.machine("delivery_callback").document)
    change(document)
    found = Linter.validate(document)
    assert any(words in problem for problem in found), found


# The contracts


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_contract_is_a_schema_and_its_examples_are_valid(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))
    examples = schema(name)["examples"]
    assert examples
    assert all(valid(name, example) for example in examples)


INPUT = schema("execution_input")["examples"][0]


@pytest.mark.parametrize(
    "change",
    [
        *({field: None} for field in INPUT),
        {"v": 2},
        {"message_id": "short"},
        {"life": 0},
        {"queue_url": "no URL"},
        {"base": -1},
        {"from": 1.5},
        {"delays": []},
        {"delays": [0]},
        {"delays": [15] * (MAX_ASKS + 1)},
        {"last": MAX_ASKS},
        {"next": {"index": 0}},
        {"next": {"index": -1, "wait": 15, "heartbeat": 14}},
        {"next": {"index": 0, "wait": 0, "heartbeat": 1}},
        {"trouble": {"reason": "x"}},
        {"more": 1},
    ],
    ids=str,
)
def test_another_input_is_refused(change: Mapping[str, Any]) -> None:
    assert valid("execution_input", INPUT)
    changed = {field: value for field, value in {**INPUT, **change}.items() if value is not None}
    assert not valid("execution_input", changed)


@pytest.mark.parametrize(
    "fields", [{}, {"max_attempts": 1}, {"schedule": (1,)}, {"schedule": (15, 30, 14400)}], ids=str
)
def test_what_executions_are_told_is_of_the_contract(fields: Mapping[str, Any]) -> None:
    record = a_record(scheduler=Scheduler.WORKFLOW, workflow="delivery_callback", **fields)
    told = execution_input(record, "https://sqs.example/webhook", 60, START)
    Draft202012Validator(schema("execution_input")).validate(told)
    assert told["next"] == {"index": 0, "wait": told["delays"][0], "heartbeat": told["heartbeats"][0]}
    assert len(told["heartbeats"]) == len(told["delays"])
    assert told["last"] == len(told["delays"]) - 1


@pytest.mark.parametrize(
    "status", [*(status for status in Status if status not in OPEN), "HANDED_OVER", "RESTARTED", "UNKNOWN"]
)
def test_every_end_can_be_written(status: str) -> None:
    assert valid("execution_output", {"v": 1, "message_id": "a" * 26, "life": 1, "status": str(status)})


@pytest.mark.parametrize("status", [*OPEN, "SETTLE", "AGAIN", ""])
def test_what_is_no_end_cannot(status: str) -> None:
    assert not valid("execution_output", {"v": 1, "message_id": "a" * 26, "life": 1, "status": str(status)})


@pytest.mark.parametrize("record", [a_record(), claimed(a_record())], ids=["waiting", "held"])
def test_the_answer_to_who_asks_at_the_wrong_time_is_of_the_contract(record: Record) -> None:
    Draft202012Validator(schema("task_answer")).validate(again(record, 0, START, 60))
    assert again(record, 0, START, 60)["status"] == "AGAIN"


@pytest.mark.parametrize(
    "answer",
    [
        {"status": "AGAIN"},
        {"status": "AGAIN", "pause": 0, "next": {"index": 0, "wait": 1, "heartbeat": 1}},
        {"status": "AGAIN", "pause": 1, "next": {"index": 0}},
        {"status": "SETTLE", "pause": 1},
        {"status": "PENDING"},
        {"status": "RESTARTED"},
        {},
    ],
    ids=str,
)
def test_another_answer_is_refused(answer: Mapping[str, Any]) -> None:
    assert not valid("task_answer", answer)


# What they cost


@pytest.mark.parametrize(
    ("workflow", "attempt", "acked"),
    [
        ("delivery_poll", Cost(4, 14), Cost(5, 18)),
        ("poll_express", Cost(4, 14), Cost(5, 18)),
        ("delivery_stop_on_ack", Cost(2, 7), Cost(2, 9)),
        ("delivery_callback", Cost(3, 10), Cost(3, 12)),
        ("delivery_event", Cost(3, 10), Cost(3, 12)),
        ("delivery_activity", Cost(3, 9), Cost(3, 11)),
        ("delivery_push", Cost(5, 18), Cost(5, 20)),
        ("delivery_job_poller", Cost(4, 14), Cost(6, 23)),
    ],
)
def test_the_cost_is_counted_from_the_definition(workflow: str, attempt: Cost, acked: Cost) -> None:
    assert asl.unanswered(workflow) == attempt
    assert asl.answered_at_once(workflow) == acked


@pytest.mark.parametrize("workflow", CATALOGUE)
def test_the_asks_of_one_execution_fit_its_history_with_room_for_retries(workflow: str) -> None:
    used = MAX_ASKS * asl.unanswered(workflow).events + asl.answered_at_once(workflow).events
    assert used < draw.HISTORY * 0.75


# The page that shows them


def test_the_page_is_up_to_date() -> None:
    assert draw.PAGE.read_text() == draw.page(), "run `make draw`"


def test_the_page_shows_every_workflow_and_every_state() -> None:
    text = draw.page()
    assert all(f"\n## {workflow}\n" in text for workflow in CATALOGUE)
    for machine in MACHINES:
        lines = [line.strip() for line in draw.diagram(machine).splitlines()]
        for _, scope in asl.scopes(machine.document):
            for name in scope["States"]:
                assert any(
                    line.removeprefix("subgraph ").startswith((f"{name}[", f"{name}(", f"{name}{{")) for line in lines
                )


def test_a_diagram_shows_loops_errors_and_branches() -> None:
    poll, push = draw.diagram(asl.machine("delivery_poll")), draw.diagram(asl.machine("delivery_push"))
    assert 'Open -- "still open" --> Send' in poll
    assert 'Send -. "410, any other error" .-> Settle' in poll
    assert 'Send["Send<br/>API: POST /internal/attempts"]' in poll
    assert 'Send -. "timed out" .-> Rounds' in push
    assert 'subgraph Send["Send: side by side"]' in push
    assert 'Hold["Hold<br/>Activity: waits<br/>until answered, at most wait s"]' in push


def test_a_page_that_is_out_of_date_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, wanted = tmp_path / "workflows.md", draw.page()
    stale = draw.BLOCK.sub(r"\1old\n\3", draw.PAGE.read_text())
    page.write_text(stale)
    monkeypatch.setattr(draw, "PAGE", page)
    assert draw.main(["--check"]) == 1
    assert "make draw" in capsys.readouterr().err
    assert page.read_text() == stale
    assert draw.main([]) == 0
    assert draw.main(["--check"]) == 0
    assert page.read_text() == wanted


def test_a_page_without_a_block_for_a_definition_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "workflows.md"
    page.write_text(draw.PAGE.read_text().replace("<!-- draw delivery_push -->", ""))
    monkeypatch.setattr(draw, "PAGE", page)
    with pytest.raises(ValueError, match="no block <!-- draw delivery_push -->"):
        draw.main([])
