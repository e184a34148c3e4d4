"""Executions and the tasks that somebody else ends: started once, answered once, stopped at once."""

from __future__ import annotations

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support import Functions, Machines, Stack, eventually, unique
from until_ack_localstack.states import tokens

END = {"Type": "Pass", "End": True}
FUNCTION_THAT_PASSES_ON = """
import json, os, urllib.request
def handler(event, context):
    credential = "Credential=%s/20260101/us-east-1/sqs/aws4_request" % os.environ["AWS_ACCESS_KEY_ID"]
    headers = {"X-Amz-Target": "AmazonSQS.SendMessage", "Content-Type": "application/x-amz-json-1.0",
               "Authorization": "AWS4-HMAC-SHA256 %s, SignedHeaders=host, Signature=x" % credential}
    data = json.dumps({"QueueUrl": os.environ["QUEUE"], "MessageBody": json.dumps(event)}).encode()
    urllib.request.urlopen(urllib.request.Request(os.environ["AWS_ENDPOINT_URL"], data, headers))
"""


def _code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def _callback(queue: str, **fields: Any) -> dict[str, Any]:
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        "Parameters": {"QueueUrl": queue, "MessageBody": {"token.$": "$$.Task.Token"}},
    } | fields


def _token(machines: Machines, queue: str) -> str:
    return str(json.loads(machines.receive(queue))["token"])


def _task(machines: Machines, activity: str) -> dict[str, Any]:
    return dict(machines.client.get_activity_task(activityArn=activity, workerName="worker"))


def _caught(name: str) -> list[dict[str, Any]]:
    return [{"ErrorEquals": [name], "ResultPath": "$.caught", "Next": "Done"}]


# Answers


def test_a_callback_is_answered_once(stack: Stack, machines: Machines) -> None:
    queue = stack.queue()
    wait = {"Type": "Wait", "Seconds": 3600, "End": True}
    machine = machines.make({"Send": _callback(queue, TimeoutSecondsPath="$.wait", Next="Wait"), "Wait": wait})
    execution = machines.start(machine, {"wait": 60})
    token = _token(machines, queue)
    # A task without HeartbeatSeconds takes heartbeats too.
    machines.client.send_task_heartbeat(taskToken=token)
    machines.client.send_task_success(taskToken=token, output='{"status":"DELIVERED"}')
    late: dict[str, dict[str, str]] = {"success": {"output": "{}"}, "failure": {"error": "Error"}, "heartbeat": {}}
    for kind, answer in late.items():
        with pytest.raises(ClientError) as error:
            getattr(machines.client, f"send_task_{kind}")(taskToken=token, **answer)
        assert _code(error) == "TaskTimedOut"
    machines.client.stop_execution(executionArn=execution)
    assert machines.ended(execution)["status"] == "ABORTED"
    with pytest.raises(ClientError) as error:
        machines.client.send_task_success(taskToken=token, output="{}")
    assert _code(error) == "TaskTimedOut"


def test_of_many_answers_at_once_one_is_taken(stack: Stack, machines: Machines) -> None:
    queue = stack.queue()
    execution = machines.start(machines.make({"Send": _callback(queue, TimeoutSeconds=60, End=True)}))
    token = _token(machines, queue)

    def answer(number: int) -> int | None:
        try:
            machines.client.send_task_success(taskToken=token, output=json.dumps(number))
        except ClientError as error:
            assert error.response["Error"]["Code"] == "TaskTimedOut"
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        (taken,) = [number for number in pool.map(answer, range(8)) if number is not None]
    assert machines.ended(execution)["output"] == taken


def test_what_is_no_token_and_what_is_no_output(stack: Stack, machines: Machines) -> None:
    with pytest.raises(ClientError) as error:
        machines.client.send_task_success(taskToken="none", output="{}")
    assert _code(error) == "InvalidToken"
    with pytest.raises(ClientError) as error:
        machines.client.send_task_success(taskToken="none", output="{")
    assert _code(error) == "InvalidOutput"


def test_tokens_are_as_long_as_on_aws_and_never_logged_whole(stack: Stack, machines: Machines) -> None:
    queue = stack.queue()
    execution = machines.start(machines.make({"Send": _callback(queue, TimeoutSeconds=60, End=True)}))
    token = _token(machines, queue)
    machines.client.send_task_success(taskToken=token, output="{}")
    assert machines.ended(execution)["output"] == {}
    assert 600 < len(token) <= 1024
    assert eventually(lambda: stack.lines("stepfunctions", "SendTaskSuccess", taskToken=token[:12]))
    for log in (stack.instance.requests, stack.instance.log):
        assert token[:13] not in log.read_text()


# Timeouts and heartbeats


