"""Step Functions behind its ports: what is asked of it, and what each of its errors means."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.stub import Stubber

from handlers.aws.workflows import LONG_POLL, Activity, SfnExecutions
from handlers.delivery.errors import Throttled, Unavailable
from handlers.delivery.message import Record, Scheduler, Status
from handlers.delivery.workflows import execution_input, execution_name
from tests.fakes.dynamodb import REGION
from tests.fakes.records import a_record
from tests.fakes.world import START, KeptLog

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

STATES = f"arn:aws:states:{REGION}:000000000000"
MACHINE = f"{STATES}:stateMachine:until-ack-delivery-poll"
SECONDS = 10.0
"""The longest that a test waits for another thread."""


def a_message(workflow: str = "delivery_poll", **fields: Any) -> Record:
    return a_record(scheduler=Scheduler.WORKFLOW, workflow=workflow, **fields)


@pytest.fixture
def log() -> KeptLog:
    return KeptLog()


@pytest.fixture
def client() -> "SFNClient":
    return boto3.client(
        "stepfunctions",
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture
def stub(client: "SFNClient") -> Iterator[Stubber]:
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def executions(client: "SFNClient", log: KeptLog) -> SfnExecutions:
    machines = {"delivery_poll": MACHINE, "delivery_push": f"{STATES}:stateMachine:until-ack-delivery-push"}
    return SfnExecutions(lambda: client, machines, {"webhook": "https://sqs/webhook"}, 60, log)


def test_no_client_is_made_before_it_is_needed(log: KeptLog) -> None:
    def none() -> "SFNClient":
        raise AssertionError("most messages have no execution")

    executions = SfnExecutions(none, {"delivery_push": "b", "delivery_poll": "a"}, {}, 60, log)
    assert executions.workflows == ["delivery_poll", "delivery_push"]


class TestStart:
    def expect(self, record: Record, name: str, url: str = "https://sqs/webhook") -> dict[str, Any]:
        told = json.dumps(execution_input(record, url, 60, START), separators=(",", ":"))
        return {"stateMachineArn": MACHINE, "name": name, "input": told}

    def test_p1_starts_the_lifes_execution_of_the_workflows_machine(
        self, executions: SfnExecutions, stub: Stubber
    ) -> None:
        record = a_message(life=2, base=3, attempt=3)
        answer = {"executionArn": "arn", "startDate": 0}
        stub.add_response("start_execution", answer, self.expect(record, f"{record.id}-2"))
        executions.start(record, START)
        stub.assert_no_pending_responses()

    def test_a_channel_without_a_queue_has_no_url(self, executions: SfnExecutions, stub: Stubber) -> None:
        record = a_message(channel="activity")
        expected = self.expect(record, f"{record.id}-1", "")
        stub.add_response("start_execution", {"executionArn": "arn", "startDate": 0}, expected)
        executions.start(record, START)
        assert json.loads(expected["input"])["queue_url"] == ""

    def test_p2_a_restart_has_another_name(self, executions: SfnExecutions, stub: Stubber) -> None:
        record = a_message(attempt=4)
        expected = self.expect(record, execution_name(record, 2))
        stub.add_response("start_execution", {"executionArn": "arn", "startDate": 0}, expected)
        executions.start(record, START, 2)
        assert expected["name"] == f"{record.id}-1-2"

    def test_p5_one_that_runs_or_ran_already_is_started(self, executions: SfnExecutions, stub: Stubber) -> None:
        stub.add_client_error("start_execution", "ExecutionAlreadyExists")
        executions.start(a_message(), START)
        stub.assert_no_pending_responses()

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            ("ThrottlingException", Throttled),
            ("ExecutionLimitExceeded", Unavailable),
            ("StateMachineDoesNotExist", Unavailable),
            ("StateMachineDeleting", Unavailable),
            ("AccessDeniedException", Unavailable),
        ],
    )
    def test_any_other_refusal_is_a_failure(
        self, executions: SfnExecutions, stub: Stubber, code: str, error: type[Unavailable]
    ) -> None:
        stub.add_client_error("start_execution", code)
        with pytest.raises(error) as caught:
            executions.start(a_message(), START)
        assert (caught.value.service, caught.value.code) == ("states", code)

    def test_of_a_workflow_that_the_stack_no_longer_has_is_a_failure_without_a_call(
        self, executions: SfnExecutions, stub: Stubber
    ) -> None:
        with pytest.raises(Unavailable) as caught:
            executions.start(a_message("delivery_callback"), START)
        assert caught.value.code == "StateMachineDoesNotExist"
        stub.assert_no_pending_responses()


class TestAnswer:
    def test_completes_the_task(self, executions: SfnExecutions, stub: Stubber) -> None:
        expected = {"taskToken": "AAAA", "output": '{"status": "DELIVERED"}'}
        stub.add_response("send_task_success", {}, expected)
        assert executions.answer("AAAA", {"status": "DELIVERED"}) is True

    @pytest.mark.parametrize("code", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
    def test_p5_a_late_or_repeated_one_is_no_failure_and_is_counted(
        self, executions: SfnExecutions, stub: Stubber, log: KeptLog, code: str
    ) -> None:
        stub.add_client_error("send_task_success", code)
        assert executions.answer("AAAA", {}) is False
        assert log.said("task completed late") == [{"code": code}]
        assert log.counts == [("LateCompletions", {"code": code})]

    @pytest.mark.parametrize(
        ("code", "error"), [("ThrottlingException", Throttled), ("InvalidOutput", Unavailable), ("KmsX", Unavailable)]
    )
    def test_any_other_refusal_is_a_failure(
        self, executions: SfnExecutions, stub: Stubber, log: KeptLog, code: str, error: type[Unavailable]
    ) -> None:
        stub.add_client_error("send_task_success", code)
        with pytest.raises(error) as caught:
            executions.answer("AAAA", {})
        assert caught.value.code == code
        assert log.counts == []

    def test_the_token_is_never_logged(self, executions: SfnExecutions, stub: Stubber, log: KeptLog) -> None:
        stub.add_client_error("send_task_success", "TaskTimedOut")
        executions.answer("secret-token", {})
        assert "secret-token" not in str(log.lines)


class TestStop:
    def test_p4_stops_the_lifes_execution_by_its_arn(self, executions: SfnExecutions, stub: Stubber) -> None:
        record = a_message(life=2, status=Status.DELIVERED)
        expected = {
            "executionArn": f"{STATES}:execution:until-ack-delivery-poll:{record.id}-2",
            "error": "until-ack.Ended",
            "cause": "the message is DELIVERED",
        }
        stub.add_response("stop_execution", {"stopDate": 0}, expected)
        executions.stop(record)
        stub.assert_no_pending_responses()

    def test_one_that_took_a_dead_ones_place_is_stopped_by_its_own_name(
        self, executions: SfnExecutions, stub: Stubber
    ) -> None:
        record = a_message(generation=3)
        arn = f"{STATES}:execution:until-ack-delivery-poll:{record.id}-1-3"
        expected = {"executionArn": arn, "error": "until-ack.Ended", "cause": f"the message is {record.status}"}
        stub.add_response("stop_execution", {"stopDate": 0}, expected)
        executions.stop(record)
        stub.assert_no_pending_responses()

    def test_p5_one_that_was_never_started_needs_no_stop(self, executions: SfnExecutions, stub: Stubber) -> None:
        stub.add_client_error("stop_execution", "ExecutionDoesNotExist")
        executions.stop(a_message())
        stub.assert_no_pending_responses()

    @pytest.mark.parametrize(
        ("code", "error"), [("ThrottlingException", Throttled), ("AccessDeniedException", Unavailable)]
    )
    def test_any_other_refusal_is_a_failure(
        self, executions: SfnExecutions, stub: Stubber, code: str, error: type[Unavailable]
    ) -> None:
        stub.add_client_error("stop_execution", code)
        with pytest.raises(error):
            executions.stop(a_message())

    def test_of_a_workflow_that_the_stack_no_longer_has_is_a_failure(
        self, executions: SfnExecutions, stub: Stubber
    ) -> None:
        with pytest.raises(Unavailable):
            executions.stop(replace(a_message(), workflow="delivery_stop_on_ack"))
        stub.assert_no_pending_responses()


class Heart:
    """A client that takes heartbeats, answering as the test says."""

    def __init__(self, *answers: Callable[[], object]) -> None:
        self.answers = list(answers)
        self.tokens: list[str] = []
        self.enough = threading.Event()
        self.least = 3

    def send_task_heartbeat(self, *, taskToken: str) -> None:
        self.tokens.append(taskToken)
        if len(self.tokens) >= self.least:
            self.enough.set()
        if self.answers:
            self.answers.pop(0)()


def refuses(code: str) -> Callable[[], object]:
    def refuse() -> None:
        raise ClientError({"Error": {"Code": code}}, "SendTaskHeartbeat")

    return refuse


def beating(heart: Heart, log: KeptLog, seconds: float = 0.03) -> SfnExecutions:
    return SfnExecutions(lambda: cast("SFNClient", heart), {}, {}, cast(int, seconds), log)


def beaters() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "_beat" in thread.name}


class TestBeating:
    def test_beats_as_long_as_the_work_takes_and_no_longer(self, log: KeptLog) -> None:
        heart, before = Heart(), beaters()
        with beating(heart, log).beating("AAAA"):
            assert heart.enough.wait(SECONDS)
            (thread,) = beaters() - before
        thread.join(SECONDS)
        assert not thread.is_alive()
        assert set(heart.tokens) == {"AAAA"}

    def test_quick_work_needs_no_beat(self, log: KeptLog) -> None:
        heart, before = Heart(), beaters()
        with beating(heart, log, 3600).beating("AAAA"):
            (thread,) = beaters() - before
        thread.join(SECONDS)
        assert (thread.is_alive(), heart.tokens) == (False, [])

    @pytest.mark.parametrize("code", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
    def test_stops_when_the_task_is_over_and_the_work_goes_on(self, log: KeptLog, code: str) -> None:
        heart, before = Heart(refuses(code)), beaters()
        with beating(heart, log).beating("AAAA"):
            for thread in beaters() - before:
                thread.join(SECONDS)
                assert not thread.is_alive()
            worked = True
        assert (worked, heart.tokens) == (True, ["AAAA"])
        assert log.said("task is over while its attempt is made") == [{"code": code}]

    @pytest.mark.parametrize("fault", [refuses("ThrottlingException"), refuses("InternalError")])
    def test_a_beat_that_failed_is_followed_by_others(self, log: KeptLog, fault: Callable[[], object]) -> None:
        heart = Heart(fault)
        with beating(heart, log).beating("AAAA"):
            assert heart.enough.wait(SECONDS)
        assert len(log.said("no heartbeat")) == 1

    def test_a_fault_of_the_work_is_the_works(self, log: KeptLog) -> None:
        with pytest.raises(KeyError), beating(Heart(), log).beating("AAAA"):
            raise KeyError("ours")


class TestActivity:
    def test_pulls_a_waiting_task(self, client: "SFNClient", stub: Stubber) -> None:
        answer = {"taskToken": "AAAA", "input": '{"v": 1}'}
        stub.add_response("get_activity_task", answer, {"activityArn": "arn:push"})
        assert Activity(client, "arn:push").pull() == ("AAAA", '{"v": 1}')

    @pytest.mark.parametrize("answer", [{}, {"taskToken": ""}, {"taskToken": None}])
    def test_after_a_minute_without_one_there_is_none(self, answer: dict[str, str | None]) -> None:
        class Idle:
            def get_activity_task(self, **_: object) -> dict[str, str | None]:
                return answer

        assert Activity(cast("SFNClient", Idle()), "arn:push").pull() is None

    @pytest.mark.parametrize(
        ("code", "error"), [("ThrottlingException", Throttled), ("ActivityDoesNotExist", Unavailable)]
    )
    def test_a_refusal_is_a_failure(
        self, client: "SFNClient", stub: Stubber, code: str, error: type[Unavailable]
    ) -> None:
        stub.add_client_error("get_activity_task", code)
        with pytest.raises(error):
            Activity(client, "arn:push").pull()

    def test_no_answer_is_a_failure(self) -> None:
        class Silent:
            def get_activity_task(self, **_: object) -> None:
                raise ReadTimeoutError(endpoint_url="https://x")

        with pytest.raises(Unavailable):
            Activity(cast("SFNClient", Silent()), "arn:push").pull()

    def test_its_client_waits_longer_than_the_long_poll(self) -> None:
        assert LONG_POLL.read_timeout > 60  # type: ignore[attr-defined]
