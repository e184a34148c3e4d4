"""Logs are structured lines, metrics are embedded in them, and neither fails a function."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from handlers.runtime.observability import trace_aws_calls

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os
from handlers.runtime.observability import PowertoolsLog
log = PowertoolsLog()
log.info("attempt made", message_id="abc", attempt=3, reason="http_200", latency_ms=12)
log.warning("taken over", message_id="abc")
try:
    raise KeyError("what")
except KeyError as fault:
    log.error("unexpected", fault)
log.count("Attempts", channel="webhook", outcome="SENT")
log.count("Odd")
del os.environ["POWERTOOLS_METRICS_NAMESPACE"]
log.count("Lost")
log.info("goes on")
"""

Line = dict[str, Any]


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    """What a function writes, as Lambda would pick it up: in a process of its own."""
    environ = {"POWERTOOLS_METRICS_NAMESPACE": "until-ack", "POWERTOOLS_SERVICE_NAME": "deliver-webhook"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def saying(lines: list[Line], message: str) -> Line:
    (line,) = [line for line in lines if line.get("message") == message]
    return line


def test_a_line_carries_its_fields_its_level_and_its_service(lines: list[Line]) -> None:
    line = saying(lines, "attempt made")
    assert (line["message_id"], line["attempt"], line["reason"], line["latency_ms"]) == ("abc", 3, "http_200", 12)
    assert (line["level"], line["service"]) == ("INFO", "deliver-webhook")
    assert saying(lines, "taken over")["level"] == "WARNING"


def test_a_fault_is_logged_with_its_trace(lines: list[Line]) -> None:
    line = saying(lines, "unexpected")
    assert (line["level"], line["exception_name"]) == ("ERROR", "KeyError")
    assert "Traceback" in line["exception"]


def test_a_count_is_an_embedded_metric(lines: list[Line]) -> None:
    (line,) = [line for line in lines if "Attempts" in line]
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Metrics"][0]["Name"]) == ("until-ack", "Attempts")
    assert set(directive["Dimensions"][0]) >= {"channel", "outcome"}
    assert (line["Attempts"], line["channel"]) == ([1.0], "webhook")


def test_a_count_without_dimensions_is_one_too(lines: list[Line]) -> None:
    assert [line["Odd"] for line in lines if "Odd" in line] == [[1.0]]


def test_a_metric_that_cannot_be_counted_is_logged_and_fails_nothing(lines: list[Line]) -> None:
    assert saying(lines, "metric not counted")["metric"] == "Lost"
    assert saying(lines, "goes on")


def test_without_a_tracing_daemon_nothing_is_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_XRAY_DAEMON_ADDRESS", raising=False)
    trace_aws_calls.cache_clear()
    trace_aws_calls()
    assert trace_aws_calls.cache_info().misses == 1
