"""Step Functions on the simulation's clock: our definitions are played against the real handlers.

Its interface: `Simulation.sfn` is the service. Functions reach it through `handlers.aws.workflows` and `client`, a
stand-in for botocore's. Tests look at `executions`, let executions die by `kill` and `delete`, and make its calls
fail by `faults` (operations: `apigateway:invoke`, `dynamodb:getItem`, `lambda:invoke:<function>`,
`sqs:sendMessage`, `events:putEvents`). What AWS would refuse raises `Unsupported` or `LimitBroken`.
"""

import json
import random
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from handlers import attempts, job, push, settle
from handlers.aws.items import to_item
from handlers.aws.workflows import SfnExecutions
from handlers.delivery.errors import Invalid, Unavailable
from handlers.runtime.schemas import check
from tests.fakes.events import api_event, reply_of
from tests.fakes.wire import Fault, LimitBroken
from tests.simulation.asl import MAX_DATA, Call, Effect, Fiber, Fork, Machine, Sleep, StateError, Step, Unsupported, iso

if TYPE_CHECKING:
    from tests.simulation.simulator import Simulation

MAX_EVENTS = 25_000
"""Events of an execution's history, quotas of AWS Step Functions; one more, and it fails."""
EXPRESS_SECONDS = 300
"""After so long an Express execution is cut off, quotas of AWS Step Functions."""
LONG_POLL = 60_000
API_TIMEOUT = 29_000
"""API Gateway's, in milliseconds."""
ASYNC_RETRIES = (60_000, 120_000)
"""When Lambda repeats an asynchronous invocation that has failed, in milliseconds."""
ARN = "arn:aws:states:eu-central-1:0"
ACTIVITY, PUSH_ACTIVITY = f"{ARN}:activity:delivery", f"{ARN}:activity:push"
QUEUE_URL = "https://sqs.eu-central-1.amazonaws.com/000000000000/"
DEFINITIONS = Path(__file__).parents[2] / "definitions"
DEPLOYMENTS: Mapping[str, tuple[str, str]] = {
    "delivery_poll": ("delivery_poll", "STANDARD"),
    "poll_express": ("delivery_poll", "EXPRESS"),
    "delivery_stop_on_ack": ("delivery_stop_on_ack", "STANDARD"),
    "delivery_callback": ("delivery_callback", "STANDARD"),
    "delivery_event": ("delivery_event", "STANDARD"),
    "delivery_activity": ("delivery_activity", "STANDARD"),
    "delivery_push": ("delivery_push", "STANDARD"),
    "delivery_job_poller": ("delivery_job_poller", "STANDARD"),
}
"""Definition and type of each state machine (terraform/workflows.tf)."""
VARIABLES: Mapping[str, str] = {
    "partition": "aws",
    "api_endpoint": "api.example",
    "stage": "v1",
    "table": "messages",
    "bus": "attempts",
    "activity": ACTIVITY,
    "push_activity": PUSH_ACTIVITY,
    "settle_function": "arn:aws:lambda:eu-central-1:0:function:settle",
    "push_function": "arn:aws:lambda:eu-central-1:0:function:push",
    "job_function": "arn:aws:lambda:eu-central-1:0:function:job",
}
FUNCTIONS: Mapping[str, tuple[Callable[[Any, Any], Any], int]] = {
    "settle": (settle.handler, 20_000),
    "push": (push.handler, 70_000),
    "job": (job.handler, 20_000),
}
"""The functions that machines invoke, and their timeouts in milliseconds."""


def fields_for(workflow: str, **fields: Any) -> dict[str, Any]:
    """The fields of a message for a deployment, beside those that are given."""
    own: dict[str, Any] = {"scheduler": "workflow", "workflow": workflow}
    if workflow == "delivery_activity":
        own["channel"] = "activity"
    return {**own, **fields}


_loaded: dict[str, Machine] = {}


def load(definition: str) -> Machine:
    """A definition of the catalogue, with its variables filled in."""
    if definition not in _loaded:
        text = (DEFINITIONS / f"{definition}.asl.json").read_text()
        filled = re.sub(r"\$\{(\w+)\}", lambda match: VARIABLES[match[1]], text)
        _loaded[definition] = Machine(json.loads(filled))
    return _loaded[definition]


