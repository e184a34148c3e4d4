"""Looks at the executions of the workflows: how they stand, what they went through, and what they cost."""

import json
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from botocore.exceptions import ClientError

from scripts.stack import Stack

EXPRESS = "poll_express"


@dataclass(frozen=True, slots=True)
class Execution:
    """An execution as it is now. `states` are the names of the states that it entered, in order."""

    status: str
    output: dict[str, Any]
    input: dict[str, Any]
    events: Sequence[dict[str, Any]]

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status != "RUNNING"

    @property
    def states(self) -> list[str]:
        """The states that it entered, in order."""
        entered = (event.get("stateEnteredEventDetails") for event in self.events)
        return [details["name"] for details in entered if details]

    @property
    def rounds(self) -> list[int]:
        """The events of each attempt that another followed: from asking for it to asking for the next."""
        names = [(event.get("stateEnteredEventDetails") or {}).get("name") for event in self.events]
        asks = [place for place, name in enumerate(names) if name == "Send"]
        return [later - earlier for earlier, later in pairwise(asks)]

    @property
    def asks(self) -> int:
        """How often it asked for an attempt."""
        return Counter(self.states)["Send"]


class Executions:
    """The executions of one stack. Express ones are known by their logs alone, as on AWS."""

    def __init__(self, stack: Stack, states: Any, logs: Any) -> None:
        self._stack, self._states, self._logs = stack, states, logs
        self._reads = threading.Semaphore(4)

    def arn(self, workflow: str, name: str) -> str:
        """The ARN of a Standard workflow's execution."""
        return f"{self._stack.machines[workflow].replace(':stateMachine:', ':execution:')}:{name}"

    def get(self, workflow: str, message_id: str, life: int = 1) -> Execution | None:
        """The execution of a message's life, if there is one."""
        name = f"{message_id}-{life}"
        with self._reads:
            return self._express(name) if workflow == EXPRESS else self._standard(self.arn(workflow, name))

    def _standard(self, arn: str) -> Execution | None:
        try:
            told = self._states.describe_execution(executionArn=arn)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ExecutionDoesNotExist":
                raise
            return None
        pages = self._states.get_paginator("get_execution_history").paginate(executionArn=arn)
        events = [event for page in pages for event in page["events"]]
        output = json.loads(told.get("output") or "{}")
        return Execution(told["status"], output, json.loads(told["input"]), events)

    def _express(self, name: str) -> Execution | None:
        group = self._stack.workflow_log_groups[EXPRESS]
        pages = self._logs.get_paginator("filter_log_events").paginate(logGroupName=group)
        lines = [json.loads(event["message"]) for page in pages for event in page["events"] if name in event["message"]]
        if not lines:
            return None
        lines.sort(key=lambda line: int(line["id"]))
        ended = next((line for line in lines if line["type"].startswith("Execution") and line["id"] != "1"), None)
        status = "RUNNING" if ended is None else ended["type"].removeprefix("Execution").upper()
        details = {} if ended is None else ended["details"]
        events = [{"type": line["type"], "stateEnteredEventDetails": _entered(line)} for line in lines]
        return Execution(status, json.loads(details.get("output") or "{}"), {}, events)


def _entered(line: dict[str, Any]) -> dict[str, Any] | None:
    return line["details"] if line["type"].endswith("StateEntered") else None
