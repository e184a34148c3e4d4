"""A worker of the activity channel, as scripts/worker.py is one, on the simulation's clock."""

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from handlers import tasks
from handlers.delivery.channel import Kind, Outcome, Parcel
from tests.fakes.events import Reply, api_event
from tests.simulation.states import ACTIVITY, Poll, Waiting

if TYPE_CHECKING:
    from tests.simulation.simulator import Simulation

HEARTBEAT = 60_000
RETRIES = 30


class Worker:
    """Pulls tasks, claims their attempts over the API, hands them to their devices, reports how it went."""

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation
        self._poll: Poll | None = None
        self._run = 0
        """Which process it is: what another one has begun does not go on."""
        self.taken: list[tuple[int, int]] = []
        """When it took which attempt, in ms after the epoch."""
        self.refused: list[int] = []
        """The statuses of the API's refusals."""

    def start(self) -> "Worker":
        """Begin to pull."""
        self._run += 1
        self._pull(self._run)
        return self

    def die(self) -> None:
        """Vanish, with everything that has been begun."""
        self._run += 1
        if self._poll is not None:
            self._poll.over = True

    def _pull(self, run: int) -> None:
        if run == self._run:
            self._poll = self._simulation.sfn.poll(ACTIVITY, lambda task: self._take_up(run, task))

    def _take_up(self, run: int, task: Waiting) -> None:
        self._pull(run)
        held = [True]
        self._beat(run, task, held)
        event = api_event("POST", "/internal/tasks", {"job": task.call.arguments, "token": task.token})

        def answered(reply: Reply) -> None:
            if run != self._run:
                return
            if reply.status == 200:
                self._hand_over(run, task, reply.json, held)
            else:
                # Without heartbeats, an execution that still waits soon asks anew.
                self.refused.append(reply.status)
                held.clear()

        self._simulation.call_api("tasks", lambda: tasks.handler(event, None), retries=RETRIES, then=answered)

    def _beat(self, run: int, task: Waiting, held: list[bool]) -> None:
        simulation = self._simulation
        # A task's heartbeat is shorter than its wait, as in scripts/worker_heart.py.
        every = min(HEARTBEAT, max(1000, (task.call.arguments["task"]["wait"] - 1) * 1000)) // 3

        def beat() -> None:
            if run != self._run or not held:
                return
            try:
                simulation.sfn.beat(task.token)
            except ClientError:
                return
            simulation.at(simulation.now + every, beat)

        simulation.at(simulation.now + every, beat)

    def _hand_over(self, run: int, task: Waiting, given: Mapping[str, Any], held: list[bool]) -> None:
        simulation = self._simulation
        self.taken.append((simulation.now, given["attempt"]))
        payload = base64.b64decode(given["payload"])
        parcel = Parcel(
            given["message_id"], given["attempt"], given["target"], payload, given["content_type"],
            given["ack_url"], given["nack_url"],
        )  # fmt: skip
        reaction = simulation.arrive(parcel)
        simulation.at(simulation.now + reaction.latency, lambda: self._report(run, given, reaction.outcome, held))

    def _report(self, run: int, given: Mapping[str, Any], outcome: Outcome, held: list[bool]) -> None:
        if run != self._run:
            return
        body: dict[str, Any] = {"attempt": given["attempt"], "claim": given["claim"], "kind": str(outcome.kind)}
        body |= {"reason": outcome.reason, "latency_ms": outcome.latency_ms}
        body |= {} if outcome.http_status is None else {"http_status": outcome.http_status}
        body |= {} if outcome.retry_after is None else {"retry_after": outcome.retry_after}
        route = "/internal/tasks/{id}/outcome"
        event = api_event("POST", route, body, path={"id": given["message_id"]})

        def answered(reply: Reply) -> None:
            if outcome.kind in (Kind.ACKED, Kind.GONE):
                held.clear()

        self._simulation.call_api("tasks", lambda: tasks.handler(event, None), retries=RETRIES, then=answered)
