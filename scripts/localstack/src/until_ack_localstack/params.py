"""Which parameters of a request the log keeps: what AWS's limits and prices are counted in, and never a content."""

from __future__ import annotations

import email
import json
from collections.abc import Callable, Mapping, Sequence
from email.utils import getaddresses
from typing import Any

Params = dict[str, Any]
_Request = Mapping[str, Any]

# Names and numbers that are safe to keep as they are; everything else is kept as its size.
_PLAIN_SUFFIXES = ("Name", "Names", "Arn", "ARN", "Id", "Type", "Status", "State", "Expression", "Url", "Region")
_PLAIN_NAMES = ("Path", "Action", "Principal", "Protocol", "Endpoint")
_PLAIN_LIMIT = 256


def params_of(service: str, operation: str, request: _Request, response: _Request | None) -> Params:
    """Return what the log keeps of a request and of its answer."""
    special = _SPECIAL.get((service, operation))
    if special is not None:
        return special(request, response or {})
    return {name: _summary(name, value) for name, value in request.items() if value is not None}


def text_bytes(value: Any) -> int:
    """Return the size of a text or of bytes as AWS counts it: in UTF-8."""
    if value is None:
        return 0
    return len(value) if isinstance(value, bytes | bytearray) else len(str(value).encode())


def _summary(name: str, value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        plain = name.endswith(_PLAIN_SUFFIXES) or name in _PLAIN_NAMES
        if plain and "Secret" not in name.removesuffix("SecretId") and len(value) <= _PLAIN_LIMIT:
            return value
        return {"Bytes": text_bytes(value)}
    if isinstance(value, bytes | bytearray):
        return {"Bytes": len(value)}
    if isinstance(value, Mapping):
        return {"Count": len(value), "Bytes": _document_bytes(value)}
    if isinstance(value, Sequence):
        return {"Count": len(value), "Bytes": _document_bytes(value)}
    return None


def _document_bytes(value: Any) -> int:
    try:
        return len(json.dumps(value, default=str, separators=(",", ":")).encode())
    except (TypeError, ValueError):
        return 0


def _given(request: _Request, *names: str) -> Params:
    return {name: request[name] for name in names if request.get(name) is not None}


# SQS


def _queue(request: _Request) -> Params:
    return {"Queue": str(request.get("QueueUrl", "")).rpartition("/")[2]}


def _attribute_bytes(attributes: _Request | None) -> int:
    size = 0
    for name, value in (attributes or {}).items():
        size += text_bytes(name) + text_bytes(value.get("DataType"))
        size += text_bytes(value.get("StringValue")) + text_bytes(value.get("BinaryValue"))
    return size


def _message(entry: _Request) -> Params:
    # Only the body and the attributes count towards SQS's limit; the trace header does not.
    size = text_bytes(entry.get("MessageBody")) + _attribute_bytes(entry.get("MessageAttributes"))
    attributes = {"Attributes": len(entry["MessageAttributes"])} if entry.get("MessageAttributes") else {}
    return {"Bytes": size} | attributes | _given(entry, "DelaySeconds", "MessageGroupId", "MessageDeduplicationId")


def _send_message(request: _Request, _: _Request) -> Params:
    return _queue(request) | _message(request)


def _failed(response: _Request) -> Params:
    return {"Failed": len(response["Failed"])} if response.get("Failed") else {}


def _send_message_batch(request: _Request, response: _Request) -> Params:
    entries = [_message(entry) for entry in request.get("Entries") or ()]
    total = sum(entry["Bytes"] for entry in entries)
    return _queue(request) | {"Entries": entries, "Bytes": total} | _failed(response)


def _receive_message(request: _Request, response: _Request) -> Params:
    messages = response.get("Messages") or ()
    size = sum(text_bytes(m.get("Body")) + _attribute_bytes(m.get("MessageAttributes")) for m in messages)
    wanted = _given(request, "MaxNumberOfMessages", "WaitTimeSeconds", "VisibilityTimeout")
    return _queue(request) | wanted | {"Received": len(messages), "Bytes": size}


def _delete_message(request: _Request, _: _Request) -> Params:
    return _queue(request)


def _sqs_batch(request: _Request, response: _Request) -> Params:
    entries = [_given(entry, "VisibilityTimeout") for entry in request.get("Entries") or ()]
    return _queue(request) | {"Entries": entries} | _failed(response)


def _change_visibility(request: _Request, _: _Request) -> Params:
    return _queue(request) | _given(request, "VisibilityTimeout")


def _queue_attributes(request: _Request, _: _Request) -> Params:
    attributes = dict(request.get("Attributes") or {})
    if "Policy" in attributes:
        attributes["Policy"] = {"Bytes": text_bytes(attributes["Policy"])}
    name = _given(request, "QueueName") or _queue(request)
    return name | {"Attributes": attributes}


def _move_task(request: _Request, _: _Request) -> Params:
    return _given(request, "SourceArn", "DestinationArn", "MaxNumberOfMessagesPerSecond")


# SNS


def _publication(entry: _Request) -> Params:
    size = text_bytes(entry.get("Message")) + _attribute_bytes(entry.get("MessageAttributes"))
    subject = {"SubjectLength": len(entry["Subject"])} if entry.get("Subject") else {}
    return {"Bytes": size} | subject


def _publish(request: _Request, _: _Request) -> Params:
    return _given(request, "TopicArn", "TargetArn") | _publication(request)


def _publish_batch(request: _Request, response: _Request) -> Params:
    entries = [_publication(entry) for entry in request.get("PublishBatchRequestEntries") or ()]
    total = sum(entry["Bytes"] for entry in entries)
    return _given(request, "TopicArn") | {"Entries": entries, "Bytes": total} | _failed(response)


# DynamoDB. Sizes and units come from the provider, which sees the items.


def _dynamodb(request: _Request, response: _Request) -> Params:
    params = _given(request, "TableName", "IndexName", "Limit", "ConsistentRead", "ScanIndexForward", "Select")
    params |= _given(request, "BillingMode", "DeletionProtectionEnabled", "ReturnValuesOnConditionCheckFailure")
    expressions = ("ConditionExpression", "UpdateExpression", "KeyConditionExpression", "FilterExpression")
    params |= {f"{name}Bytes": text_bytes(request[name]) for name in expressions if request.get(name)}
    if "Count" in response:
        params["Count"] = response["Count"]
    tables = request.get("RequestItems") or {}
    if tables:
        wanted = [len(value["Keys"]) if isinstance(value, Mapping) else len(value) for value in tables.values()]
        params |= {"Tables": sorted(tables), "Items": sum(wanted)}
        left = response.get("UnprocessedKeys") or response.get("UnprocessedItems") or {}
        if left:
            params["Unprocessed"] = sum(
                len(value["Keys"]) if isinstance(value, Mapping) else len(value) for value in left.values()
            )
    if request.get("TransactItems"):
        params["Items"] = len(request["TransactItems"])
    return params


# Lambda


def _function(request: _Request, _: _Request) -> Params:
    params = _given(request, "FunctionName", "Runtime", "Handler", "MemorySize", "Timeout", "Role", "Architectures")
    variables = (request.get("Environment") or {}).get("Variables") or {}
    params["EnvironmentBytes"] = sum(text_bytes(name) + text_bytes(value) for name, value in variables.items())
    code = (request.get("Code") or {}).get("ZipFile") or request.get("ZipFile")
    if code:
        params["CodeBytes"] = len(code)
    if request.get("TracingConfig"):
        params["TracingMode"] = request["TracingConfig"].get("Mode")
    return params


def _event_source(request: _Request, _: _Request) -> Params:
    names = ("BatchSize", "MaximumBatchingWindowInSeconds", "EventSourceArn", "FunctionName", "Enabled")
    scaling = (request.get("ScalingConfig") or {}).get("MaximumConcurrency")
    return (
        _given(request, *names, "FunctionResponseTypes", "UUID")
        | ({"MaximumConcurrency": scaling} if scaling is not None else {})
        | ({"FilterCriteria": True} if request.get("FilterCriteria") else {})
    )


def _invoke(request: _Request, response: _Request) -> Params:
    params = _given(request, "FunctionName", "InvocationType", "Qualifier")
    return params | _given(response, "FunctionError")


# SES


def _recipients(destination: _Request | None) -> int:
    return sum(len((destination or {}).get(f"{kind}Addresses") or ()) for kind in ("To", "Cc", "Bcc"))


def _send_email(request: _Request, _: _Request) -> Params:
    message = request.get("Message") or {}
    parts = [message.get("Subject") or {}, *(message.get("Body") or {}).values()]
    size = sum(text_bytes(part.get("Data")) for part in parts)
    return {"Recipients": _recipients(request.get("Destination")), "Bytes": size} | _given(request, "Source")


def _send_templated(request: _Request, _: _Request) -> Params:
    return {
        "Recipients": _recipients(request.get("Destination")),
        "TemplateDataBytes": text_bytes(request.get("TemplateData")),
    } | _given(request, "Source", "Template", "ConfigurationSetName")


def _send_bulk(request: _Request, _: _Request) -> Params:
    destinations = request.get("Destinations") or ()
    recipients = sum(_recipients(d.get("Destination")) for d in destinations)
    return {"Recipients": recipients, "Destinations": len(destinations)} | _given(request, "Source", "Template")


def _send_raw(request: _Request, _: _Request) -> Params:
    data = (request.get("RawMessage") or {}).get("Data") or b""
    message = email.message_from_bytes(data if isinstance(data, bytes) else data.encode())
    named = [str(value) for kind in ("To", "Cc", "Bcc") for value in message.get_all(kind, [])]
    recipients = len(request.get("Destinations") or ()) or len(getaddresses(named))
    return {"Recipients": recipients, "Bytes": text_bytes(data)} | _given(request, "Source")


# Step Functions, EventBridge, CloudWatch, Logs


# Whoever has a task's token can answer it: so much of it tells tasks apart.
_TOKEN_CHARACTERS = 12


def _execution(request: _Request, response: _Request) -> Params:
    params = _given(request, "stateMachineArn", "executionArn", "name", "activityArn", "workerName")
    token = request.get("taskToken") or response.get("taskToken")
    if token:
        params["taskToken"] = str(token)[:_TOKEN_CHARACTERS]
    for name in ("input", "output", "definition", "cause"):
        if request.get(name) is not None:
            params[f"{name}Bytes"] = text_bytes(request[name])
    return params | ({"error": request["error"]} if request.get("error") else {})


def _put_events(request: _Request, response: _Request) -> Params:
    # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html: 14 bytes for a time, texts in UTF-8.
    entries = [
        {
            "Bytes": sum(text_bytes(entry.get(name)) for name in ("Source", "DetailType", "Detail"))
            + sum(text_bytes(resource) for resource in entry.get("Resources") or ())
            + (14 if entry.get("Time") else 0)
        }
        for entry in request.get("Entries") or ()
    ]
    failed = {"Failed": response["FailedEntryCount"]} if response.get("FailedEntryCount") else {}
    return {"Entries": entries, "Bytes": sum(entry["Bytes"] for entry in entries)} | failed


def _put_rule(request: _Request, _: _Request) -> Params:
    return _given(request, "Name", "ScheduleExpression", "State") | {
        "EventPatternBytes": text_bytes(request.get("EventPattern"))
    }


def _metric_data(request: _Request, _: _Request) -> Params:
    return _given(request, "Namespace") | {"Metrics": len(request.get("MetricData") or ())}


def _metric_queries(request: _Request, _: _Request) -> Params:
    return {"Metrics": len(request.get("MetricDataQueries") or ())}


def _alarm(request: _Request, _: _Request) -> Params:
    return _given(request, "AlarmName", "Namespace", "MetricName", "Period", "EvaluationPeriods", "Threshold")


def _log_events(request: _Request, _: _Request) -> Params:
    events = request.get("logEvents") or ()
    # https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html: 26 bytes an event.
    size = sum(text_bytes(event.get("message")) + 26 for event in events)
    return _given(request, "logGroupName") | {"Events": len(events), "Bytes": size}


def _secret(request: _Request, _: _Request) -> Params:
    return _given(request, "SecretId", "Name", "VersionStage", "VersionId") | (
        {"SecretBytes": text_bytes(request["SecretString"])} if request.get("SecretString") else {}
    )


_DYNAMODB = (
    *("BatchGetItem", "BatchWriteItem", "CreateTable", "DeleteItem", "GetItem", "PutItem", "Query", "Scan"),
    *("TransactGetItems", "TransactWriteItems", "UpdateItem", "UpdateTable"),
)
_EXECUTIONS = (
    *("StartExecution", "StartSyncExecution", "StopExecution", "DescribeExecution", "RedriveExecution"),
    *("SendTaskSuccess", "SendTaskFailure", "SendTaskHeartbeat", "GetActivityTask"),
    *("CreateStateMachine", "UpdateStateMachine"),
)

_SPECIAL: dict[tuple[str, str], Callable[[_Request, _Request], Params]] = {
    ("sqs", "SendMessage"): _send_message,
    ("sqs", "SendMessageBatch"): _send_message_batch,
    ("sqs", "ReceiveMessage"): _receive_message,
    ("sqs", "DeleteMessage"): _delete_message,
    ("sqs", "DeleteMessageBatch"): _sqs_batch,
    ("sqs", "ChangeMessageVisibility"): _change_visibility,
    ("sqs", "ChangeMessageVisibilityBatch"): _sqs_batch,
    ("sqs", "CreateQueue"): _queue_attributes,
    ("sqs", "SetQueueAttributes"): _queue_attributes,
    ("sqs", "StartMessageMoveTask"): _move_task,
    ("sns", "Publish"): _publish,
    ("sns", "PublishBatch"): _publish_batch,
    ("lambda", "CreateFunction"): _function,
    ("lambda", "UpdateFunctionCode"): _function,
    ("lambda", "UpdateFunctionConfiguration"): _function,
    ("lambda", "CreateEventSourceMapping"): _event_source,
    ("lambda", "UpdateEventSourceMapping"): _event_source,
    ("lambda", "Invoke"): _invoke,
    ("ses", "SendEmail"): _send_email,
    ("ses", "SendTemplatedEmail"): _send_templated,
    ("ses", "SendBulkTemplatedEmail"): _send_bulk,
    ("ses", "SendRawEmail"): _send_raw,
    ("events", "PutEvents"): _put_events,
    ("events", "PutRule"): _put_rule,
    ("cloudwatch", "PutMetricData"): _metric_data,
    ("cloudwatch", "GetMetricData"): _metric_queries,
    ("cloudwatch", "PutMetricAlarm"): _alarm,
    ("logs", "PutLogEvents"): _log_events,
    ("secretsmanager", "CreateSecret"): _secret,
    ("secretsmanager", "PutSecretValue"): _secret,
    ("secretsmanager", "UpdateSecret"): _secret,
    ("secretsmanager", "GetSecretValue"): _secret,
    **{("dynamodb", name): _dynamodb for name in _DYNAMODB},
    **{("stepfunctions", name): _execution for name in _EXECUTIONS},
}