def test_a_task_times_out_by_its_path_and_is_over_then(stack: Stack, machines: Machines) -> None:
    queue, activity = stack.queue(), machines.activity()
    fields = {"TimeoutSecondsPath": "$.wait", "ResultPath": "$.answer", "Catch": _caught("States.Timeout"), "End": True}
    states = {
        "callback": {"Send": _callback(queue, **fields), "Done": END},
        "activity": {"Send": {"Type": "Task", "Resource": activity, **fields}, "Done": END},
    }
    began = time.monotonic()
    executions = {kind: machines.start(machines.make(made), {"wait": 1}) for kind, made in states.items()}
    for execution in executions.values():
        ended = machines.ended(execution)
        assert ended["status"] == "SUCCEEDED"
        assert ended["output"]["caught"]["Error"] == "States.Timeout"
    assert time.monotonic() - began < 20
    with pytest.raises(ClientError) as error:
        machines.client.send_task_success(taskToken=_token(machines, queue), output="{}")
    assert _code(error) == "TaskTimedOut"
    # The task that nobody took is not handed out any more: the next one comes first.
    following = machines.start(machines.make({"Send": {"Type": "Task", "Resource": activity, "End": True}}), {"n": 2})
    task = _task(machines, activity)
    assert json.loads(task["input"]) == {"n": 2}
    machines.client.send_task_success(taskToken=task["taskToken"], output='"done"')
    assert machines.ended(following)["output"] == "done"


def test_the_time_of_an_activity_is_counted_again_when_it_is_taken(machines: Machines) -> None:
    activity = machines.activity()
    send = {"Type": "Task", "Resource": activity, "TimeoutSeconds": 4, "End": True}
    execution = machines.start(machines.make({"Send": send}))
    threading.Event().wait(2.5)
    task = _task(machines, activity)
    threading.Event().wait(2.5)
    machines.client.send_task_success(taskToken=task["taskToken"], output="1")
    assert machines.ended(execution)["output"] == 1


def test_a_missed_heartbeat_is_caught_by_either_name(stack: Stack, machines: Machines) -> None:
    fields = {"TimeoutSecondsPath": "$.wait", "HeartbeatSecondsPath": "$.heartbeat", "End": True}
    times, executions, taken = {"wait": 60, "heartbeat": 2}, [], []
    for name in ("States.HeartbeatTimeout", "States.Timeout"):
        activity, caught = machines.activity(), {"Catch": _caught(name)}
        work = {"Type": "Task", "Resource": activity, **fields, **caught}
        for send in (_callback(stack.queue(), **fields, **caught), work):
            executions.append(machines.start(machines.make({"Send": send, "Done": END}), times))
        taken.append(_task(machines, activity)["taskToken"])
    for _ in range(3):
        threading.Event().wait(0.8)
        for token in taken:
            machines.client.send_task_heartbeat(taskToken=token)
    for execution in executions:
        ended = machines.ended(execution)
        assert (ended["status"], ended["output"]["caught"]["Error"]) == ("SUCCEEDED", "States.Timeout")
    for token in taken:
        with pytest.raises(ClientError) as error:
            machines.client.send_task_heartbeat(taskToken=token)
        assert _code(error) == "TaskTimedOut"


def test_a_timeout_is_no_missed_heartbeat(stack: Stack, machines: Machines) -> None:
    fields = {"TimeoutSeconds": 1, "Catch": _caught("States.HeartbeatTimeout"), "End": True}
    ended = machines.run({"Send": _callback(stack.queue(), **fields), "Done": END})
    assert (ended["status"], ended["error"]) == ("FAILED", "States.Timeout")


def test_nothing_catches_what_is_wrong_with_the_machine_itself(machines: Machines) -> None:
    send = {
        "Type": "Task",
        "Resource": machines.activity(),
        "Parameters": {"none.$": "$.none"},
        "Retry": [{"ErrorEquals": ["States.ALL"]}],
        "Catch": _caught("States.ALL"),
        "End": True,
    }
    ended = machines.run({"Send": send, "Done": END})
    assert (ended["status"], ended["error"]) == ("FAILED", "States.Runtime")


def test_a_retried_task_has_a_token_of_its_own(stack: Stack, machines: Machines) -> None:
    queue = stack.queue()
    retry = {
        "ErrorEquals": ["States.HeartbeatTimeout"],
        "IntervalSeconds": 60,
        "BackoffRate": 2,
        "MaxDelaySeconds": 61,
        "JitterStrategy": "FULL",
        "MaxAttempts": 0,
    }
    again = retry | {"ErrorEquals": ["Again"], "IntervalSeconds": 1, "MaxDelaySeconds": 2, "MaxAttempts": 2}
    fields = {"TimeoutSeconds": 60, "HeartbeatSeconds": 30, "Retry": [retry, again], "End": True}
    execution = machines.start(machines.make({"Send": _callback(queue, **fields)}))
    first = _token(machines, queue)
    machines.client.send_task_failure(taskToken=first, error="Again")
    second = _token(machines, queue)
    assert second != first
    with pytest.raises(ClientError) as error:
        machines.client.send_task_success(taskToken=first, output="1")
    assert _code(error) == "TaskTimedOut"
    machines.client.send_task_success(taskToken=second, output="2")
    assert machines.ended(execution)["output"] == 2


