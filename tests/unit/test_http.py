"""Proxy events in; answers and problems out. Whatever comes, the answer is JSON that gives nothing away."""

import base64
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.delivery.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Over,
    Refused,
    Throttled,
    TooLarge,
    Unavailable,
)
from handlers.runtime import bootstrap
from handlers.runtime.http import Answer, Request, answer, endpoint, page, problem_of, request_of
from handlers.runtime.schemas import check
from tests.fakes.events import CALLER, Reply, api_event, reply_of
from tests.fakes.examples import examples
from tests.fakes.records import message_id
from tests.fakes.world import MemoryWorld

LIMIT = 1000


@endpoint
def echo(request: Request) -> Answer:
    """Answers with the body it got."""
    return answer(200, request.json(LIMIT))


def post(body: str | None, **fields: Any) -> Reply:
    return reply_of(echo({**api_event("POST", "/messages", body), **fields}, None))


class TestRequest:
    def test_reads_route_path_query_headers_and_caller(self) -> None:
        event = api_event("GET", "/messages/{id}", path={"id": "x"}, query={"a": "b"}, headers={"Accept": "text/html"})
        request = request_of(event)
        assert request.route == "GET /messages/{id}"
        assert (request.path, request.query) == ({"id": "x"}, {"a": "b"})
        assert (request.headers, request.caller) == ({"accept": "text/html"}, CALLER)

    def test_nothing_is_empty(self) -> None:
        request = request_of({"httpMethod": "GET", "resource": "/"})
        assert (request.path, request.query, request.headers, request.body) == ({}, {}, {}, b"")
        assert request.caller == "anonymous"

    def test_the_sessions_of_a_role_are_one_caller(self) -> None:
        arn = "arn:aws:sts::0:assumed-role/producer/"
        callers = {request_of(api_event("GET", "/", caller=arn + s)).caller for s in ("one", "two")}
        assert callers == {arn.rstrip("/")}

    @pytest.mark.parametrize("text", ["", "x", "../..", message_id(1).upper()])
    def test_what_cannot_be_an_id_is_not_found(self, text: str) -> None:
        with pytest.raises(NotFound):
            _ = request_of(api_event("GET", "/messages/{id}", path={"id": text})).message_id

    def test_the_capability_in_the_query_comes_before_the_headers(self) -> None:
        both = api_event("POST", "/", query={"cap": "q"}, headers={"UNTIL-ACK-CAPABILITY": "h"})
        assert request_of(both).capability == "q"
        assert request_of({**both, "queryStringParameters": None}).capability == "h"


class TestBody:
    @pytest.mark.parametrize("text", ['{"a": 1}', '{"ü": "✓"}', "{}", '{"a": 1e2, "b": [null, true]}'])
    def test_is_read(self, text: str) -> None:
        assert post(text).json == json.loads(text)

    def test_is_read_from_base64(self) -> None:
        body = base64.b64encode('{"ü": 1}'.encode()).decode()
        assert post(body, isBase64Encoded=True).json == {"ü": 1}

    @pytest.mark.parametrize(
        "text",
        [
            None,
            "",
            "{",
            '{"a": 1,}',
            "{'a': 1}",
            '{"a": NaN}',
            '{"a": Infinity}',
            '{"a": -Infinity}',
            '{"a": 1e999}',
            '{"a": "\\ud800"}',
            '{"\\udc00": 1}',
            '{"a": "\ud800"}',
            '{"a": "\x00"}',
            '{"a": 1}{"b": 2}',
            "[" * 200_000,
            '{"a":' * 50_000,
            "9" * 5000,
        ],
        ids=repr,
    )
    def test_that_is_no_json_is_a_400_that_names_the_body(self, text: str | None) -> None:
        @endpoint
        def roomy(request: Request) -> Answer:
            return answer(200, request.json(10_000_000))

        reply = reply_of(roomy(api_event("POST", "/messages", text), None))
        assert (reply.status, reply.headers["content-type"]) == (400, "application/problem+json")
        assert reply.json["field"] == "body"
        assert "JSON" in reply.json["limit"]
        assert len(reply.text) < 1000

    @pytest.mark.parametrize("data", [b"\xff\xfe", '{"a": 1}'.encode("utf-16"), b'{"a": "\xe9"}'])
    def test_in_another_encoding_is_a_400(self, data: bytes) -> None:
        assert post(base64.b64encode(data).decode(), isBase64Encoded=True).status == 400

    @pytest.mark.parametrize("text", ["[]", "null", "1", '"text"', "true"])
    def test_that_is_not_an_object_is_a_400(self, text: str) -> None:
        reply = post(text)
        assert (reply.status, reply.json["limit"]) == (400, "a JSON object")

    def test_over_the_limit_is_a_413_with_both_sizes(self) -> None:
        body = json.dumps({"a": "ü" * 200}, ensure_ascii=False)
        assert post(body + " " * (LIMIT - len(body.encode()))).status == 200
        reply = post(body + " " * (LIMIT + 1 - len(body.encode())))
        assert reply.status == 413
        assert reply.json["value"] == "1001 bytes"
        assert reply.json["limit"] == "at most 1000 bytes"

    @examples(200)
    @given(st.text(max_size=300))
    def test_anything_gets_200_or_400(self, text: str) -> None:
        reply = post(text)
        assert reply.status in (200, 400)
        assert isinstance(reply.json, dict)


