"""The two services that the worker speaks with: Step Functions for tasks and heartbeats, the API for what to send.

Faults come in three kinds. `Trouble` may pass and is tried again, `TaskOver` means that nobody waits for the task any
more, and `Fatal` does not pass until somebody changes a setting.
"""

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    UnauthorizedSSOTokenError,
)
from urllib3.exceptions import HTTPError

from handlers.delivery.channel import Outcome, Parcel
from scripts.client import Answer
from scripts.worker_log import Backoff, Log

POLL = Config(connect_timeout=5, read_timeout=70, retries={"total_max_attempts": 1}, tcp_keepalive=True)
"""For GetActivityTask: the service answers after 60 s at the latest."""
BEAT = Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 1}, tcp_keepalive=True)
"""For SendTaskHeartbeat: a call that hangs holds up the other tasks' heartbeats."""
HTTP_STATUSES = range(100, 600)
MAX_LATENCY_MS = 86_400_000
_SHOWN = 64

_OVER = frozenset({"TaskTimedOut", "TaskDoesNotExist", "InvalidToken", "ValidationException"})
_NO_ACTIVITY = frozenset({"ActivityDoesNotExist", "InvalidArn"})
_FORBIDDEN = frozenset({"AccessDeniedException", "AccessDenied", "KmsAccessDeniedException", "OptInRequired"})
_BAD_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
BAD_SETTINGS = (
    ConfigNotFound,
    ConfigParseError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    UnauthorizedSSOTokenError,
)
_POLICY = "is the policy of the Terraform output worker_policy attached?"


class Fatal(Exception):
    """Trying again does not help; the text is for a person."""


class Trouble(Exception):
    """A fault that may pass: the network's, or a busy service's. The text is a code."""


class TaskOver(Exception):
    """The task has been answered, or has timed out. The text is a code."""


class StepFunctions(Protocol):
    """What is needed of botocore's client."""

    def get_activity_task(self, *, activityArn: str, workerName: str) -> Mapping[str, Any]:
        """Wait up to 60 s for a task."""
        ...

    def send_task_heartbeat(self, *, taskToken: str) -> Mapping[str, Any]:
        """Say that a task is still worked on."""
        ...


class Signed(Protocol):
    """What is needed of `scripts.client.Api`."""

    def signed(self, method: str, path: str, body: Any = None) -> Answer:
        """A signed request; raises urllib3's and botocore's errors."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it was pulled; `job` is its input."""

    token: str
    job: Mapping[str, Any]

    @property
    def message_id(self) -> str:
        """The message that it is for, as the log shows it."""
        return str(self.job.get("id", ""))[:_SHOWN]

    @property
    def attempt(self) -> int | None:
        """The attempt's number, as the log shows it."""
        attempt = self.job.get("attempt")
        return attempt if type(attempt) is int else None

    @property
    def wait(self) -> float:
        """Seconds that its execution waits for the ACK; infinite when it does not say."""
        task = self.job.get("task")
        wait = task.get("wait") if isinstance(task, dict) else None
        return wait if type(wait) is int else float("inf")


@dataclass(frozen=True, slots=True)
class Handover:
    """What the API gave for a task. `asked_at` (monotonic) is when it was asked; the lease counts from just after."""

    parcel: Parcel
    claim: str
    lease_seconds: float
    asked_at: float


class Tasks:
    """The activity's tasks, in Step Functions. Polls and heartbeats have a client each: their timeouts differ."""

    def __init__(self, polling: StepFunctions, beating: StepFunctions, activity: str, worker: str) -> None:
        self._polling = polling
        self._beating = beating
        self._activity = activity
        self._worker = worker

    def pull(self) -> Task | None:
        """Wait for a task, up to a minute; None when there was none. Raises `Trouble` or `Fatal`."""
        with _faults("GetActivityTask", self._activity):
            answer = self._polling.get_activity_task(activityArn=self._activity, workerName=self._worker)
        token = answer.get("taskToken")
        return Task(token, _job(answer.get("input"))) if token else None

    def beat(self, token: str) -> None:
        """Send a heartbeat. Raises `TaskOver`, `Trouble` or `Fatal`."""
        with _faults("SendTaskHeartbeat", self._activity):
            try:
                self._beating.send_task_heartbeat(taskToken=token)
            except ClientError as error:
                if _code(error) in _OVER:
                    raise TaskOver(_code(error)) from None
                raise


