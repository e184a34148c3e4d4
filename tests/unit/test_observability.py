"""Logs are structured lines, metrics are embedded in them, and neither fails a function."""

import json
from typing import Any

import pytest

from handlers.runtime.observability import PowertoolsLog, trace_aws_calls


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> PowertoolsLog:
    import sys

    from handlers.runtime import observability

    # The logger took hold of the stream that was there at import.
    for handler in observability.logger.handlers:
        monkeypatch.setattr(handler, "stream", sys.stdout)
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "until-ack")
    return PowertoolsLog()


def test_a_line_carries_its_fields(log: PowertoolsLog, capsys: pytest.CaptureFixture[str]) -> None:
    log.info("attempt made", message_id="abc", attempt=3, reason="http_200", latency_ms=12)
    log.warning("taken over", message_id="abc")
    info, warning = lines(capsys)
    assert (info["level"], info["message"], info["message_id"], info["attempt"]) == ("INFO", "attempt made", "abc", 3)
    assert (warning["level"], warning["message"]) == ("WARNING", "taken over")
    assert info["timestamp"].endswith(("Z", "+0000"))


def test_a_fault_is_logged_with_its_trace(log: PowertoolsLog, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise KeyError("what")
    except KeyError as fault:
        log.error("unexpected", fault)
    (line,) = lines(capsys)
    assert (line["level"], line["exception_name"]) == ("ERROR", "KeyError")
    assert "test_observability" in line["exception"]


def test_a_count_is_an_embedded_metric(log: PowertoolsLog, capsys: pytest.CaptureFixture[str]) -> None:
    log.count("Attempts", channel="webhook", outcome="SENT")
    (line,) = lines(capsys)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "until-ack"
    assert directive["Metrics"][0]["Name"] == "Attempts"
    assert set(directive["Dimensions"][0]) >= {"channel", "outcome"}
    assert (line["Attempts"], line["channel"]) == ([1.0], "webhook")


def test_a_count_without_dimensions_is_one_too(log: PowertoolsLog, capsys: pytest.CaptureFixture[str]) -> None:
    log.count("Odd")
    assert [line["Odd"] for line in lines(capsys)] == [[1.0]]


def test_without_a_tracing_daemon_nothing_is_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_XRAY_DAEMON_ADDRESS", raising=False)
    trace_aws_calls.cache_clear()
    trace_aws_calls()
    assert trace_aws_calls.cache_info().misses == 1