class TestProblems:
    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (Invalid("f", 1, "2"), 400, "invalid-field"),
            (TooLarge(2, 1), 413, "too-large"),
            (Conflict("ended", "it has"), 409, "ended"),
            (NotFound(), 404, "not-found"),
            (Forbidden(), 403, "forbidden"),
            (Over("DELIVERED"), 410, "over"),
            (Unavailable("sqs", "x"), 503, "unavailable"),
            (Throttled("sqs", "x"), 503, "unavailable"),
        ],
    )
    def test_every_domain_error_has_its_problem(self, error: Exception, status: int, code: str) -> None:
        problem = problem_of(error)
        assert problem["status"] == status
        assert problem["type"] == f"urn:until-ack:problem:{code}"
        assert problem["title"]
        assert check("problem", problem) == problem

    @pytest.mark.parametrize("error", [Refused("ses", "x"), KeyError("x"), ValueError("x")])
    def test_any_other_is_raised_again(self, error: Exception) -> None:
        with pytest.raises(type(error)):
            problem_of(error)

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ("x" * 100, "x" * 100),
            ("x" * 101, "x" * 100 + "…"),
            (5, 5),
            (None, None),
            (False, False),
            ([1, 2], "[1, 2]"),
            ({"a": "x" * 200}, '{"a": "' + "x" * 93 + "…"),
        ],
    )
    def test_a_refused_value_is_shown_cut(self, value: object, shown: object) -> None:
        assert problem_of(Invalid("f", value, "l"))["value"] == shown

    def test_a_410_says_how_the_message_stands(self) -> None:
        assert problem_of(Over("HANDED_OVER"))["detail"] == "HANDED_OVER"

    def test_a_403_says_nothing_of_its_cause(self) -> None:
        assert set(problem_of(Forbidden())) == {"type", "title", "status", "detail"}


class TestEndpoint:
    def test_an_unknown_fault_is_a_500_that_says_nothing_and_is_logged(self, world: MemoryWorld) -> None:
        fault = RuntimeError("the secret is sesame")

        @endpoint
        def broken(request: Request) -> Answer:
            raise fault

        reply = reply_of(broken(api_event("GET", "/"), None))
        assert (reply.status, "sesame" in reply.text) == (500, False)
        assert reply.headers["content-type"] == "application/problem+json"
        assert world.log.said("unexpected") == [{"fault": fault}]

    def test_a_bad_environment_is_a_500_too(self, world: MemoryWorld) -> None:
        @endpoint
        def unconfigured(request: Request) -> Answer:
            bootstrap.intake()
            return answer(200, {})

        del world.environ["TABLE"]
        assert reply_of(unconfigured(api_event("GET", "/"), None)).status == 500

    def test_unavailable_asks_to_come_again(self, world: MemoryWorld) -> None:
        @endpoint
        def busy(request: Request) -> Answer:
            raise Throttled("dynamodb", "ThrottlingException")

        reply = reply_of(busy(api_event("GET", "/"), None))
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert "dynamodb" not in reply.text
        assert world.log.said("unavailable") == [{"service": "dynamodb", "code": "ThrottlingException"}]

    def test_answers_are_never_cached_or_sniffed(self) -> None:
        for reply in (answer(200, {}), page(200, "<p>"), echo(api_event("POST", "/", "x"), None)):
            headers = reply_of(reply).headers
            assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")

    def test_a_page_loads_nothing_and_tells_no_referrer(self) -> None:
        headers = reply_of(page(200, "<p>")).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"


