"""Queue bodies: read back as they were written, and nothing else is read at all."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.delivery.errors import Unreadable
from handlers.delivery.jobs import (
    MAX_TASK_TOKEN,
    AttemptJob,
    Task,
    Timer,
    attempt_job,
    parse_attempt,
    parse_task,
    parse_timer,
)
from tests.fakes.examples import examples
from tests.fakes.records import a_record, claimed, message_id
from tests.fakes.world import START

ID = message_id(7)
ATTEMPT = {"v": 1, "id": ID, "attempt": 3, "base": 2}
TIMER = {"v": 1, "id": ID, "attempt": 3, "token": "t3"}
TASK = {"token": "AAAA", "asked_at": "2026-01-01T00:00:00Z", "wait": 15, "index": 2}
PULLED = {**ATTEMPT, "task": {name: TASK[name] for name in ("asked_at", "wait", "index")}}
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

    def test_that_an_execution_waits_for_is_read_as_it_was_posted(self) -> None:
        job = AttemptJob(ID, 3, 0, Task("AAAA", "2026-01-01T00:00:00.123Z", 15, 2))
        assert parse_attempt(json.dumps(job.post("webhook").body)) == job

    @pytest.mark.parametrize("length", [1, MAX_TASK_TOKEN])
    @pytest.mark.parametrize("index", [-1, 0, 999])
    def test_of_a_task_may_have_any_token_and_place_that_there_are(self, length: int, index: int) -> None:
        body = {**ATTEMPT, "task": {**TASK, "token": "t" * length, "index": index}}
        task = parse_attempt(json.dumps(body)).task
        assert task == Task("t" * length, "2026-01-01T00:00:00Z", 15, index)

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"token": ""}, "token"),
            ({"token": "t" * (MAX_TASK_TOKEN + 1)}, "token"),
            ({"token": 5}, "token"),
            ({"asked_at": "yesterday"}, "asked_at"),
            ({"asked_at": "2026-01-01T00:00:00"}, "asked_at"),
            ({"asked_at": 1_767_225_600}, "asked_at"),
            ({"asked_at": None}, "asked_at"),
            ({"wait": 0}, "wait"),
            ({"wait": 1.0}, "wait"),
            ({"wait": "15"}, "wait"),
            ({"wait": 10**10}, "wait"),
            ({"index": -2}, "index"),
            ({"index": True}, "index"),
            ({"more": 1}, "fields"),
        ],
    )
    def test_of_a_bad_task_is_poison(self, change: dict[str, Any], named: str) -> None:
        with pytest.raises(Unreadable, match=named):
            parse_attempt(json.dumps({**ATTEMPT, "task": {**TASK, **change}}))

    @pytest.mark.parametrize("task", [None, 5, "AAAA", [], {}, *({k: TASK[k] for k in TASK if k != o} for o in TASK)])
    def test_of_no_whole_task_is_poison(self, task: object) -> None:
        with pytest.raises(Unreadable, match="task must have the fields"):
            parse_attempt(json.dumps({**ATTEMPT, "task": task}))


class TestTask:
    @pytest.mark.parametrize("asked_at", ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00"])
    def test_is_over_when_its_wait_is(self, asked_at: str) -> None:
        task = Task("AAAA", asked_at, 15, 0)
        assert [task.over(START + 15_000 + offset) for offset in (-1, 0, 1)] == [False, True, True]

    def test_that_was_pulled_is_read_with_the_token_that_came_beside_it(self) -> None:
        job, channel = parse_task(json.dumps({**PULLED, "channel": "email"}), "AAAA")
        assert (job, channel) == (AttemptJob(ID, 3, 2, Task("AAAA", "2026-01-01T00:00:00Z", 15, 2)), "email")

    def test_may_be_for_no_channel(self) -> None:
        assert parse_task(json.dumps(PULLED), "AAAA")[1] == ""

    def test_a_token_within_counts_for_nothing(self) -> None:
        job, _ = parse_task(json.dumps({**PULLED, "task": TASK}), "the real one")
        assert job.task is not None
        assert job.task.token == "the real one"

    @pytest.mark.parametrize(
        "change",
        [{"task": None}, {"task": []}, {"channel": 5}, {"channel": None}, {"more": 1}, {"v": 2}, {"attempt": 2}],
    )
    def test_that_is_none_is_unreadable(self, change: dict[str, Any]) -> None:
        with pytest.raises(Unreadable):
            parse_task(json.dumps({**PULLED, **change}), "AAAA")

    @pytest.mark.parametrize("text", ["", "7", "[]", json.dumps(ATTEMPT)])
    def test_without_a_task_is_unreadable(self, text: str) -> None:
        with pytest.raises(Unreadable):
            parse_task(text, "AAAA")


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
        variants = ({**good, "attempt": value}, {**good, "task": value}, {**good, "task": {**TASK, "asked_at": value}})
        for text in (json.dumps(value), str(value), *map(json.dumps, variants)):
            said: object
            try:
                said = parse(text)
            except Unreadable as poison:
                said = poison.reason
            assert said
