"""The workflows' executions and tasks in Step Functions."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import ClientError

from handlers.aws.errors import code_of, mapped
from handlers.delivery.errors import Unavailable
from handlers.delivery.message import Record
from handlers.delivery.ports import Log
from handlers.delivery.workflows import execution_input, execution_name

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

LONG_POLL = Config(connect_timeout=2, read_timeout=65, retries={"total_max_attempts": 2})
"""For GetActivityTask, which answers after 60 s at the latest."""
_LATE = frozenset({"TaskTimedOut", "TaskDoesNotExist", "InvalidToken"})
_NOT_RUNNING = frozenset({"ExecutionDoesNotExist", "InvalidArn"})
_OUR_STOP = "until-ack.Ended"


@dataclass(frozen=True, slots=True)
class SfnExecutions:
    """`handlers.delivery.ports.Executions` over Step Functions. ARNs of machines by workflow; seconds of a heartbeat.

    The client is made when it is first needed: most messages have no execution.
    """

    client: "Callable[[], SFNClient]"
    machines: Mapping[str, str]
    channel_urls: Mapping[str, str]
    heartbeat: int
    log: Log

    @property
    def workflows(self) -> Sequence[str]:
        """See `Executions.workflows`."""
        return sorted(self.machines)

    def start(self, record: Record, now: int, generation: int = 1) -> None:
        """See `Executions.start`."""
        url = self.channel_urls.get(record.channel, "")
        told = execution_input(record, url, self.heartbeat, now)
        with mapped("states"):
            try:
                self.client().start_execution(
                    stateMachineArn=self._machine(record),
                    name=execution_name(record, generation),
                    input=json.dumps(told, separators=(",", ":")),
                )
            except ClientError as error:
                # It runs or ran already, with what it was told then.
                if code_of(error) != "ExecutionAlreadyExists":
                    raise

    def answer(self, task: str, output: Mapping[str, Any]) -> bool:
        """See `Executions.answer`."""
        with mapped("states"):
            try:
                self.client().send_task_success(taskToken=task, output=json.dumps(output))
            except ClientError as error:
                return self._late(error)
        return True

    def _late(self, error: ClientError) -> bool:
        if code_of(error) not in _LATE:
            raise error
        self.log.info("task completed late", code=code_of(error))
        self.log.count("LateCompletions", code=code_of(error))
        return False

    def stop(self, record: Record) -> None:
        """See `Executions.stop`."""
        name = execution_name(record, record.generation)
        arn = f"{self._machine(record).replace(':stateMachine:', ':execution:', 1)}:{name}"
        with mapped("states"):
            try:
                self.client().stop_execution(executionArn=arn, error=_OUR_STOP, cause=f"the message is {record.status}")
            except ClientError as error:
                if code_of(error) not in _NOT_RUNNING:
                    raise

    def _machine(self, record: Record) -> str:
        machine = self.machines.get(record.workflow or "")
        if machine is None:
            # The stack no longer has this workflow.
            raise Unavailable("states", "StateMachineDoesNotExist")
        return machine

    @contextmanager
    def beating(self, task: str) -> Iterator[None]:
        """See `Executions.beating`."""
        done = threading.Event()
        threading.Thread(target=self._beat, args=(task, done), daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def _beat(self, task: str, done: threading.Event) -> None:
        while not done.wait(self.heartbeat / 3):
            try:
                with mapped("states"):
                    self.client().send_task_heartbeat(taskToken=task)
            except Unavailable as error:
                if error.code in _LATE:
                    self.log.info("task is over while its attempt is made", code=error.code)
                    return
                self.log.warning("no heartbeat", error=str(error))


@dataclass(frozen=True, slots=True)
class Activity:
    """An activity whose tasks are pulled. GetActivityTask gives any of them: each says itself what it is for."""

    client: "SFNClient"
    arn: str

    def pull(self) -> tuple[str, str] | None:
        """Token and input of a waiting task; None when there was none for a minute. Raises `Unavailable`."""
        with mapped("states"):
            answer = self.client.get_activity_task(activityArn=self.arn)
        token = answer.get("taskToken")
        return (token, answer["input"]) if token else None