class TestSchemas:
    MESSAGE: Mapping[str, Any] = MappingProxyType({"target": "https://x", "channel": "webhook", "payload": "p"})

    @pytest.mark.parametrize(
        ("change", "field", "limit"),
        [
            ({"targets": 1}, "targets", "one of channel"),
            ({"target": None}, "target", "string"),
            ({"target": ""}, "target", "at least 3"),
            ({"target": "x" * 2049}, "target", "at most 2048"),
            ({"channel": "fax"}, "channel", "webhook, email, activity"),
            ({"scheduler": "cron"}, "scheduler", "queues, workflow"),
            ({"scheduler": None}, "scheduler", "string"),
            ({"workflow": "mine"}, "workflow", "delivery_poll, poll_express"),
            ({"workflow": []}, "workflow", "string"),
            ({"channel": 5}, "channel", "string"),
            ({"content_type": "text"}, "content_type", "of the form"),
            ({"content_type": "text/plain\r\nx-evil: 1"}, "content_type", "of the form"),
            ({"payload_encoding": "gzip"}, "payload_encoding", "base64"),
            ({"idempotency_key": ""}, "idempotency_key", "at least 1"),
            ({"idempotency_key": "k" * 129}, "idempotency_key", "at most 128"),
            ({"expires_in": 0}, "expires_in", "at least 1"),
            ({"expires_in": -5}, "expires_in", "at least 1"),
            ({"expires_in": 31_536_001}, "expires_in", "at most 31536000"),
            ({"expires_in": "60"}, "expires_in", "integer"),
            ({"expires_in": 1.5}, "expires_in", "integer"),
            ({"expires_in": True}, "expires_in", "integer"),
            ({"max_attempts": 0}, "max_attempts", "at least 1"),
            ({"max_attempts": 10_001}, "max_attempts", "at most 10000"),
            ({"labels": []}, "labels", "object"),
            ({"labels": {"a": 1}}, "labels.a", "string"),
            ({"labels": {"a": "x" * 129}}, "labels.a", "at most 128"),
            ({"labels": {str(n): "" for n in range(11)}}, "labels", "at most 10"),
        ],
    )
    def test_a_bad_field_is_named_with_its_limit(self, change: dict[str, Any], field: str, limit: str) -> None:
        with pytest.raises(Invalid) as caught:
            check("message", {**self.MESSAGE, **change})
        assert caught.value.field == field
        assert limit in caught.value.limit

    @pytest.mark.parametrize("missing", ["target", "channel", "payload"])
    def test_a_missing_field_is_named(self, missing: str) -> None:
        with pytest.raises(Invalid) as caught:
            check("message", {k: v for k, v in self.MESSAGE.items() if k != missing})
        assert (caught.value.field, caught.value.detail) == (missing, f"{missing} is required")

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"messages": []}, "messages"),
            ({"messages": [{}] * 101}, "messages"),
            ({"messages": [{}, 5]}, "messages[1]"),
            ({"messages": {}}, "messages"),
            ({}, "messages"),
        ],
    )
    def test_a_batch_has_1_to_100_objects(self, body: object, field: str) -> None:
        with pytest.raises(Invalid) as caught:
            check("batch", body)
        assert caught.value.field == field

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "reason"),
            ({"reason": ""}, "reason"),
            ({"reason": "x" * 501}, "reason"),
            ({"reason": "x", "retry_after": 0}, "retry_after"),
            ({"reason": "x", "retry_after": 31_536_001}, "retry_after"),
            ({"reason": "x", "after": 1}, "after"),
        ],
    )
    def test_a_nack_needs_a_reason(self, body: object, field: str) -> None:
        with pytest.raises(Invalid) as caught:
            check("nack", body)
        assert caught.value.field == field

    def test_checking_changes_nothing(self) -> None:
        body = dict(self.MESSAGE)
        assert check("message", body) == self.MESSAGE == body