@dataclass(eq=False, slots=True)
class Waiting:
    """A task that waits: for a call's answer, for whoever holds its token, or for a worker to pull it."""

    execution: "Execution"
    call: Call
    done: Callable[[Any, StateError | None], None]
    kind: str
    """The prefix of its events: `Task` or `Activity`."""
    token: str
    over: bool = False
    started: bool = False
    beaten: int = 0


@dataclass(eq=False, slots=True)
class Execution:
    """An execution of a machine; what `asl.Run` asks for, too."""

    service: "StateMachines"
    workflow: str
    name: str
    told: Any
    started_at: int
    arn: str
    status: str = "RUNNING"
    output: Any = None
    error: str = ""
    cause: str = ""
    stopped_at: int | None = None
    transitions: int = 0
    events: "Counter[str]" = field(default_factory=Counter)
    history: list[tuple[int, str, str]] = field(default_factory=list)
    waiting: set[Waiting] = field(default_factory=set)
    context: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rng(self) -> random.Random:
        return self.service.rng

    @property
    def running(self) -> bool:
        return self.status == "RUNNING"

    @property
    def length(self) -> int:
        """How many events its history has."""
        return self.events.total()

    def clock(self) -> int:
        return self.service.simulation.now

    def token(self) -> str:
        return self.service.new_token()

    def transition(self) -> None:
        self.transitions += 1

    def note(self, event: str, state: str = "") -> None:
        """Write an event; the one over the limit fails the execution."""
        if not self.running:
            return
        self.events[event] += 1
        self.history.append((self.clock(), event, state))
        if self.length >= MAX_EVENTS and self.service.types[self.workflow] == "STANDARD":
            self.service.close(self, "FAILED", error="States.Runtime", cause="the history has 25,000 events")

    def visits(self, state: str) -> list[int]:
        """When it entered a state."""
        return [at for at, event, name in self.history if name == state and event.endswith("StateEntered")]


class Thread:
    """One line of an execution: the machine's own, or a branch's."""

    def __init__(self, execution: Execution, fiber: Fiber, done: Callable[[Any, StateError | None], None]) -> None:
        self._execution, self._fiber, self._done = execution, fiber, done
        self._service = execution.service
        self._waits_for = 0
        self._children: list[Thread] = []
        self._waiting: Waiting | None = None
        self.over = False

    def resume(self, value: Any = None, error: StateError | None = None) -> None:
        """Go on with what was waited for."""
        if self.over or not self._execution.running:
            return
        self._waiting = None
        self._waits_for += 1
        try:
            effect: Effect = self._fiber.send(value) if error is None else self._fiber.throw(error)
        except StopIteration as end:
            self._finish(end.value, None)
        except StateError as failure:
            self._finish(None, failure)
        else:
            if self._execution.running:
                self._carry_out(effect)

    def cancel(self) -> None:
        """Stop it, and all that it waits for."""
        self.over = True
        if self._waiting is not None:
            self._service.drop(self._waiting)
        for child in self._children:
            child.cancel()

    def _finish(self, value: Any, error: StateError | None) -> None:
        self.over = True
        self._done(value, error)

    def _later(self) -> Callable[..., None]:
        """To resume this very wait, and no later one."""
        serial = self._waits_for

        def resume(value: Any = None, error: StateError | None = None) -> None:
            if serial == self._waits_for:
                self.resume(value, error)

        return resume

    def _carry_out(self, effect: Effect) -> None:
        simulation = self._service.simulation
        match effect:
            case Step():
                simulation.at(simulation.now + simulation.latency(), self._later())
            case Sleep(seconds):
                simulation.at(simulation.now + round(seconds * 1000), self._later())
            case Call():
                self._waiting = self._service.call(self._execution, effect, self._later())
            case Fork(branches):
                self._fork(branches)

    def _fork(self, branches: Sequence[Fiber]) -> None:
        results: dict[int, Any] = {}
        go_on = self._later()

        def finished(position: int, value: Any, error: StateError | None) -> None:
            if error is not None:
                for child in self._children:
                    child.cancel()
                go_on(None, error)
                return
            results[position] = value
            if len(results) == len(branches):
                go_on([results[i] for i in range(len(branches))])

        self._children = [
            Thread(self._execution, fiber, partial(finished, position)) for position, fiber in enumerate(branches)
        ]
        for child in list(self._children):
            child.resume()