def test_a_branch_that_times_out_fails_a_parallel_state_and_is_caught(machines: Machines) -> None:
    activity, other = machines.activity(), machines.activity()
    ask = {"Type": "Task", "Resource": activity, "TimeoutSecondsPath": "$.wait", "End": True}
    help_ = {"Type": "Task", "Resource": other, "TimeoutSeconds": 60, "End": True}
    branches = [{"StartAt": "Ask", "States": {"Ask": ask}}, {"StartAt": "Help", "States": {"Help": help_}}]
    both = {"Type": "Parallel", "Branches": branches, "ResultPath": "$.result", "End": True}
    machine = machines.make({"Both": both | {"Catch": _caught("States.Timeout")}, "Done": END})
    execution = machines.start(machine, {"wait": 3})
    abandoned = _task(machines, other)["taskToken"]
    ended = machines.ended(execution)
    assert (ended["status"], ended["output"]["caught"]["Error"]) == ("SUCCEEDED", "States.Timeout")
    with pytest.raises(ClientError) as error:
        machines.client.send_task_success(taskToken=abandoned, output="{}")
    assert _code(error) == "TaskTimedOut"
    execution = machines.start(machine, {"wait": 30})
    for each in (activity, other):
        task = _task(machines, each)
        machines.client.send_task_success(taskToken=task["taskToken"], output=json.dumps(each))
    assert machines.ended(execution)["output"]["result"] == [activity, other]


# Workers


def test_a_worker_has_its_task_at_once_and_no_two_have_the_same(stack: Stack, machines: Machines) -> None:
    activity, count = machines.activity(), 30
    machine = machines.make({"Work": {"Type": "Task", "Resource": activity, "TimeoutSeconds": 60, "End": True}})
    with ThreadPoolExecutor(count) as pool:
        polls = [pool.submit(_task, machines, activity) for _ in range(count)]
        # They wait, and LocalStack goes on answering.
        assert stack.client("sqs").list_queues(QueueNamePrefix="none")
        began = time.monotonic()
        executions = [machines.start(machine, {"n": number}) for number in range(count)]
        tasks = [poll.result() for poll in polls]
        assert time.monotonic() - began < 30
    assert sorted(json.loads(task["input"])["n"] for task in tasks) == list(range(count))
    for task in tasks:
        machines.client.send_task_success(taskToken=task["taskToken"], output=task["input"])
    assert [machines.ended(execution)["output"]["n"] for execution in executions] == list(range(count))


def test_a_worker_that_has_gone_takes_no_task_away(machines: Machines) -> None:
    import boto3
    from botocore.config import Config

    activity = machines.activity()
    impatient = boto3.client(
        "stepfunctions",
        endpoint_url=machines.client.meta.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(read_timeout=0.3, retries={"total_max_attempts": 1}),
    )
    with pytest.raises(Exception, match="timeout"):
        impatient.get_activity_task(activityArn=activity)
    execution = machines.start(machines.make({"Work": {"Type": "Task", "Resource": activity, "End": True}}))
    machines.client.send_task_success(taskToken=_task(machines, activity)["taskToken"], output="1")
    assert machines.ended(execution)["output"] == 1


def test_a_long_poll_ends_without_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_POLL_SECONDS", 0.2)
    activity = SimpleNamespace(until_ack_condition=threading.Condition(), _tasks=[])
    context: Any = SimpleNamespace(request=SimpleNamespace(environ={}))
    began = time.monotonic()
    assert tokens._take(activity, context, None) is None
    assert 0.2 <= time.monotonic() - began < 2


# Start and stop


