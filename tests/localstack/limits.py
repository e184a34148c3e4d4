"""AWS's limits, held against the requests of a log. Sizes are in bytes, times in seconds, names in characters."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

KB, MB = 1024, 1024 * 1024
Request = Mapping[str, Any]
Check = Callable[[Mapping[str, Any]], Iterator[str]]

# The largest values by parameter, for the operations named; each service's quota page is named once.
_MOST: dict[tuple[str, str], dict[str, int]] = {
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html; 256 KiB is the
    # largest that the Terraform provider can set up, so it is our limit.
    ("sqs", "SendMessage"): {"DelaySeconds": 900, "Bytes": 256 * KB, "Attributes": 10},
    ("sqs", "SendMessageBatch"): {"Bytes": 256 * KB},
    ("sqs", "ReceiveMessage"): {"MaxNumberOfMessages": 10, "WaitTimeSeconds": 20, "VisibilityTimeout": 43_200},
    ("sqs", "ChangeMessageVisibility"): {"VisibilityTimeout": 43_200},
    ("sqs", "StartMessageMoveTask"): {"MaxNumberOfMessagesPerSecond": 500},
    # https://docs.aws.amazon.com/general/latest/gr/sns.html
    ("sns", "Publish"): {"Bytes": 256 * KB, "SubjectLength": 100},
    ("sns", "PublishBatch"): {"Bytes": 256 * KB},
    # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html
    ("dynamodb", "BatchGetItem"): {"Items": 100},
    ("dynamodb", "BatchWriteItem"): {"Items": 25},
    ("dynamodb", "TransactWriteItems"): {"Items": 100},
    # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
    ("lambda", "CreateFunction"): {
        "EnvironmentBytes": 4 * KB,
        "Timeout": 900,
        "MemorySize": 10_240,
        "CodeBytes": 50 * MB,
        "FunctionName": 64,
    },
    ("lambda", "Invocation"): {"RequestBytes": 6 * MB, "ResponseBytes": 6 * MB},
    ("lambda", "CreateEventSourceMapping"): {"MaximumConcurrency": 1_000, "BatchSize": 10_000},
    # https://docs.aws.amazon.com/ses/latest/APIReference/API_SendTemplatedEmail.html
    ("ses", "SendTemplatedEmail"): {"Recipients": 50, "TemplateDataBytes": 256 * KB},
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_limits.html
    ("cloudwatch", "PutMetricData"): {"Metrics": 1_000},
    ("cloudwatch", "GetMetricData"): {"Metrics": 500},
    ("logs", "PutLogEvents"): {"Events": 10_000, "Bytes": MB},
    # https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html
    ("secretsmanager", "CreateSecret"): {"SecretBytes": 64 * KB, "Name": 512},
    ("secretsmanager", "PutSecretValue"): {"SecretBytes": 64 * KB},
    # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
    ("events", "PutRule"): {"Name": 64, "EventPatternBytes": 4 * KB},
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    ("iam", "CreateRole"): {"RoleName": 64},
    ("iam", "PutRolePolicy"): {"PolicyDocument": 10 * KB},
    ("cloudwatch", "PutMetricAlarm"): {"AlarmName": 255},
}
_LEAST: dict[tuple[str, str], dict[str, int]] = {
    ("sqs", "SendMessage"): {"DelaySeconds": 0},
    ("lambda", "CreateFunction"): {"MemorySize": 128, "Timeout": 1},
    ("lambda", "CreateEventSourceMapping"): {"MaximumConcurrency": 2, "BatchSize": 1},
}
_QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}(\.fifo)?")
_TOPIC_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}(\.fifo)?")
# Name of the attribute: least, most.
_QUEUE_ATTRIBUTES = {
    "DelaySeconds": (0, 900),
    "VisibilityTimeout": (0, 43_200),
    "MessageRetentionPeriod": (60, 1_209_600),
    "MaximumMessageSize": (1_024, 262_144),
    "ReceiveMessageWaitTimeSeconds": (0, 20),
}
ITEM = 400 * KB
EXPRESSION = 4 * KB
_EXPRESSIONS = (
    "ConditionExpressionBytes",
    "UpdateExpressionBytes",
    "KeyConditionExpressionBytes",
    "FilterExpressionBytes",
)


def broken(requests: Iterable[Request]) -> list[str]:
    """Every limit that a request breaks, in words."""
    return [
        f"{request['service']}.{request['operation']} by {request.get('function') or request.get('caller')}: {fault}"
        for request in requests
        for fault in _faults(request)
    ]


def _faults(request: Request) -> Iterator[str]:
    operation, params = (request["service"], request["operation"]), request["params"]
    for name, most in _MOST.get(operation, {}).items():
        if (value := _measure(params.get(name))) is not None and value > most:
            yield f"{name} is {value}, at most {most}"
    for name, least in _LEAST.get(operation, {}).items():
        if (value := _measure(params.get(name))) is not None and value < least:
            yield f"{name} is {value}, at least {least}"
    check = _CHECKS.get(operation)
    if check is not None:
        yield from check(params)
    if request["service"] == "dynamodb":
        yield from _dynamodb(request["operation"], params)


def _measure(value: Any) -> int | None:
    """A number as it is, a name by its length, a document by its size."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return int(value["Bytes"]) if "Bytes" in value else None
    return None if value is None else int(value)


