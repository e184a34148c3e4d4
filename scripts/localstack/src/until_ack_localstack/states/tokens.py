"""Tasks that somebody else ends: callbacks and activities.

A task is answered once. Whoever comes later, when it has been answered, has timed out, or its execution has ended, gets
TaskTimedOut as on AWS; LocalStack takes such an answer as long as the execution runs, and then calls the token invalid.
"""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from localstack.aws.api import RequestContext

from until_ack_localstack import connections
from until_ack_localstack.importing import when_imported

_POLL_SECONDS = 60.0
# How often a worker's long poll looks whether the worker is still there.
_NAP = 1.0
_STEPFUNCTIONS = "localstack.services.stepfunctions"

# By token. LocalStack asks every execution there ever was, and breaks on one that has not begun.
_endpoints: dict[str, Any] = {}


def install() -> None:
    """Replace LocalStack's way of answering tasks and of handing them to workers."""
    when_imported(f"{_STEPFUNCTIONS}.asl.eval.callback.callback", _change_callbacks)
    when_imported(f"{_STEPFUNCTIONS}.backend.activity", _change_activities)
    when_imported(f"{_STEPFUNCTIONS}.provider", _change_provider)


def renew(frame: Any) -> None:
    """Give a retried task a token of its own: LocalStack keeps the one that has been answered."""
    endpoint = _endpoint_of(frame)
    if endpoint is not None and endpoint.until_ack_closed:
        frame.callback_pool_manager.add(frame.states.context_object.update_task_token())


def started_at(frame: Any) -> float | None:
    """Return when a worker took the frame's task."""
    endpoint = _endpoint_of(frame)
    return None if endpoint is None else endpoint.until_ack_started


def close(frame: Any) -> bool:
    """Take no answer to the frame's task any more; return whether there has been one."""
    endpoint = _endpoint_of(frame)
    if endpoint is None:
        return False
    with endpoint.until_ack_lock:
        endpoint.until_ack_closed = True
        return endpoint.get_outcome() is not None


def release(frame: Any) -> None:
    """Let the thread go that waits for an answer."""
    endpoint = _endpoint_of(frame)
    if endpoint is not None:
        endpoint.interrupt_all()
        if hasattr(endpoint, "_activity_task_start_endpoint"):
            endpoint._activity_task_start_endpoint._next_activity_task_start_event.set()


def _endpoint_of(frame: Any) -> Any:
    task = frame.states.context_object.context_object_data.get("Task")
    return _endpoints.get(task["Token"]) if task else None


def _change_callbacks(module: Any) -> None:
    endpoint, manager, start = module.CallbackEndpoint, module.CallbackPoolManager, module.ActivityTaskStartEndpoint
    initialise, initialise_start, await_answer, await_start = (
        endpoint.__init__,
        start.__init__,
        endpoint.wait,
        start.wait,
    )

    def with_state(self: Any, callback_id: str) -> None:
        initialise(self, callback_id)
        self.until_ack_lock = threading.Lock()
        self.until_ack_closed = False
        self.until_ack_started = None
        _endpoints[callback_id] = self

    def with_outcome(self: Any) -> None:
        # LocalStack leaves it unset: a task that no worker takes could fail instead of timing out.
        initialise_start(self)
        self._outcome = None

    # The state that waits for the task keeps its time, and releases these two: of two clocks one would be first.
    def wait(self: Any, timeout: float | None = None) -> Any:
        return await_answer(self)

    def wait_for_start(self: Any, timeout_seconds: float) -> Any:
        return await_start(self, None)

    def add_activity_task(self: Any, callback_id: str, activity_arn: str, activity_input: str) -> Any:
        # LocalStack lets workers have the task before it knows the token.
        activity = self._activity_store.get(activity_arn)
        if activity is None:
            raise module.ActivityDoesNotExist()
        made = module.ActivityCallbackEndpoint(callback_id=callback_id, activity_input=activity_input)
        self._pool[callback_id] = made
        activity.add_task(module.ActivityTask(task_token=callback_id, task_input=activity_input))
        return made

    endpoint.__init__, endpoint.wait = with_state, wait
    start.__init__, start.wait = with_outcome, wait_for_start
    manager.add_activity_task = add_activity_task