class StateMachines:
    """The service: machines, executions, tasks and activities."""

    def __init__(self, simulation: "Simulation", duplicates: float = 0.0) -> None:
        """`duplicates`: the share of asks, queue messages and Express starts that happen twice."""
        self.simulation = simulation
        self.duplicates = duplicates
        self.client: Any = Client(self)
        self.rng = random.Random(simulation.latency())
        self.types = {workflow: kind for workflow, (_, kind) in DEPLOYMENTS.items()}
        self.executions: list[Execution] = []
        self.faults: list[Fault] = []
        self.dead: list[Mapping[str, Any]] = []
        """Events of asynchronous invocations that have failed each time."""
        self.late: list[str] = []
        """Error codes of answers, stops and heartbeats that came too late."""
        self.counts_from_pull = True
        """Whether an activity's timeout counts from its start, as AWS documents, or from its scheduling."""
        self.tell = True
        """Whether status events are told at all; they may be lost for good."""
        self._threads: dict[Execution, Thread] = {}
        self._tokens: dict[str, Waiting] = {}
        self._queues: dict[str, deque[Waiting]] = {ACTIVITY: deque(), PUSH_ACTIVITY: deque()}
        self._polls: dict[str, deque[Poll]] = {ACTIVITY: deque(), PUSH_ACTIVITY: deque()}

    # Executions

    def of(self, message_id: str) -> list[Execution]:
        """The executions of a message, oldest first."""
        return [execution for execution in self.executions if execution.name.startswith(message_id)]

    def start(self, machine_arn: str, name: str, text: str) -> None:
        """Start an execution, as StartExecution does. Raises `ClientError`."""
        workflow = machine_arn.rpartition(":")[2]
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name):
            raise LimitBroken(f"execution name {name!r}")
        if len(text) > MAX_DATA:
            raise LimitBroken("execution input over 256 KiB")
        told = json.loads(text)
        try:
            check("execution_input", told)
        except Invalid as error:
            raise LimitBroken(f"execution input: {error}") from error
        express = self.types[workflow] == "EXPRESS"
        same = [e for e in self.executions if (e.workflow, e.name) == (workflow, name) and e.status != "DELETED"]
        if same and not express:
            if same[-1].running and same[-1].told == told:
                return
            raise _error("ExecutionAlreadyExists", "StartExecution")
        self._begin(workflow, name, told)
        if express and self.rng.random() < self.duplicates:
            self._begin(workflow, name, told)

    def _begin(self, workflow: str, name: str, told: Any) -> None:
        simulation = self.simulation
        arn = f"{ARN}:execution:{workflow}:{name}"
        execution = Execution(self, workflow, name, told, simulation.now, arn)
        started = iso(simulation.now)
        execution.context = {
            "Execution": {"Id": arn, "Input": told, "Name": name, "RoleArn": "arn:role", "StartTime": started},
            "StateMachine": {"Id": f"{ARN}:stateMachine:{workflow}", "Name": workflow},
        }
        self.executions.append(execution)
        execution.note("ExecutionStarted")
        definition = load(DEPLOYMENTS[workflow][0])
        express = self.types[workflow] == "EXPRESS"
        if express and (bad := [t.resource for t in definition.tasks if _waits(t.resource)]):
            raise Unsupported(f"an Express machine cannot wait for {bad}")

        def finished(output: Any, error: StateError | None) -> None:
            if error is not None:
                self.close(execution, "FAILED", error=error.error, cause=error.cause)
            else:
                self.close(execution, "SUCCEEDED", output=output)

        thread = self._threads[execution] = Thread(execution, definition.play(told, execution), finished)
        simulation.at(simulation.now + simulation.latency(), thread.resume)
        limit = min(definition.timeout or 99_999_999, EXPRESS_SECONDS if express else 99_999_999)
        if limit < 99_999_999:
            simulation.at(simulation.now + limit * 1000, lambda: self.close(execution, "TIMED_OUT"))

    def close(self, execution: Execution, status: str, *, output: Any = None, error: str = "", cause: str = "") -> None:
        """End an execution. A bad end is told to who listens, at least once."""
        if not execution.running:
            return
        execution.events[f"Execution{status.title().replace('_', '')}"] += 1
        execution.status, execution.output = status, output
        execution.error, execution.cause = error, cause
        execution.stopped_at = self.simulation.now
        self._threads.pop(execution).cancel()
        for waiting in list(execution.waiting):
            self.drop(waiting)
        if status in ("FAILED", "TIMED_OUT", "ABORTED") and self.types[execution.workflow] == "STANDARD" and self.tell:
            self.announce(execution)
            if self.rng.random() < self.duplicates:
                self.announce(execution)

    def kill(self, execution: Execution, status: str = "FAILED") -> None:
        """Let an execution die, as by a fault of the service's or somebody's hand."""
        self.close(execution, status, error="States.Runtime", cause="killed by the test")

    def delete(self, execution: Execution) -> None:
        """Let an execution vanish, with its machine: nobody is told."""
        telling, self.tell = self.tell, False
        self.close(execution, "DELETED")
        self.tell = telling

    def announce(self, execution: Execution) -> None:
        """Tell of an execution's bad end, once more."""
        detail = {
            "executionArn": execution.arn,
            "stateMachineArn": f"{ARN}:stateMachine:{execution.workflow}",
            "name": execution.name,
            "status": execution.status,
            "startDate": execution.started_at,
            "stopDate": execution.stopped_at,
            "input": json.dumps(execution.told),
            "output": None,
        }
        kind = "Step Functions Execution Status Change"
        self._invoke_later("settle", {"version": "0", "source": "aws.states", "detail-type": kind, "detail": detail})

    def _invoke_later(self, noun: str, event: Mapping[str, Any], tried: int = 0) -> None:
        """Invoke a function asynchronously, as Lambda does it: what fails is tried again, and nobody is answered."""
        simulation = self.simulation
        handler, timeout = FUNCTIONS[noun]

        def finished(result: object) -> None:
            if result is not None:
                return
            if tried == len(ASYNC_RETRIES):
                self.dead.append(event)
            else:
                wait = ASYNC_RETRIES[tried]
                simulation.at(simulation.now + wait, lambda: self._invoke_later(noun, event, tried + 1))

        self._soon(lambda: simulation.invoke(noun, partial(handler, event), finished, timeout=timeout))

    def stop(self, arn: str) -> None:
        """Stop an execution, as StopExecution does; one that has ended is left as it is. Raises `ClientError`."""
        found = [e for e in self.executions if e.arn == arn and e.status != "DELETED"]
        if not found:
            self.late.append("ExecutionDoesNotExist")
            raise _error("ExecutionDoesNotExist", "StopExecution")
        if self.types[found[-1].workflow] == "EXPRESS":
            raise LimitBroken("StopExecution of an Express execution")
        self.close(found[-1], "ABORTED")

    # Tasks

    def new_token(self) -> str:
        """A task token, of a length that AWS's may have."""
        return f"{self.rng.getrandbits(4096):x}"[:700].rjust(700, "0")

    def call(self, execution: Execution, call: Call, done: Callable[..., None]) -> Waiting:
        """Begin a task; `done` gets its result or its error."""
        activity = call.resource in self._queues
        waiting = Waiting(execution, call, done, "Activity" if activity else "Task", call.token or self.new_token())
        execution.waiting.add(waiting)
        execution.note(f"{waiting.kind}Scheduled")
        if activity:
            self._tokens[waiting.token] = waiting
            self._queues[call.resource].append(waiting)
            if not self.counts_from_pull:
                self._count_time(waiting)
            self._hand_out(call.resource)
            return waiting
        if call.resource not in _CALLS:
            raise Unsupported(f"Resource {call.resource}")
        execution.note("TaskStarted")
        if call.token is not None:
            self._tokens[waiting.token] = waiting
        self._count_time(waiting)
        fault = next((f for f in self.faults if f.strikes(_operation(call))), None)
        if fault is not None and fault.what in ("throttle", "timeout"):
            self._soon(lambda: self._settle(waiting, None, StateError("Service.Throttling", fault.what)))
            return waiting
        begin = partial(_CALLS[call.resource], self, waiting)
        self._soon(begin)
        if self.rng.random() < self.duplicates or (fault is not None and fault.what == "repeat"):
            self.simulation.at(self.simulation.now + self.rng.randint(0, 3000), begin)
        if fault is not None and fault.what == "lose":
            self._soon(lambda: self._settle(waiting, None, StateError("Service.SdkClientException", "lost")))
        return waiting

    def _soon(self, event: Callable[[], None]) -> None:
        self.simulation.at(self.simulation.now + self.simulation.latency(), event)

    def _count_time(self, waiting: Waiting) -> None:
        now, call = self.simulation.now, waiting.call
        if call.timeout is not None:
            timed_out = StateError("States.Timeout")
            self.simulation.at(now + call.timeout * 1000, lambda: self._settle(waiting, None, timed_out))
        waiting.beaten = now
        if call.heartbeat is not None and waiting.started:
            self._await_beat(waiting)

    def _await_beat(self, waiting: Waiting) -> None:
        assert waiting.call.heartbeat is not None
        missed = waiting.beaten + waiting.call.heartbeat * 1000

        def look() -> None:
            if waiting.over:
                return
            if waiting.beaten + (waiting.call.heartbeat or 0) * 1000 > self.simulation.now:
                self._await_beat(waiting)
            else:
                self._settle(waiting, None, StateError("States.HeartbeatTimeout"))

        self.simulation.at(missed, look)

    def drop(self, waiting: Waiting) -> None:
        """Nobody waits for a task any more."""
        waiting.over = True
        waiting.execution.waiting.discard(waiting)

    def _settle(self, waiting: Waiting, value: Any, error: StateError | None = None) -> None:
        if waiting.over:
            return
        self.drop(waiting)
        if error is None:
            waiting.execution.note(f"{waiting.kind}Succeeded")
        else:
            timed_out = error.error in ("States.Timeout", "States.HeartbeatTimeout")
            waiting.execution.note(f"{waiting.kind}{'TimedOut' if timed_out else 'Failed'}")
        waiting.done(value, error)

    def _open_task(self, token: str, operation: str) -> Waiting:
        waiting = self._tokens.get(token)
        if waiting is None or waiting.over or not waiting.execution.running:
            code = "InvalidToken" if waiting is None else "TaskTimedOut"
            self.late.append(code)
            raise _error(code, operation)
        return waiting

    def succeed(self, token: str, output: str) -> None:
        """SendTaskSuccess. Raises `ClientError` for a task that is over."""
        waiting = self._open_task(token, "SendTaskSuccess")
        if len(output) > MAX_DATA:
            raise LimitBroken("task output over 256 KiB")
        value = json.loads(output)
        # Whoever answers goes on at once; the execution takes its step after that.
        self._settle_soon(waiting, value, None)

    def fail(self, token: str, error: str, cause: str) -> None:
        """SendTaskFailure. Raises `ClientError` for a task that is over."""
        self._settle_soon(self._open_task(token, "SendTaskFailure"), None, StateError(error, cause))

    def _settle_soon(self, waiting: Waiting, value: Any, error: StateError | None) -> None:
        done, self_ = waiting.done, self
        waiting.done = lambda value, error: self_.simulation.at(self_.simulation.now, lambda: done(value, error))
        self._settle(waiting, value, error)

    def beat(self, token: str) -> None:
        """SendTaskHeartbeat. Raises `ClientError` for a task that is over."""
        self._open_task(token, "SendTaskHeartbeat").beaten = self.simulation.now

    # Activities

    def poll(self, activity: str, taken: "Callable[[Waiting], None]") -> "Poll":
        """Ask for a task of an activity; `taken` gets it as soon as there is one."""
        poll = Poll(taken)
        self._polls[activity].append(poll)
        self._soon(lambda: self._hand_out(activity))
        return poll

    def _hand_out(self, activity: str) -> None:
        waiting, polls = self._queues[activity], self._polls[activity]
        while True:
            while waiting and waiting[0].over:
                waiting.popleft()
            while polls and polls[0].over:
                polls.popleft()
            if not waiting or not polls:
                return
            task, poll = waiting.popleft(), polls.popleft()
            poll.over = task.started = True
            task.execution.note("ActivityStarted")
            if self.counts_from_pull:
                self._count_time(task)
            elif task.call.heartbeat is not None:
                task.beaten = self.simulation.now
                self._await_beat(task)
            poll.taken(task)

    # What a machine calls

    def _apigateway_invoke(self, waiting: Waiting) -> None:
        a = waiting.call.arguments
        known = {"ApiEndpoint", "Method", "Stage", "Path", "RequestBody", "AuthType", "Headers"}
        _check_arguments("apigateway:invoke", a, known - {"Headers"}, known)
        target = (a["ApiEndpoint"], a["Stage"], a["Method"], a["Path"].lstrip("/"), a["AuthType"])
        if target != ("api.example", "v1", "POST", "internal/attempts", "IAM_ROLE"):
            raise Unsupported(f"apigateway:invoke {target}")
        caller = "arn:aws:sts::0:assumed-role/machine/x"
        event = api_event("POST", "/internal/attempts", a["RequestBody"], caller=caller)

        def answered(result: object) -> None:
            reply = reply_of(result) if isinstance(result, Mapping) else None
            if reply is None:
                self._settle(waiting, None, StateError("ApiGateway.502", "Internal server error"))
            elif reply.status != 200:
                self._settle(waiting, None, StateError(f"ApiGateway.{reply.status}", reply.text))
            else:
                answer = {"Headers": dict(reply.headers), "ResponseBody": reply.json, "StatusCode": 200}
                self._settle(waiting, {**answer, "StatusText": "OK"})

        work = partial(attempts.handler, event)
        self.simulation.invoke("attempts", work, answered, timeout=min(20_000, API_TIMEOUT))

    def _dynamodb_get(self, waiting: Waiting) -> None:
        a = waiting.call.arguments
        fields = {"TableName", "Key", "ConsistentRead", "ProjectionExpression", "ExpressionAttributeNames"}
        _check_arguments("dynamodb:getItem", a, fields - {"ExpressionAttributeNames"}, fields)
        if a["TableName"] != "messages" or a["ConsistentRead"] is not True or set(a["Key"]) != {"id"}:
            raise Unsupported(f"dynamodb:getItem {a}")
        row = self.simulation.table.rows.get(a["Key"]["id"]["S"])
        item = {} if row is None else to_item(row.record)
        names = a.get("ExpressionAttributeNames", {})
        wanted = [names.get(name.strip(), name.strip()) for name in a["ProjectionExpression"].split(",")]
        found = {name: item[name] for name in wanted if name in item}
        self._settle(waiting, {"SdkHttpMetadata": {}, **({"Item": found} if row is not None else {})})

    def _lambda_invoke(self, waiting: Waiting) -> None:
        a = waiting.call.arguments
        needed = {"FunctionName", "Payload"}
        _check_arguments("lambda:invoke", a, needed, needed | {"InvocationType"})
        noun = a["FunctionName"].rpartition(":")[2]
        handler, timeout = FUNCTIONS[noun]
        event = json.loads(json.dumps(a["Payload"]))
        kind = a.get("InvocationType", "RequestResponse")
        if kind == "Event":
            # Lambda has queued it: that is all the machine hears.
            self._invoke_later(noun, event)
            self._settle(waiting, {"Payload": "", "StatusCode": 202})
            return
        if kind != "RequestResponse":
            raise Unsupported(f"InvocationType {kind}")
        errors: list[BaseException] = []

        def finished(result: object) -> None:
            if errors:
                # How Lambda names it: the exception's class, or the death of the process.
                error = type(errors[0]).__name__ if isinstance(errors[0], Exception) else "Runtime.ExitError"
                self._settle(waiting, None, StateError(error, str(errors[0])))
            else:
                payload = json.loads(json.dumps(result))
                self._settle(waiting, {"ExecutedVersion": "$LATEST", "Payload": payload, "StatusCode": 200})

        self.simulation.invoke(noun, partial(handler, event), finished, timeout=timeout, failed=errors.append)

    def _sqs_send(self, waiting: Waiting) -> None:
        a = waiting.call.arguments
        _check_arguments("sqs:sendMessage", a, {"QueueUrl", "MessageBody"}, {"QueueUrl", "MessageBody"})
        self._enqueue(a["QueueUrl"].removeprefix(QUEUE_URL), a["MessageBody"])
        self._submitted(waiting)

    def _events_put(self, waiting: Waiting) -> None:
        a = waiting.call.arguments
        _check_arguments("events:putEvents", a, {"Entries"}, {"Entries"})
        for entry in a["Entries"]:
            fields = {"Detail", "DetailType", "EventBusName", "Source"}
            _check_arguments("events:putEvents", entry, fields, fields)
            if (entry["EventBusName"], entry["Source"]) != (VARIABLES["bus"], "until-ack"):
                raise Unsupported(f"events:putEvents {entry}")
            if not isinstance(entry["Detail"], dict):
                raise Unsupported("a Detail is an object")
            kind, _, channel = entry["DetailType"].partition(".")
            if kind != "attempt":
                raise Unsupported(f"DetailType {entry['DetailType']}: no rule takes it")
            # The rule's target gets just the detail (input_path).
            self._soon(partial(self._enqueue, channel, entry["Detail"]))
        self._submitted(waiting)

    def _submitted(self, waiting: Waiting) -> None:
        if not waiting.over and not waiting.started:
            waiting.started = True
            waiting.execution.note("TaskSubmitted")
            if waiting.call.heartbeat is not None:
                self._await_beat(waiting)

    def _enqueue(self, channel: str, body: Any) -> None:
        queue = self.simulation.channel_queues[channel]
        text = json.dumps(body)
        if len(text) > MAX_DATA:
            raise LimitBroken("queue message over 256 KiB")
        queue.send(text)
        queue.sent.append((self.simulation.now, json.loads(text), 0))


