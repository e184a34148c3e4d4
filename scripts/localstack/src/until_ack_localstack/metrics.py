"""CloudWatch metrics of SQS and Lambda, sent together instead of one request each, and the age of the oldest message.

LocalStack sends a request to itself for every message that is sent, received or deleted, and for every invocation. That
is most of what it does on a busy stack, and nobody needs the numbers sooner than the next report.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from until_ack_localstack.importing import when_imported

LOG = logging.getLogger(__name__)

_MAX_DATA = 500  # of the 1,000 that one PutMetricData may carry

_Key = tuple[str, str, str]


class _Buffer:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._data: dict[_Key, list[dict[str, Any]]] = defaultdict(list)

    def add(self, key: _Key, dimension: str, resource: str, metric: str, value: float, unit: str) -> None:
        datum = {
            "MetricName": metric,
            "Dimensions": [{"Name": dimension, "Value": resource}],
            "Timestamp": datetime.now(UTC),
            "Value": value,
            "Unit": unit,
        }
        with self._lock:
            self._data[key].append(datum)

    def take(self) -> dict[_Key, list[dict[str, Any]]]:
        with self._lock:
            data, self._data = self._data, defaultdict(list)
        return data


_buffer = _Buffer()


def install() -> None:
    """Collect what LocalStack would send at once, and send it with the regular report on queues."""
    when_imported("localstack.services.lambda_.invocation.version_manager", _change_lambda)
    when_imported("localstack.services.sqs.provider", _change_sqs)


def _change_lambda(version_manager: Any) -> None:
    version_manager.record_cw_metric_invocation = _lambda_invocation
    version_manager.record_cw_metric_error = _lambda_error


def _change_sqs(provider: Any) -> None:
    provider.CloudwatchDispatcher.dispatch_sqs_metric = _sqs_metric
    worker = provider.CloudwatchPublishWorker
    report = worker.publish_approximate_cloudwatch_metrics

    def publish(self: Any) -> None:
        report(self)
        _ages()
        _send()

    worker.publish_approximate_cloudwatch_metrics = publish


def _sqs_metric(
    _: Any, account_id: str, region: str, queue_name: str, metric: str, value: float = 1, unit: str = "Count"
) -> None:
    _buffer.add((account_id, region, "AWS/SQS"), "QueueName", queue_name, metric, value, unit)


def _lambda_invocation(function_name: str, account_id: str, region_name: str) -> None:
    key = (account_id, region_name, "AWS/Lambda")
    _buffer.add(key, "FunctionName", function_name, "Invocations", 1, "Count")
    _buffer.add(key, "FunctionName", function_name, "Errors", 0, "Count")


def _lambda_error(function_name: str, account_id: str, region_name: str) -> None:
    key = (account_id, region_name, "AWS/Lambda")
    _buffer.add(key, "FunctionName", function_name, "Invocations", 1, "Count")
    _buffer.add(key, "FunctionName", function_name, "Errors", 1, "Count")


def _ages() -> None:
    """Add how old the oldest message of every queue is that a consumer could have had by now."""
    from localstack.services.sqs.models import StandardQueue, sqs_stores

    now = time.time()
    for account, region, store in list(sqs_stores.iter_stores()):
        for queue in list(store.queues.values()):
            if not isinstance(queue, StandardQueue):
                continue
            with queue.mutex:
                messages = [*queue.visible.queue, *queue.inflight]
            age = max((now - _due(message) for message in messages), default=0.0)
            name = "ApproximateAgeOfOldestMessage"
            _buffer.add((account, region, "AWS/SQS"), "QueueName", queue.name, name, max(0.0, age), "Seconds")


def _due(message: Any) -> float:
    return int(message.message["Attributes"]["SentTimestamp"]) / 1000 + (message.delay_seconds or 0)


def _send() -> None:
    from localstack.aws.connect import connect_to

    for (account, region, namespace), data in _buffer.take().items():
        client = connect_to(aws_access_key_id=account, region_name=region).cloudwatch
        for start in range(0, len(data), _MAX_DATA):
            try:
                client.put_metric_data(Namespace=namespace, MetricData=data[start : start + _MAX_DATA])
            except Exception as error:
                LOG.info("metrics of %s were not stored: %s", namespace, error)
