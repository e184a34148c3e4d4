"""Every alarm reaches a person by mail. Those whose metrics LocalStack does not have are fired by hand."""

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from tests.localstack.kit import Kit, eventually

WITHIN = 120.0
MOST = 500
"""Metric data of one request, half of what it may carry."""


def test_every_alarm_is_mailed(kit: Kit) -> None:
    cloudwatch = kit.clients["cloudwatch"]
    prefix = kit.stack.table.removesuffix("messages")
    pages = cloudwatch.get_paginator("describe_alarms").paginate(AlarmNamePrefix=prefix)
    alarms = {alarm["AlarmName"]: alarm for page in pages for alarm in page["MetricAlarms"]}
    # Of each queue its age and its dead letters, of each function its errors and throttles, and the API.
    assert len(alarms) > 2 * (len(kit.stack.queues) + len(kit.functions))
    for alarm in alarms.values():
        assert alarm["AlarmActions"] == [kit.stack.topics["alerts"]]

    quiet = {name: alarm for name, alarm in alarms.items() if not kit.alarmed(f'"{name}"')}
    data: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for alarm in quiet.values():
        datum = {
            "MetricName": alarm["MetricName"],
            "Dimensions": alarm["Dimensions"],
            "Timestamp": datetime.now(UTC),
            "Value": alarm["Threshold"] + 1,
        }
        data[alarm["Namespace"]].append(datum)
    for namespace, metrics in data.items():
        cloudwatch.put_metric_data(Namespace=namespace, MetricData=metrics[:MOST])
    eventually(lambda: all(kit.alarmed(f'"{name}"') for name in quiet), WITHIN, "a mail of each alarm")
