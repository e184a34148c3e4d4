"""What a state machine asks of other services: API Gateway, SQS, EventBridge, Lambda, DynamoDB, CloudWatch Logs."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support import ACCOUNT, REGION, Functions, Machines, Stack, eventually, unique

END = {"Type": "Pass", "End": True}
ATTEMPTS = """
import json
def handler(event, context):
    body = json.loads(event["body"])
    found = {"identity": event["requestContext"]["identity"], "path": event["path"], "body": body}
    text = body.get("text")
    return {"statusCode": body.get("status", 200), "headers": {"content-type": "application/json"},
            "body": json.dumps(found) if text is None else text}
"""
ECHO = """
def handler(event, context):
    if event.get("fail"):
        raise KeyError("as asked")
    return {"state": "AGAIN", "event": event}
"""
ANSWER = """
import json, os, urllib.request
def handler(event, context):
    credential = "Credential=%s/20260101/us-east-1/states/aws4_request" % os.environ["AWS_ACCESS_KEY_ID"]
    headers = {"X-Amz-Target": "AWSStepFunctions.SendTaskSuccess", "Content-Type": "application/x-amz-json-1.0",
               "Authorization": "AWS4-HMAC-SHA256 %s, SignedHeaders=host, Signature=x" % credential}
    data = json.dumps({"taskToken": event["token"], "output": "{}"}).encode()
    return urllib.request.urlopen(urllib.request.Request(os.environ["AWS_ENDPOINT_URL"], data, headers)).status