def _entries(most: int) -> Check:
    def check(params: Mapping[str, Any]) -> Iterator[str]:
        entries = params["Entries"]
        if not 1 <= len(entries) <= most:
            yield f"{len(entries)} entries, 1 to {most}"
        for entry in entries:
            if not 0 <= entry.get("DelaySeconds", 0) <= 900:
                yield f"DelaySeconds is {entry['DelaySeconds']}, 0 to 900"
            if entry.get("VisibilityTimeout", 0) > 43_200:
                yield f"VisibilityTimeout is {entry['VisibilityTimeout']}, at most 43200"
            if entry.get("SubjectLength", 0) > 100:
                yield f"a subject of {entry['SubjectLength']} characters, at most 100"

    return check


def _queue(params: Mapping[str, Any]) -> Iterator[str]:
    name = params.get("QueueName")
    if name is not None and not _QUEUE_NAME.fullmatch(name):
        yield f"the queue's name {name!r}"
    for attribute, (least, most) in _QUEUE_ATTRIBUTES.items():
        value = params["Attributes"].get(attribute)
        if value is not None and not least <= int(value) <= most:
            yield f"{attribute} is {value}, {least} to {most}"


def _topic(params: Mapping[str, Any]) -> Iterator[str]:
    if not _TOPIC_NAME.fullmatch(params["Name"]):
        yield f"the topic's name {params['Name']!r}"


def _rate(params: Mapping[str, Any]) -> Iterator[str]:
    rate = params.get("ScheduleExpression")
    if rate and not re.fullmatch(r"rate\((1 (minute|hour|day)|[1-9]\d* (minutes|hours|days))\)|cron\(.+\)", rate):
        yield f"the schedule {rate!r}"


def _dynamodb(operation: str, params: Mapping[str, Any]) -> Iterator[str]:
    if operation == "Scan":
        yield "a scan"
    if params.get("ItemBytes", 0) > ITEM:
        yield f"an item of {params['ItemBytes']}, at most {ITEM}"
    for name in _EXPRESSIONS:
        if params.get(name, 0) > EXPRESSION:
            yield f"{name} is {params[name]}, at most {EXPRESSION}"
    if operation == "Query" and params.get("IndexName") and params.get("ConsistentRead"):
        yield "a consistent read of a global secondary index"


_CHECKS: dict[tuple[str, str], Check] = {
    ("sqs", "SendMessageBatch"): _entries(10),
    ("sqs", "DeleteMessageBatch"): _entries(10),
    ("sqs", "ChangeMessageVisibilityBatch"): _entries(10),
    ("sns", "PublishBatch"): _entries(10),
    ("events", "PutEvents"): _entries(10),
    ("sqs", "CreateQueue"): _queue,
    ("sqs", "SetQueueAttributes"): _queue,
    ("sns", "CreateTopic"): _topic,
    ("events", "PutRule"): _rate,
}