@dataclass(eq=False, slots=True)
class Poll:
    """A GetActivityTask that waits for its task."""

    taken: Callable[[Waiting], None]
    over: bool = False


def _check_arguments(what: str, given: Mapping[str, Any], needed: set[str], known: set[str]) -> None:
    if not needed <= set(given) <= known:
        raise Unsupported(f"{what}: {sorted(given)}")


def _waits(resource: str) -> bool:
    return resource.endswith(".waitForTaskToken") or ":activity:" in resource


def _operation(call: Call) -> str:
    """What a fault names a call."""
    name = call.resource.removeprefix("arn:aws:states:::").removesuffix(".waitForTaskToken")
    return f"{name}:{call.arguments['FunctionName'].rpartition(':')[2]}" if name == "lambda:invoke" else name


_CALLS: Mapping[str, Callable[[StateMachines, Waiting], None]] = {
    "arn:aws:states:::apigateway:invoke": StateMachines._apigateway_invoke,
    "arn:aws:states:::dynamodb:getItem": StateMachines._dynamodb_get,
    "arn:aws:states:::lambda:invoke": StateMachines._lambda_invoke,
    "arn:aws:states:::sqs:sendMessage.waitForTaskToken": StateMachines._sqs_send,
    "arn:aws:states:::events:putEvents.waitForTaskToken": StateMachines._events_put,
}