class Service:
    """The API's internal routes, each asked until it answers."""

    def __init__(
        self,
        api: Signed,
        log: Log,
        pause: Callable[[float], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        """`pause` waits so many seconds, and is true when the worker has no more time."""
        self._api = api
        self._log = log
        self._pause = pause
        self._clock = clock
        self._backoff = backoff

    def take(self, task: Task, wanted: Callable[[], bool]) -> Handover | None:
        """Claim the attempt that a task asks for; None when it is not to be made, or no longer `wanted`.

        Raises `Fatal` when the worker may not.
        """
        asked = self._ask("/internal/tasks", {"job": task.job, "token": task.token}, wanted, task)
        if asked is None:
            return None
        answer, asked_at = asked
        if answer.status in (409, 410):
            self._log.info("nothing to do", **_named(task), http_status=answer.status)
            return None
        if answer.status != 200:
            self._log.error("task refused by the API", **_named(task), http_status=answer.status)
            return None
        try:
            return _handover(answer.body, asked_at)
        except (KeyError, TypeError, ValueError) as error:
            self._log.error("unreadable answer of the API", **_named(task), fault=type(error).__name__)
            return None

    def report(self, task: Task, handover: Handover, outcome: Outcome, wanted: Callable[[], bool]) -> bool:
        """Tell how an attempt went; whether that was recorded. Raises `Fatal` when the worker may not."""
        parcel = handover.parcel
        body: dict[str, Any] = {
            "attempt": parcel.attempt,
            "claim": handover.claim,
            "kind": str(outcome.kind),
            "reason": outcome.reason,
            "latency_ms": min(outcome.latency_ms, MAX_LATENCY_MS),
        }
        if outcome.http_status in HTTP_STATUSES:
            body["http_status"] = outcome.http_status
        if outcome.retry_after is not None:
            body["retry_after"] = outcome.retry_after
        asked = self._ask(f"/internal/tasks/{quote(parcel.message_id, safe='')}/outcome", body, wanted, task)
        if asked is None:
            return False
        status = asked[0].status
        if status != 200:
            # 409: the attempt is another's by now, after its lease.
            self._log.warning("outcome not recorded", **_named(task), http_status=status)
        return status == 200

    def _ask(self, path: str, body: Any, wanted: Callable[[], bool], task: Task) -> tuple[Answer, float] | None:
        backoff = self._backoff()
        over = False
        while not over:
            asked_at = self._clock()
            try:
                answer = self._api.signed("POST", path, body)
            except BAD_SETTINGS as error:
                raise _fatal(type(error).__name__, "the API") from None
            except (BotoCoreError, HTTPError, OSError, ValueError) as error:
                why: dict[str, Any] = {"fault": type(error).__name__}
            else:
                if answer.status in (401, 403):
                    raise Fatal(f"the API answers {answer.status}: {_POLICY} Are API URL, credentials and clock right?")
                if answer.status != 429 and answer.status < 500:
                    return answer, asked_at
                why = {"http_status": answer.status}
            seconds = backoff.next()
            self._log.warning("the API fails", **_named(task), **why, again_in=round(seconds, 1))
            over = not wanted() or self._pause(seconds) or not wanted()
        return None


def _named(task: Task) -> dict[str, Any]:
    return {"message_id": task.message_id, "attempt": task.attempt}


def _job(text: Any) -> Mapping[str, Any]:
    # What cannot be read is refused by the API, as any other input that is none of ours.
    try:
        job = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    return job if isinstance(job, dict) else {}


def _handover(body: Any, asked_at: float) -> Handover:
    parcel = Parcel(
        message_id=_text(body["message_id"]),
        attempt=int(body["attempt"]),
        target=_text(body["target"]),
        payload=base64.b64decode(body["payload"], validate=True),
        content_type=_text(body["content_type"]),
        ack_url=_text(body["ack_url"]),
        nack_url=_text(body["nack_url"]),
    )
    return Handover(parcel, _text(body["claim"]), float(body["lease_seconds"]), asked_at)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


@contextmanager
def _faults(operation: str, activity: str) -> Iterator[None]:
    """Raise `Trouble` or `Fatal` for what botocore raises within; `TaskOver` goes through."""
    try:
        yield
    except ClientError as error:
        code = _code(error)
        if code in _NO_ACTIVITY:
            raise Fatal(f"{code}: there is no activity {activity}") from None
        if code in _FORBIDDEN:
            raise Fatal(f"{code} from {operation}: {_POLICY}") from None
        if code in _BAD_CREDENTIALS:
            raise _fatal(code, operation) from None
        raise Trouble(code) from None
    except BAD_SETTINGS as error:
        raise _fatal(type(error).__name__, operation) from None
    except (BotoCoreError, HTTPError, OSError) as error:
        raise Trouble(type(error).__name__) from None


def _fatal(code: str, operation: str) -> Fatal:
    return Fatal(f"{code} from {operation}: are the AWS credentials and this machine's clock right?")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "Unknown"))
