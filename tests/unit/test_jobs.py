"""Queue bodies: read back as they were written, and nothing else is read at all."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.delivery.errors import Unreadable
from handlers.delivery.jobs import AttemptJob, Timer, attempt_job, parse_attempt, parse_timer
from tests.fakes.examples import examples
from tests.fakes.records import a_record, claimed, message_id
from tests.fakes.world import START

ID = message_id(7)
ATTEMPT = {"v": 1, "id": ID, "attempt": 3, "base": 2}
TIMER = {"v": 1, "id": ID, "attempt": 3, "token": "t3"}
QUEUES = (15, 30, 14400)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=8,
)


class TestAttempt:
    @pytest.mark.parametrize(("attempt", "base"), [(1, 0), (3, 2), (31_536_000, 17)])
    def test_is_read_as_it_was_posted(self, attempt: int, base: int) -> None:
        post = AttemptJob(ID, attempt, base).post("webhook", 5)
        assert (post.queue, post.delay) == ("webhook", 5)
        assert parse_attempt(json.dumps(post.body)) == AttemptJob(ID, attempt, base)

    def test_of_a_record_carries_its_base_and_no_payload(self) -> None:
        post = attempt_job(a_record(attempt=4, base=4), 5).post("webhook")
        assert set(post.body) == {"v", "id", "attempt", "base"}
        assert post.body["base"] == 4

    @pytest.mark.parametrize("base", [3, 4, -1, None, 1.0, True, 10**10])
    def test_with_an_impossible_base_is_poison(self, base: object) -> None:
        with pytest.raises(Unreadable, match="base"):
            parse_attempt(json.dumps({**ATTEMPT, "base": base}))


class TestTimer:
    def test_is_read_as_it_was_posted(self) -> None:
        record = claimed(a_record())
        post = Timer(record.id, 1, "t1").post(record, START + 15_000, START, QUEUES, 900)
        assert (post.queue, post.delay) == (15, 15)
        assert parse_timer(json.dumps(post.body)) == Timer(record.id, 1, "t1")

    def test_p3_a_far_timer_hops_by_the_cap_in_the_queue_of_its_delay(self) -> None:
        record = claimed(a_record(attempt=2, schedule=QUEUES))
        assert record.delay == 14400
        timer = Timer(record.id, 3, "t1")
        assert timer.post(record, record.due_at, START, QUEUES, 900).delay == 900
        assert timer.post(record, record.due_at, START, QUEUES, 2).delay == 2
        last = timer.post(record, record.due_at, record.due_at - 1, QUEUES, 900)
        assert (last.queue, last.delay) == (14400, 1)

    @pytest.mark.parametrize("token", ["", "t" * 65, None, 5, ["t"]])
    def test_with_a_bad_token_is_poison(self, token: object) -> None:
        with pytest.raises(Unreadable, match="token"):
            parse_timer(json.dumps({**TIMER, "token": token}))


@pytest.mark.parametrize(("parse", "good"), [(parse_attempt, ATTEMPT), (parse_timer, TIMER)])
class TestPoison:
    @pytest.mark.parametrize(
        "text",
        ["", "not json", "[", "null", "7", '"text"', "[]", "{}", "[" * 100_000, '{"v":1', "\x00", "\ud800"],
    )
    def test_that_is_no_job_is_unreadable(self, parse: Any, good: dict[str, Any], text: str) -> None:
        assert good
        with pytest.raises(Unreadable):
            parse(text)

    @pytest.mark.parametrize("version", [0, 2, "1", None])
    def test_of_another_version_says_so(self, parse: Any, good: dict[str, Any], version: object) -> None:
        with pytest.raises(Unreadable, match="version"):
            parse(json.dumps({**good, "v": version}))

    @pytest.mark.parametrize("id_", [None, 5, "", "x", ID.upper(), ID + "a", [ID]])
    def test_with_a_bad_id_says_so(self, parse: Any, good: dict[str, Any], id_: object) -> None:
        with pytest.raises(Unreadable, match="id"):
            parse(json.dumps({**good, "id": id_}))

    @pytest.mark.parametrize("attempt", [0, -1, 1.0, True, "1", None, 10**10, 10**400])
    def test_with_a_bad_attempt_says_so(self, parse: Any, good: dict[str, Any], attempt: object) -> None:
        with pytest.raises(Unreadable, match="attempt"):
            parse(json.dumps({**good, "attempt": attempt}))

    def test_with_a_field_too_many_or_too_few_says_so(self, parse: Any, good: dict[str, Any]) -> None:
        bodies: list[dict[str, Any]] = [{**good, "more": 1}]
        bodies += [{k: v for k, v in good.items() if k != left_out} for left_out in good if left_out != "v"]
        for body in bodies:
            with pytest.raises(Unreadable, match="fields"):
                parse(json.dumps(body))

    @examples(150)
    @given(value=json_values)
    def test_whatever_is_sent_is_read_or_unreadable(self, parse: Any, good: dict[str, Any], value: object) -> None:
        for text in (json.dumps(value), str(value), json.dumps({**good, "attempt": value})):
            said: object
            try:
                said = parse(text)
            except Unreadable as poison:
                said = poison.reason
            assert said