def _error(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, operation)


class Client:
    """botocore's client of Step Functions, as far as the functions use it. Every call goes over the wire."""

    def __init__(self, service: StateMachines) -> None:
        self._service = service

    def start_execution(self, *, stateMachineArn: str, name: str, input: str) -> None:
        wire, service = self._service.simulation.wire, self._service
        wire.call("states.start", lambda: service.start(stateMachineArn, name, input))

    def stop_execution(self, *, executionArn: str, error: str, cause: str) -> None:
        if len(error) > 256 or len(cause) > 32_768:
            raise LimitBroken("error or cause of StopExecution")
        self._service.simulation.wire.call("states.stop", lambda: self._service.stop(executionArn))

    def send_task_success(self, *, taskToken: str, output: str) -> None:
        self._service.simulation.wire.call("states.answer", lambda: self._service.succeed(taskToken, output))

    def send_task_heartbeat(self, *, taskToken: str) -> None:
        self._service.simulation.wire.call("states.beat", lambda: self._service.beat(taskToken))

    def get_activity_task(self, *, activityArn: str) -> Mapping[str, Any]:
        """Wait for a task, for a minute at most."""
        service, simulation = self._service, self._service.simulation

        def effect() -> Mapping[str, Any]:
            taken: list[Waiting] = []
            wakers: list[Callable[[], None]] = []

            def take(task: Waiting) -> None:
                taken.append(task)
                wakers[0]()

            poll = service.poll(activityArn, take)
            simulation.wait(simulation.now + LONG_POLL, wakers.append)
            poll.over = True
            return {"taskToken": taken[0].token, "input": json.dumps(taken[0].call.arguments)} if taken else {}

        return simulation.wire.call("states.pull", effect)


@dataclass(frozen=True, slots=True)
class Workflows(SfnExecutions):
    """The real executions; only their heartbeats keep the simulation's time."""

    service: StateMachines

    @contextmanager
    def beating(self, task: str) -> Iterator[None]:
        """See `Executions.beating`."""
        simulation = self.service.simulation
        invocation = simulation.current.invocation if simulation.current else None
        beating = [True]

        def beat() -> None:
            if not beating or (invocation is not None and invocation.dead):
                return
            try:
                self.service.beat(task)
            except (ClientError, Unavailable):
                return
            simulation.at(simulation.now + self.heartbeat * 1000 // 3, beat)

        simulation.at(simulation.now + self.heartbeat * 1000 // 3, beat)
        try:
            yield
        finally:
            beating.clear()