"""
JOB = {
    "v": 1,
    "id.$": "$.message_id",
    "attempt.$": "States.MathAdd(States.MathAdd($.from, $.next.index), 1)",
    "task": {
        "token.$": "$$.Task.Token",
        "asked_at.$": "$$.State.EnteredTime",
        "wait.$": "States.ArrayGetItem($.delays, States.MathAdd($.next.index, 1))",
    },
}
INPUT = {"message_id": "müll", "from": 4, "next": {"index": 0}, "delays": [1, 60], "channel": "webhook"}


@pytest.fixture(scope="module")
def api(stack: Stack, functions: Functions) -> str:
    function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{functions.make(ATTEMPTS)}"
    uri = f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{function}/invocations"
    document = {
        "openapi": "3.0.1",
        "info": {"title": "test", "version": "1"},
        "paths": {
            "/internal/attempts": {
                "post": {
                    "responses": {},
                    "x-amazon-apigateway-auth": {"type": "AWS_IAM"},
                    "x-amazon-apigateway-integration": {"type": "aws_proxy", "httpMethod": "POST", "uri": uri},
                }
            }
        },
    }
    client = stack.client("apigateway")
    made = str(client.create_rest_api(name=unique("api"))["id"])
    client.put_rest_api(restApiId=made, mode="overwrite", body=json.dumps(document).encode())
    client.create_deployment(restApiId=made, stageName="v1")
    return made


def _invoke(api: str, auth: str | None = "IAM_ROLE", domain: str = "localhost.localstack.cloud") -> dict[str, Any]:
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::apigateway:invoke",
        "Parameters": {
            "ApiEndpoint": f"{api}.execute-api.{REGION}.{domain}",
            "Method": "POST",
            "Stage": "v1",
            "Path": "/internal/attempts",
            "RequestBody.$": "$",
        }
        | ({"AuthType": auth} if auth else {}),
        "End": True,
    }


def _caught(name: str) -> list[dict[str, Any]]:
    return [{"ErrorEquals": [name], "ResultPath": "$.caught", "Next": "Done"}]


@pytest.mark.parametrize("domain", ["localhost.localstack.cloud", "amazonaws.com"])
def test_a_route_is_asked_under_the_machines_role(stack: Stack, machines: Machines, api: str, domain: str) -> None:
    select = {"next.$": "$.ResponseBody", "status.$": "$.StatusCode", "headers.$": "$.Headers"}
    output = machines.run({"Send": _invoke(api, domain=domain) | {"ResultSelector": select}}, {"n": "ä"})["output"]
    assert (output["status"], output["headers"]["Content-Type"]) == (200, ["application/json"])
    assert (output["next"]["path"], output["next"]["body"]) == ("/internal/attempts", {"n": "ä"})
    user = output["next"]["identity"]["userArn"]
    assert re.fullmatch(f"arn:aws:sts::{ACCOUNT}:assumed-role/{machines.role}/[0-9a-f]{{32}}", user)
    lines = eventually(lambda: stack.lines("execute-api", "Request", Api=api, Route="POST /internal/attempts"))
    assert (lines[-1]["caller"], lines[-1]["status"]) == (machines.role, 200)


@pytest.mark.parametrize("auth", [None, "NO_AUTH"])
def test_without_iam_role_a_signed_route_refuses(machines: Machines, api: str, auth: str | None) -> None:
    ended = machines.run({"Send": _invoke(api, auth)})
    assert (ended["status"], ended["error"]) == ("FAILED", "ApiGateway.403")
    assert "Missing Authentication Token" in ended["cause"]


@pytest.mark.parametrize("status", [400, 410, 429, 503])
def test_an_answer_that_is_an_error_is_named_by_its_status(machines: Machines, api: str, status: int) -> None:
    states = {"Send": _invoke(api) | {"Catch": _caught(f"ApiGateway.{status}")}, "Done": END}
    output = machines.run(states, {"status": status, "text": '{"title":"over"}'})["output"]
    assert output["caught"] == {"Error": f"ApiGateway.{status}", "Cause": '{"title":"over"}'}


def test_every_2xx_is_a_success_and_what_is_no_json_is_a_text(machines: Machines, api: str) -> None:
    output = machines.run({"Send": _invoke(api)}, {"status": 202, "text": "later"})["output"]
    assert (output["StatusCode"], output["StatusText"], output["ResponseBody"]) == (202, "Accepted", "later")


def test_a_token_goes_into_a_message_as_compact_json(stack: Stack, machines: Machines) -> None:
    queue = stack.queue()
    send = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        "Parameters": {"QueueUrl": queue, "MessageBody": JOB},
        "TimeoutSeconds": 60,
        "ResultSelector": {"status.$": "$.answer"},
        "ResultPath": "$.answer",
        "End": True,
    }
    execution = machines.start(machines.make({"Send": send}), INPUT)
    body = machines.receive(queue)
    job = json.loads(body)
    assert body == json.dumps(job, separators=(",", ":"), ensure_ascii=False)
    assert (job["v"], job["id"], job["attempt"], job["task"]["wait"]) == (1, "müll", 5, 60)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", job["task"]["asked_at"])
    machines.client.send_task_success(taskToken=job["task"]["token"], output='{"answer":"DELIVERED"}')
    assert machines.ended(execution)["output"]["answer"] == {"status": "DELIVERED"}
    name = queue.rpartition("/")[2]
    (line,) = stack.lines("sqs", "SendMessage", Queue=name)
    assert (line["caller"], line["internal"], line["params"]["Bytes"]) == (machines.role, True, len(body.encode()))
    assert line["for"].startswith(f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:machine-")


def test_a_token_goes_by_an_event_and_the_queue_gets_the_detail_alone(stack: Stack, machines: Machines) -> None:
    events, queue, bus = stack.client("events"), stack.queue(), unique("bus")
    events.create_event_bus(Name=bus)
    pattern = {"source": ["until-ack"], "detail-type": ["attempt.webhook"]}
    events.put_rule(Name="webhook", EventBusName=bus, EventPattern=json.dumps(pattern))
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue.rpartition('/')[2]}"
    target = {"Id": "queue", "Arn": arn, "InputPath": "$.detail"}
    events.put_targets(Rule="webhook", EventBusName=bus, Targets=[target])
    entry = {
        "EventBusName": bus,
        "Source": "until-ack",
        "DetailType.$": "States.Format('attempt.{}', $.channel)",
        "Detail": JOB,
    }
    send = {
        "Type": "Task",
        "Resource": "arn:aws:states:::events:putEvents.waitForTaskToken",
        "Parameters": {"Entries": [entry]},
        "TimeoutSeconds": 60,
        "End": True,
    }
    execution = machines.start(machines.make({"Send": send}), INPUT)
    job = json.loads(machines.receive(queue))
    assert (set(job), job["attempt"], job["id"]) == ({"v", "id", "attempt", "task"}, 5, "müll")
    machines.client.send_task_success(taskToken=job["task"]["token"], output="{}")
    assert machines.ended(execution)["status"] == "SUCCEEDED"
    lines = [line for line in stack.lines("events", "PutEvents") if line["caller"] == machines.role]
    assert [len(line["params"]["Entries"]) for line in lines] == [1]


def test_a_function_is_invoked_with_a_payload(stack: Stack, machines: Machines, functions: Functions) -> None:
    name = functions.make(ECHO)
    invoke = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": name, "Payload": {"id.$": "$.id", "fail.$": "$.fail"}},
        "ResultSelector": {"state.$": "$.Payload.state", "event.$": "$.Payload.event"},
        "ResultPath": "$.answer",
        "Catch": _caught("KeyError"),
        "End": True,
    }
    machine = machines.make({"Job": invoke, "Done": END})
    output = machines.ended(machines.start(machine, {"id": "1", "fail": False}))["output"]
    assert output["answer"] == {"state": "AGAIN", "event": {"id": "1", "fail": False}}
    output = machines.ended(machines.start(machine, {"id": "1", "fail": True}))["output"]
    assert output["caught"]["Error"] == "KeyError"
    assert {line["caller"] for line in stack.lines("lambda", "Invoke", FunctionName=name)} == {machines.role}


def test_a_record_is_read_and_may_be_absent(stack: Stack, machines: Machines) -> None:
    dynamodb, table = stack.client("dynamodb"), unique("table")
    key = {"AttributeName": "pk", "AttributeType": "S"}
    schema = {"AttributeName": "pk", "KeyType": "HASH"}
    dynamodb.create_table(
        TableName=table, AttributeDefinitions=[key], KeySchema=[schema], BillingMode="PAY_PER_REQUEST"
    )
    dynamodb.put_item(TableName=table, Item={"pk": {"S": "1"}, "status": {"S": "PENDING"}, "other": {"S": "x"}})
    read = {
        "Type": "Task",
        "Resource": "arn:aws:states:::dynamodb:getItem",
        "Parameters": {
            "TableName": table,
            "Key": {"pk": {"S.$": "$.id"}},
            "ConsistentRead": True,
            "ProjectionExpression": "#s",
            "ExpressionAttributeNames": {"#s": "status"},
        },
        "ResultPath": "$.read",
        "Next": "Choice",
    }
    choice = {
        "Type": "Choice",
        "Choices": [{"Variable": "$.read.Item", "IsPresent": True, "Next": "Present"}],
        "Default": "Absent",
    }
    present = {"Type": "Pass", "OutputPath": "$.read.Item", "End": True}
    absent = {"Type": "Pass", "Result": "absent", "End": True}
    machine = machines.make({"Read": read, "Choice": choice, "Present": present, "Absent": absent})
    assert machines.ended(machines.start(machine, {"id": "1"}))["output"] == {"status": {"S": "PENDING"}}
    assert machines.ended(machines.start(machine, {"id": "2"}))["output"] == "absent"
    lines = stack.lines("dynamodb", "GetItem", TableName=table)
    assert [(line["caller"], line["params"]["ReadUnits"]) for line in lines] == [(machines.role, 1)] * 2


def test_an_express_execution_is_logged(stack: Stack, machines: Machines) -> None:
    logs, group = stack.client("logs"), f"/aws/vendedlogs/states/{unique('group')}"
    logs.create_log_group(logGroupName=group)
    arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:*"
    machine = machines.make(
        {"Wait": {"Type": "Wait", "SecondsPath": "$.wait", "Next": "Done"}, "Done": END},
        type="EXPRESS",
        loggingConfiguration={
            "level": "ALL",
            "includeExecutionData": True,
            "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": arn}}],
        },
    )
    execution = machines.start(machine, {"wait": 1})

    def logged() -> list[dict[str, Any]]:
        found = [json.loads(event["message"]) for event in logs.filter_log_events(logGroupName=group)["events"]]
        return found if "ExecutionSucceeded" in {event["type"] for event in found} else []

    events = eventually(logged)
    assert {event["execution_arn"] for event in events} == {execution}
    assert {"ExecutionStarted", "WaitStateEntered", "WaitStateExited", "PassStateEntered"} < {e["type"] for e in events}
    with pytest.raises(ClientError) as error:
        machines.client.stop_execution(executionArn=execution)
    assert error.value.response["Error"]["Code"] in {"InvalidArn", "StateMachineTypeNotSupported"}


# The request log and faults


def test_a_functions_answer_to_a_task_is_logged(faults: Stack, machines: Machines, functions: Functions) -> None:
    queue, name = faults.queue(), functions.make(ANSWER)
    send = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        "Parameters": {"QueueUrl": queue, "MessageBody": {"token.$": "$$.Task.Token"}},
        "TimeoutSeconds": 60,
        "End": True,
    }
    execution = machines.start(machines.make({"Send": send}))
    token = json.loads(machines.receive(queue))["token"]
    throttled = {"code": "ThrottlingException", "status": 400}
    where = {"taskToken": re.escape(token)}
    faults.fault(
        service="stepfunctions",
        operation="SendTaskSuccess",
        function=name,
        where=where,
        action="error",
        error=throttled,
    )
    assert functions.invoke(name, {"token": token}).error
    assert functions.invoke(name, {"token": token}).payload == 200
    assert machines.ended(execution)["output"] == {}
    lines = faults.lines("stepfunctions", "SendTaskSuccess", taskToken=token[:12])
    assert [(line["function"], line["internal"], line["error"]) for line in lines] == [
        (name, False, "ThrottlingException"),
        (name, False, None),
    ]
    assert lines[1]["params"]["outputBytes"] == 2


def test_a_machines_request_goes_wrong_and_is_retried(faults: Stack, machines: Machines, api: str) -> None:
    queue = faults.queue()
    name = queue.rpartition("/")[2]
    retry = {"ErrorEquals": ["SQS.SdkClientException"], "IntervalSeconds": 1, "BackoffRate": 5, "MaxDelaySeconds": 2}
    send = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage",
        "Parameters": {"QueueUrl": queue, "MessageBody": {"n": 1}},
        "Retry": [retry | {"JitterStrategy": "FULL", "MaxAttempts": 2}],
        "End": True,
    }
    faults.fault(service="sqs", operation="SendMessage", internal=True, action="error", where={"QueueUrl": name})
    assert machines.run({"Send": send})["status"] == "SUCCEEDED"
    lines = faults.lines("sqs", "SendMessage", Queue=name)
    assert [(line["status"], line.get("faults")) for line in lines] == [(500, ["error"]), (200, None)]
    assert machines.receive(queue) == '{"n":1}'


@pytest.mark.parametrize(
    ("action", "name"),
    [
        ({"action": "error", "error": {"code": "InternalException"}}, "InternalException"),
        ({"action": "drop"}, "SdkClient"),
    ],
)
def test_an_event_that_cannot_be_put_is_an_error_with_a_name(
    faults: Stack, machines: Machines, action: dict[str, Any], name: str
) -> None:
    send = {
        "Type": "Task",
        "Resource": "arn:aws:states:::events:putEvents",
        "Parameters": {"Entries": [{"Source": "until-ack", "DetailType": "test", "Detail": {}}]},
        "Catch": _caught("States.ALL"),
        "End": True,
    }
    machine = machines.make({"Send": send, "Done": END})
    number = faults.fault(
        service="events", operation="PutEvents", internal=True, where={"Entries": "until-ack"}, **action
    )
    assert machines.ended(machines.start(machine))["output"]["caught"]["Error"].startswith(f"EventBridge.{name}")
    assert [fault["hits"] for fault in faults.faults() if fault["id"] == number] == [1]