def _change_activities(module: Any) -> None:
    activity = module.Activity
    initialise = activity.__init__

    def with_condition(self: Any, *args: Any, **kwargs: Any) -> None:
        initialise(self, *args, **kwargs)
        self.until_ack_condition = threading.Condition()

    def add_task(self: Any, task: Any) -> None:
        with self.until_ack_condition:
            self._tasks.append(task)
            self.until_ack_condition.notify()

    activity.__init__, activity.add_task = with_condition, add_task


def _take(activity: Any, context: RequestContext, worker_name: str | None) -> Any:
    """Wait for a task that can still be answered. LocalStack looks once a second, and hands out any."""
    deadline = time.monotonic() + _POLL_SECONDS
    with activity.until_ack_condition:
        while (left := deadline - time.monotonic()) > 0:
            if connections.lost(context):
                # The worker has gone: what it was woken for is the next one's.
                activity.until_ack_condition.notify()
                return None
            while activity._tasks:
                task = activity._tasks.popleft()
                endpoint = _endpoints[task.task_token]
                with endpoint.until_ack_lock:
                    if not endpoint.until_ack_closed:
                        endpoint.until_ack_started = time.monotonic()
                        endpoint.notify_activity_task_start(worker_name)
                        return task
            activity.until_ack_condition.wait(min(_NAP, left))
    return None


def _change_provider(module: Any) -> None:
    from localstack.aws.api.stepfunctions import InvalidOutput, InvalidToken, TaskTimedOut
    from localstack.services.stepfunctions.asl.eval.callback.callback import (
        CallbackOutcomeFailure,
        CallbackOutcomeSuccess,
    )

    def open_endpoint(token: str) -> Any:
        endpoint = _endpoints.get(token)
        if endpoint is None:
            raise InvalidToken("Invalid Token: 'Invalid token'")
        return endpoint

    def refuse_closed(endpoint: Any) -> None:
        if endpoint.until_ack_closed or endpoint.get_outcome() is not None:
            raise TaskTimedOut("Task Timed Out: 'Provided task does not exist anymore'")

    def answer(token: str, outcome: Any) -> None:
        endpoint = open_endpoint(token)
        with endpoint.until_ack_lock:
            refuse_closed(endpoint)
            endpoint.notify(outcome)

    def send_task_success(self: Any, context: RequestContext, task_token: str, output: str, **kwargs: Any) -> Any:
        try:
            json.loads(output)
        except ValueError:
            raise InvalidOutput("Invalid Output: 'The output is not JSON'") from None
        answer(task_token, CallbackOutcomeSuccess(callback_id=task_token, output=output))
        return {}

    def send_task_failure(
        self: Any,
        context: RequestContext,
        task_token: str,
        error: str | None = None,
        cause: str | None = None,
        **kwargs: Any,
    ) -> Any:
        answer(task_token, CallbackOutcomeFailure(callback_id=task_token, error=error, cause=cause))
        return {}

    def send_task_heartbeat(self: Any, context: RequestContext, task_token: str, **kwargs: Any) -> Any:
        endpoint = open_endpoint(task_token)
        with endpoint.until_ack_lock:
            refuse_closed(endpoint)
            # A task without HeartbeatSeconds takes heartbeats too; LocalStack calls its token invalid.
            endpoint.notify_heartbeat()
        return {}

    def get_activity_task(
        self: Any, context: RequestContext, activity_arn: str, worker_name: str | None = None, **kwargs: Any
    ) -> Any:
        self._validate_activity_arn(activity_arn)
        task = _take(self._get_activity(context=context, activity_arn=activity_arn), context, worker_name)
        return {"taskToken": task.task_token, "input": task.task_input} if task else {"taskToken": None, "input": None}

    for replacement in (send_task_success, send_task_failure, send_task_heartbeat, get_activity_task):
        setattr(module.StepFunctionsProvider, replacement.__name__, replacement)