def test_a_stopped_execution_ends_at_once_whatever_it_waits_for(stack: Stack, machines: Machines) -> None:
    activity, queue = machines.activity(), stack.queue()
    patient = {"IntervalSeconds": 3600, "ErrorEquals": ["States.ALL"]}
    waits: dict[str, dict[str, Any]] = {
        "wait": {"Type": "Wait", "Seconds": 3600, "End": True},
        "callback": _callback(queue, TimeoutSeconds=3600, HeartbeatSeconds=1800, End=True),
        "activity": {"Type": "Task", "Resource": activity, "TimeoutSeconds": 3600, "End": True},
        "retry": _callback("http://127.0.0.1/000000000000/none", Retry=[patient], End=True),
    }
    branches = [{"StartAt": kind, "States": {kind: state}} for kind, state in waits.items()]
    waits["parallel"] = {"Type": "Parallel", "Branches": branches, "End": True}
    before = _threads(stack)
    machine = {kind: machines.make({kind: state}) for kind, state in waits.items()}
    executions = [machines.start(arn) for arn in machine.values() for _ in range(4)]
    token = _token(machines, queue)
    eventually(lambda: _threads(stack) > before + 60)
    threading.Event().wait(0.3)
    began = time.monotonic()
    for execution in executions:
        machines.client.stop_execution(executionArn=execution, error="Stopped", cause="test")
    for execution in executions:
        assert machines.ended(execution)["status"] == "ABORTED"
    assert time.monotonic() - began < 30
    eventually(lambda: _threads(stack) < before + 30)
    with pytest.raises(ClientError) as error:
        machines.client.send_task_success(taskToken=token, output="{}")
    assert _code(error) == "TaskTimedOut"


def test_an_execution_can_be_stopped_right_after_its_start(machines: Machines) -> None:
    machine = machines.make({"Wait": {"Type": "Wait", "Seconds": 3600, "End": True}})
    for _ in range(10):
        execution = machines.start(machine)
        machines.client.stop_execution(executionArn=execution)
        assert machines.ended(execution)["status"] == "ABORTED"


def _threads(stack: Stack) -> int:
    status = Path(f"/proc/{stack.instance.pid}/status").read_text()
    return int(re.findall(r"Threads:\s+(\d+)", status)[0])


def test_an_execution_of_the_same_name_and_input_is_started_once(stack: Stack, machines: Machines) -> None:
    queue, name = stack.queue(), unique("execution")
    machine = machines.make({"Send": _callback(queue, TimeoutSeconds=60, End=True)})
    with ThreadPoolExecutor(8) as pool:
        (execution,) = set(pool.map(lambda _: machines.start(machine, {"n": 1}, name), range(8)))
    with pytest.raises(ClientError) as error:
        machines.start(machine, {"n": 2}, name)
    assert _code(error) == "ExecutionAlreadyExists"
    machines.client.send_task_success(taskToken=_token(machines, queue), output="{}")
    assert machines.ended(execution)["status"] == "SUCCEEDED"
    with pytest.raises(ClientError) as error:
        machines.start(machine, {"n": 1}, name)
    assert _code(error) == "ExecutionAlreadyExists"
    assert not stack.client("sqs").receive_message(QueueUrl=queue).get("Messages")


def test_how_executions_end_reaches_a_function_by_the_default_bus(
    stack: Stack, machines: Machines, functions: Functions
) -> None:
    queue, rule = stack.queue(), unique("rule")
    function = functions.make(FUNCTION_THAT_PASSES_ON, variables={"QUEUE": queue})
    long = {"Wait": {"Type": "Wait", "Seconds": 3600, "End": True}}
    failing = {"Fail": {"Type": "Fail", "Error": "Broken", "Cause": "as asked"}}
    # Express executions make no such events.
    express = machines.make(failing, type="EXPRESS")
    machine = {
        "FAILED": machines.make(failing),
        "TIMED_OUT": machines.make(long, timeout=1),
        "ABORTED": machines.make(long),
    }
    pattern = {
        "source": ["aws.states"],
        "detail-type": ["Step Functions Execution Status Change"],
        "detail": {"status": ["FAILED", "TIMED_OUT", "ABORTED"], "stateMachineArn": [express, *machine.values()]},
    }
    events = stack.client("events")
    events.put_rule(Name=rule, EventPattern=json.dumps(pattern))
    arn = stack.client("lambda").get_function(FunctionName=function)["Configuration"]["FunctionArn"]
    events.put_targets(Rule=rule, Targets=[{"Id": "function", "Arn": arn}])
    machines.start(express)
    names = {status: unique(status) for status in machine}
    executions = {status: machines.start(machine[status], {"n": 1}, names[status]) for status in machine}
    machines.client.stop_execution(executionArn=executions["ABORTED"], error="Stopped", cause="test")
    details = {}
    for _ in machine:
        detail = json.loads(machines.receive(queue, 20))["detail"]
        details[detail["status"]] = detail
    for status, detail in details.items():
        assert (detail["name"], detail["executionArn"]) == (names[status], executions[status])
        assert (detail["stateMachineArn"], detail["input"]) == (machine[status], '{"n":1}')
    assert set(details) == set(machine)
    assert (details["FAILED"]["error"], details["FAILED"]["cause"]) == ("Broken", "as asked")
    events.remove_targets(Rule=rule, Ids=["function"])
    events.delete_rule(Name=rule)
