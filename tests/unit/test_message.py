"""Submitted messages: what becomes of good ones, and how bad ones are named."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.delivery.errors import Invalid
from handlers.delivery.message import (
    SHARDS,
    Policy,
    Record,
    Status,
    hash_target,
    idempotent_id,
    is_message_id,
    message_id_for,
    new_record,
    shard_of,
)
from tests.fakes.examples import examples
from tests.fakes.records import message_id
from tests.fakes.world import START

POLICY = Policy(schedules={"default": (15, 30, 14400)}, default_expires_in=3600, max_payload_bytes=64)


def record_of(payload: object = "hello", **fields: Any) -> Record:
    body = {"target": "https://device.example", "channel": "webhook", "payload": payload, **fields}
    return new_record(body, message_id=message_id(1), caller="me", policy=POLICY, now=START, grace=60)


def invalid(payload: object = "hello", **fields: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        record_of(payload, **fields)
    return caught.value


class TestNewRecord:
    def test_is_due_at_once_and_swept_after_the_grace(self) -> None:
        record = record_of()
        assert (record.status, record.attempt, record.life, record.base) == (Status.PENDING, 0, 1, 0)
        assert (record.created_at, record.due_at, record.sweep_at) == (START, START, START + 60_000)

    def test_defaults_come_from_the_policy(self) -> None:
        record = record_of()
        assert (record.schedule, record.max_attempts) == ((15, 30, 14400), None)
        assert record.expires_at == START + 3_600_000

    def test_settings_of_its_own(self) -> None:
        record = record_of(schedule=[1, 2], expires_in=60, max_attempts=3, labels={"order": "17"})
        assert (record.schedule, record.max_attempts, record.labels) == ((1, 2), 3, {"order": "17"})
        assert record.expires_at == START + 60_000

    def test_a_float_that_json_schema_calls_an_integer_is_one(self) -> None:
        record = record_of(expires_in=60.0, max_attempts=2.0)
        assert (record.expires_at, record.max_attempts) == (START + 60_000, 2)
        assert type(record.max_attempts) is int


class TestPayload:
    @pytest.mark.parametrize(
        ("payload", "data", "content_type"),
        [
            ("täxt", "täxt".encode(), "text/plain; charset=utf-8"),
            ("", b"", "text/plain; charset=utf-8"),
            ({"a": [1, None]}, b'{"a":[1,null]}', "application/json"),
            ([], b"[]", "application/json"),
        ],
    )
    def test_as_it_is_sent(self, payload: object, data: bytes, content_type: str) -> None:
        record = record_of(payload)
        assert (record.payload, record.content_type) == (data, content_type)

    def test_base64_is_decoded(self) -> None:
        record = record_of(base64.b64encode(b"\x00\xff").decode(), payload_encoding="base64")
        assert (record.payload, record.content_type) == (b"\x00\xff", "application/octet-stream")

    def test_its_type_may_be_given(self) -> None:
        assert record_of("x", content_type="text/csv").content_type == "text/csv"

    @pytest.mark.parametrize("payload", [None, 1, 1.5, True])
    def test_must_be_text_or_a_structure(self, payload: object) -> None:
        assert invalid(payload).field == "payload"

    @pytest.mark.parametrize("payload", ["a", "a*==", "YQ", "YQ==\n", {"a": 1}, "é"])
    def test_must_be_base64_when_it_says_so(self, payload: object) -> None:
        assert invalid(payload, payload_encoding="base64").field == "payload"

    def test_with_a_lone_surrogate_is_refused(self) -> None:
        assert invalid("\ud800").field == "payload"

    @pytest.mark.parametrize("payload", ["x" * 65, "ü" * 33, {"a": "x" * 60}])
    def test_over_the_limit_is_refused_with_size_and_limit(self, payload: object) -> None:
        error = invalid(payload)
        assert error.field == "payload"
        assert "64 bytes" in error.limit
        assert "64 bytes" in error.detail
        assert str(error.value) in error.detail

    def test_at_the_limit_is_taken(self) -> None:
        assert len(record_of("x" * 64).payload) == 64

    def test_the_limit_is_on_what_is_sent_not_on_its_base64(self) -> None:
        data = base64.b64encode(b"x" * 64).decode()
        assert len(record_of(data, payload_encoding="base64").payload) == 64


class TestLabels:
    @pytest.mark.parametrize("name", ["", "n" * 65])
    def test_names_have_a_length(self, name: str) -> None:
        assert invalid(labels={name: "v"}).field == "labels"


def test_a_bad_schedule_is_named() -> None:
    assert invalid(schedule=[15, 0]).field == "schedule[1]"


class TestBodyHash:
    def test_ignores_the_order_of_fields_and_nothing_else(self) -> None:
        one = record_of(labels={"a": "1", "b": "2"}, max_attempts=2)
        same = record_of(max_attempts=2, labels={"b": "2", "a": "1"})
        assert one.body_hash == same.body_hash
        assert one.body_hash != record_of(labels={"a": "1", "b": "2"}, max_attempts=3).body_hash
        assert one.body_hash != record_of("hellp", labels={"a": "1", "b": "2"}, max_attempts=2).body_hash


class TestIds:
    @given(st.binary(min_size=16, max_size=16))
    @examples(50)
    def test_of_a_seed_are_valid_and_distinct(self, seed: bytes) -> None:
        assert is_message_id(message_id_for(seed))
        assert message_id_for(seed) != message_id_for(bytes(16)) or seed == bytes(16)

    def test_of_an_idempotency_key_belong_to_caller_and_key(self) -> None:
        assert idempotent_id("me", "k") == idempotent_id("me", "k")
        assert len({idempotent_id(c, k) for c in ("me", "you") for k in ("k", "l")}) == 4

    @pytest.mark.parametrize("text", ["", "a" * 25, "a" * 27, "A" * 26, "a" * 25 + "1", "a" * 25 + "é"])
    def test_other_texts_are_none(self, text: str) -> None:
        assert not is_message_id(text)

    def test_are_spread_evenly_over_the_shards(self) -> None:
        shards = [shard_of(message_id(n)) for n in range(4000)]
        assert all(800 < shards.count(str(shard)) < 1200 for shard in range(SHARDS))

    @given(st.text(max_size=50))
    @examples(50)
    def test_a_targets_hash_is_short_and_safe_in_urls(self, target: str) -> None:
        assert len(hash_target(target)) == 16
        assert json.dumps(hash_target(target)).isascii()
        assert not set(hash_target(target)) & set("+/=")
