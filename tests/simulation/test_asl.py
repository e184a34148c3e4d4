"""The interpreter of definitions is strict: what it does not know it refuses, and its limits are AWS's."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.fakes.wire import LimitBroken
from tests.fakes.world import START
from tests.simulation import asl
from tests.simulation.asl import Call, Machine, StateError, Unsupported, compile_rule, compile_value, handles, put
from tests.simulation.simulator import MINUTE, SECOND, Crash, Simulation, acks, silent
from tests.simulation.states import ARN, DEFINITIONS, DEPLOYMENTS, fields_for, load

Edit = Callable[[dict[str, Any]], object]


def definition(name: str = "delivery_callback") -> dict[str, Any]:
    text = (DEFINITIONS / f"{name}.asl.json").read_text()
    return dict(json.loads(text))


@pytest.mark.parametrize("name", sorted({name for name, _ in DEPLOYMENTS.values()}))
def test_each_definition_is_understood(name: str) -> None:
    assert load(name).tasks


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda d: d.update(Foo=1), id="field of the machine"),
        pytest.param(lambda d: d.update(QueryLanguage="JSONata"), id="query language"),
        pytest.param(lambda d: d.update(StartAt="Nowhere"), id="start"),
        pytest.param(lambda d: d["States"]["Send"].update(Foo=1), id="field of a state"),
        pytest.param(lambda d: d["States"]["Send"].update(Type="Map"), id="type"),
        pytest.param(lambda d: d["States"]["Send"].update(Next="Nowhere"), id="next"),
        pytest.param(lambda d: d["States"]["Send"].update(End=True), id="next and end"),
        pytest.param(lambda d: d["States"]["Send"].pop("TimeoutSecondsPath"), id="no timeout"),
        pytest.param(lambda d: d["States"]["Send"].update(ResultPath="$..x"), id="result path"),
        pytest.param(lambda d: d["States"]["Send"]["Catch"][0].pop("ResultPath"), id="catch"),
        pytest.param(lambda d: d["States"]["Send"]["Catch"].reverse(), id="States.ALL before others"),
        pytest.param(lambda d: d["States"]["Send"]["Retry"][0].update(Foo=1), id="retry"),
        pytest.param(lambda d: d["States"]["Send"]["Retry"][0].update(MaxDelaySeconds=1), id="retry's delay"),
        pytest.param(lambda d: d["States"]["Send"]["Retry"][0].update(ErrorEquals=["States.Typo"]), id="error"),
        pytest.param(lambda d: d["States"]["Ended"]["Parameters"].update({"x.$": "States.UUID()"}), id="intrinsic"),
        pytest.param(lambda d: d["States"]["Ended"]["Parameters"].update({"x.$": "$.a[*]"}), id="path"),
        pytest.param(lambda d: d["States"]["Rounds"]["Choices"][0].update(StringMatches="x"), id="two operators"),
        pytest.param(lambda d: d["States"]["Pause"].pop("SecondsPath"), id="wait"),
        pytest.param(lambda d: d["States"].update(Lost={"Type": "Succeed"}), id="unreachable"),
    ],
)
def test_what_it_does_not_know_it_refuses(edit: Edit) -> None:
    text = definition()
    Machine(copy.deepcopy(text))
    edit(text)
    with pytest.raises(Unsupported):
        Machine(text)


def test_intrinsic_functions_and_paths() -> None:
    data = {"from": 3, "next": {"index": 1}, "delays": [15, 30, 9], "channel": "webhook"}
    context = {"Task": {"Token": "t"}}

    def value(text: str) -> Any:
        return compile_value(text)(data, context)

    assert value("States.MathAdd(States.MathAdd($.from, $.next.index), 1)") == 5
    assert value("States.ArrayGetItem($.delays, States.MathAdd($.next.index, 1))") == 9
    assert value("States.Format('attempt.{}', $.channel)") == "attempt.webhook"
    assert (value("$$.Task.Token"), value("$.delays[0]"), value("$")) == ("t", 15, data)
    for text in ("States.ArrayGetItem($.delays, 3)", "States.MathAdd($.channel, 1)", "$.nothing", "$.delays[9]"):
        with pytest.raises(StateError):
            value(text)


def test_choice_rules_compare_what_has_the_right_type_only() -> None:
    rule = compile_rule({"Variable": "$.a", "NumericLessThanPath": "$.b", "Next": "x"})
    assert rule({"a": 1, "b": 2}, {})
    assert not rule({"a": 2, "b": 2}, {})
    assert not rule({"a": "1", "b": 2}, {})
    absent = compile_rule({"Variable": "$.a.b", "IsPresent": False, "Next": "x"})
    assert absent({"a": {}}, {})
    assert not absent({"a": {"b": None}}, {})
    with pytest.raises(StateError):
        compile_rule({"Variable": "$.a", "StringEquals": "x", "Next": "x"})({}, {})


def test_errors_are_matched_as_aws_documents() -> None:
    def matches(error: str, *names: str) -> bool:
        return handles({"ErrorEquals": list(names)}, error)

    assert matches("ApiGateway.503", "States.TaskFailed")
    assert matches("States.HeartbeatTimeout", "States.Timeout")
    assert not matches("States.Timeout", "States.HeartbeatTimeout")
    assert not matches("States.Timeout", "States.TaskFailed")
    assert matches("States.Timeout", "States.ALL")
    assert not matches("States.Runtime", "States.ALL")
    assert not matches("States.DataLimitExceeded", "States.ALL")


def test_a_result_is_put_where_its_path_says_and_changes_nothing_else() -> None:
    data = {"a": {"b": 1}, "c": 2}
    assert put("$.a.d", data, 3) == {"a": {"b": 1, "d": 3}, "c": 2}
    assert put(None, data, 3) == data
    assert put("$", data, 3) == 3
    assert data == {"a": {"b": 1}, "c": 2}


def test_tokens_starts_and_stops_answer_as_aws_does(simulation: Simulation) -> None:
    message = simulation.submit(silent(), acks(10), **fields_for("delivery_callback", schedule=[20]))
    simulation.run(5 * SECOND)
    client, (execution,) = simulation.sfn.client, simulation.sfn.executions
    arn, told = f"{ARN}:stateMachine:delivery_callback", json.dumps(execution.told)
    client.start_execution(stateMachineArn=arn, name=execution.name, input=told)
    assert len(simulation.sfn.executions) == 1, "the same name and input while it runs is no other execution"
    other = json.dumps({**execution.told, "base": 1, "from": 1})
    assert _refused(lambda: client.start_execution(stateMachineArn=arn, name=execution.name, input=other)) == (
        "ExecutionAlreadyExists"
    )
    token = simulation.record(message).task
    assert token is not None
    simulation.run_until_ended(message)
    simulation.run(5 * SECOND)
    assert _refused(lambda: client.send_task_success(taskToken=token, output="{}")) == "TaskTimedOut"
    assert _refused(lambda: client.send_task_heartbeat(taskToken=token)) == "TaskTimedOut"
    assert _refused(lambda: client.send_task_success(taskToken="no token", output="{}")) == "InvalidToken"
    assert _refused(lambda: client.start_execution(stateMachineArn=arn, name=execution.name, input=told)) == (
        "ExecutionAlreadyExists"
    )
    client.stop_execution(executionArn=execution.arn, error="x", cause="y")
    assert execution.status == "SUCCEEDED", "an execution that has ended stays as it is"
    assert _refused(lambda: client.stop_execution(executionArn="arn:none", error="x", cause="y")) == (
        "ExecutionDoesNotExist"
    )
    with pytest.raises(LimitBroken):
        client.start_execution(stateMachineArn=arn, name="x" * 81, input=told)
    with pytest.raises(LimitBroken):
        client.start_execution(stateMachineArn=arn, name="x", input="{}")


def test_an_execution_over_25_000_events_fails(simulation: Simulation) -> None:
    simulation.submit(silent(), **fields_for("delivery_callback", schedule=[20]))
    simulation.run(5 * SECOND)
    (execution,) = simulation.sfn.executions
    execution.events["Filler"] += 24_990
    simulation.run(60 * SECOND)
    assert (execution.status, execution.error) == ("FAILED", "States.Runtime")
    assert execution.waiting == set()


class TestAsynchronousInvocations:
    def test_the_machine_goes_on_at_once_and_hears_no_error(self, simulation: Simulation) -> None:
        simulation.wire.crashes.append(Crash("states.pull", "before", function="push"))
        message = simulation.submit(acks(10), **fields_for("delivery_push", schedule=[600]))
        simulation.run(5 * SECOND)
        (execution,) = simulation.sfn.of(message)
        assert (execution.running, execution.events["TaskSucceeded"], execution.events["TaskFailed"]) == (True, 1, 0)
        assert simulation.sendings(message) == []
        simulation.run(MINUTE)
        assert (simulation.sendings(message), execution.output["status"]) == ([1], "DELIVERED")
        assert simulation.sfn.dead == []

    def test_what_fails_three_times_is_given_up(self, simulation: Simulation) -> None:
        simulation.wire.crashes.append(Crash("states.pull", "before", function="push", times=3))
        simulation.submit(acks(10), **fields_for("delivery_push", schedule=[600]))
        simulation.run(3 * MINUTE + SECOND)
        assert simulation.sfn.dead == [{}]
        assert simulation.wire.crashes[0].hits == 3

    def test_another_kind_is_refused(self, simulation: Simulation) -> None:
        waiting = Call("arn:aws:states:::lambda:invoke", arguments(InvocationType="DryRun"), 60, None, None)
        simulation.submit(silent(), **fields_for("delivery_poll", schedule=[600]))
        (execution,) = simulation.sfn.executions
        simulation.sfn.call(execution, waiting, lambda value, error: None)
        with pytest.raises(Unsupported):
            simulation.run(SECOND)


def arguments(**more: Any) -> dict[str, Any]:
    return {"FunctionName": "arn:aws:lambda:eu-central-1:0:function:push", "Payload": {}, **more}


def test_times_are_written_as_the_context_object_has_them() -> None:
    assert asl.iso(START + 123) == "2026-01-01T00:00:00.123Z"


def _refused(call: Callable[[], object]) -> str:
    with pytest.raises(ClientError) as refusal:
        call()
    return str(refusal.value.response["Error"]["Code"])
