"""The demo's own judgement: a demo that cannot fail shows nothing."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from scripts.cast import Member
from scripts.demo import Demo, Form, count_calls
from scripts.show import Show

LINK = "https://api.example/v1/messages/abc/ack?cap=k1.x.y"


@pytest.fixture
def show() -> Show:
    return Show(Console(file=io.StringIO(), width=200))


def text(show: Show) -> str:
    file = show.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def member(*sent: str) -> Member:
    attempts = [{"n": n, "sent_at": at, "outcome": "SENT"} for n, at in enumerate(sent, 1)]
    return Member("late", "is late", {}, message={"attempts": attempts})


def test_what_is_not_so_is_a_failure(show: Show) -> None:
    assert show.check(True, "the sun rises")
    assert not show.check(False, "the moon is cheese", 403)
    show.skip("the tide", "no sea")

    assert (show.passed, show.failures, show.skipped) == (1, ["the moon is cheese"], ["the tide"])
    assert "✓ the sun rises" in text(show)
    assert "✗ NOT SO: the moon is cheese (seen: 403)" in text(show)
    assert "not checked: the tide (no sea)" in text(show)


@pytest.mark.parametrize(
    ("sent", "ok"),
    [
        (["00:00.000", "00:15.000", "00:45.000"], True),
        (["00:00.000", "00:17.999", "00:50.900"], True),
        (["00:00.000", "00:14.999", "00:45.000"], False),
        (["00:00.000", "00:18.001", "00:49.000"], False),
        (["00:00.000", "00:15.000", "00:44.999"], False),
        (["00:00.000"], False),
        ([], False),
    ],
)
def test_attempts_must_be_neither_early_nor_late(show: Show, sent: list[str], ok: bool) -> None:
    Demo.on_time(_demo(show), member(*(f"2026-01-01T00:{at}Z" for at in sent)), (15, 30, 14400))

    assert (show.passed, len(show.failures)) == ((1, 0) if ok else (0, 1))


def _demo(show: Show) -> Demo:
    demo = object.__new__(Demo)
    demo.show = show
    return demo


def test_the_page_has_a_form_with_a_button() -> None:
    page = '<form method="POST" action="ack?cap=k1.x.y"><button type="submit">Confirm</button></form>'

    form = Form.of(page, LINK)

    assert (form.method, form.action) == ("post", LINK)
    assert Form.of('<form method="post"><button>x</button></form>', LINK).action == LINK
    assert Form.of('<form method="post" action="/x"></form>', LINK).method == ""
    assert Form.of("<p>nothing</p>", LINK).method == ""


def test_calls_are_counted_from_where_the_demo_began(tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    before = _call("sqs", "SendMessage")
    log.write_text(
        before
        + _call("sqs", "SendMessage")
        + _call("dynamodb", "PutItem")
        + _call("sqs", "SendMessage")
        + _call("sqs", "ReceiveMessage", internal=True)
        + _call("cloudwatch", "GetMetricData", internal=True)
        + '{"half'
    )

    assert count_calls(str(log), len(before)) == {"dynamodb.PutItem": 1, "sqs.ReceiveMessage": 1, "sqs.SendMessage": 2}
    assert count_calls(None, 0) is None


def _call(service: str, operation: str, *, internal: bool = False) -> str:
    return json.dumps({"service": service, "operation": operation, "internal": internal, "params": {}}) + "\n"
