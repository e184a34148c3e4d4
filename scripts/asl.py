"""The workflows' definitions (definitions/*.asl.json): read, filled in, walked through, and what they cost counted."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from handlers.delivery.workflows import CATALOGUE, EndedBy

FOLDER = Path(__file__).parents[1] / "definitions"
SUFFIX = ".asl.json"
EXPRESS = {"poll_express": "delivery_poll"}
"""The workflows that are deployed from another's definition, as Express."""

SAMPLES = {
    "partition": "aws",
    "api_endpoint": "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
    "stage": "v1",
    "table": "until-ack-messages",
    "bus": "until-ack-attempts",
    "activity": "arn:aws:states:us-east-1:123456789012:activity:until-ack-delivery",
    "push_activity": "arn:aws:states:us-east-1:123456789012:activity:until-ack-push",
    "settle_function": "arn:aws:lambda:us-east-1:123456789012:function:until-ack-settle",
    "job_function": "arn:aws:lambda:us-east-1:123456789012:function:until-ack-job",
    "push_function": "arn:aws:lambda:us-east-1:123456789012:function:until-ack-push",
}
"""A value for each variable of the templates, of the form that Terraform gives it."""

VARIABLE = re.compile(r"\$\{([^}]*)\}")
INTEGRATION = "arn:${partition}:states:::"
TOKEN = ".waitForTaskToken"
ACTIVITIES = ("${activity}", "${push_activity}")

# Events of an execution's history, as AWS writes them: entered and exited, and between them what a task goes through.
_STEP_EVENTS = 2
_CALL_EVENTS = 3  # scheduled, started, and succeeded, failed or timed out
_SUBMITTED_EVENTS = 1
_PARALLEL_EVENTS = 2  # started, and succeeded or failed
EXECUTION_EVENTS = 2
"""Started, and succeeded or failed."""


class Via(StrEnum):
    """How one state leads to another."""

    NEXT = "next"
    CHOICE = "choice"
    DEFAULT = "default"
    CATCH = "catch"


@dataclass(frozen=True, slots=True)
class Edge:
    """A way to the state `target`; `label` is a choice's condition or the errors that are caught."""

    via: Via
    target: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """What it takes to go through some states once, without retries."""

    transitions: int = 0
    events: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.transitions + other.transitions, self.events + other.events)


@dataclass(frozen=True)
class Machine:
    """A definition as it is in its file, with the variables of its template."""

    name: str
    document: Mapping[str, Any]

    @property
    def states(self) -> Mapping[str, Mapping[str, Any]]:
        """The outermost states."""
        states: Mapping[str, Mapping[str, Any]] = self.document["States"]
        return states

    @property
    def start(self) -> str:
        """The first state, which asks for an attempt."""
        return str(self.document["StartAt"])

    def way(self, source: str, targets: Sequence[str], *, answered: bool = True, without: str = "") -> list[str]:
        """The shortest way from a state to one of the targets, without its last state; errors are no way.

        `answered` says whether a state that waits for an answer gets one, or times out. `without` names a state that
        the way must not touch.
        """
        ways = [[source]]
        seen = {source}
        for way in ways:
            for target in self._leads_to(way[-1], answered):
                if target in targets:
                    return way
                if target not in seen and target != without:
                    seen.add(target)
                    ways.append([*way, target])
        raise ValueError(f"{self.name}: no way from {source} to {', '.join(targets)}")

    def _leads_to(self, name: str, answered: bool) -> Iterator[str]:
        state = self.states[name]
        out = not answered and waits(state)
        for edge in edges(state):
            timeout = edge.via is Via.CATCH and edge.label == "States.Timeout"
            if timeout if out else edge.via is not Via.CATCH:
                yield edge.target

    def cost(self, way: Sequence[str]) -> Cost:
        """What it takes to go through these states."""
        return sum((cost(self.states[name]) for name in way), Cost())


def machines() -> list[Machine]:
    """All definitions, by name."""
    return [machine(path.name.removesuffix(SUFFIX)) for path in sorted(FOLDER.glob(f"delivery_*{SUFFIX}"))]


def machine(name: str) -> Machine:
    """One definition."""
    return Machine(name, json.loads((FOLDER / f"{name}{SUFFIX}").read_text()))


def of_workflow(workflow: str) -> Machine:
    """The definition that a workflow is deployed from."""
    return machine(EXPRESS.get(workflow, workflow))


def filled(document: Mapping[str, Any], values: Mapping[str, str] = SAMPLES) -> dict[str, Any]:
    """A definition with values for its variables. Raises `KeyError` for a variable without one."""
    text = VARIABLE.sub(lambda found: values[found[1]], json.dumps(document))
    made: dict[str, Any] = json.loads(text)
    return made


def scopes(document: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The machine and all machines inside it (branches of Parallel and Map), each with the path to its states."""
    yield path, document
    for name, state in document.get("States", {}).items():
        for position, branch in enumerate(branches(state)):
            yield from scopes(branch, f"{path}{name}[{position}].")


def branches(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The machines inside a state."""
    inside = [*state.get("Branches", []), state.get("Iterator"), state.get("ItemProcessor")]
    return [branch for branch in inside if isinstance(branch, Mapping)]


def edges(state: Mapping[str, Any]) -> Iterator[Edge]:
    """All ways out of a state."""
    if "Next" in state:
        yield Edge(Via.NEXT, state["Next"])
    for choice in state.get("Choices", []):
        yield Edge(Via.CHOICE, choice.get("Next", ""), choice.get("Comment", ""))
    if "Default" in state:
        yield Edge(Via.DEFAULT, state["Default"], "otherwise")
    for catcher in state.get("Catch", []):
        yield Edge(Via.CATCH, catcher.get("Next", ""), ", ".join(catcher.get("ErrorEquals", [])))


def waits(state: Mapping[str, Any]) -> bool:
    """Whether a state, or one inside it, waits for an answer from outside."""
    resource = str(state.get("Resource", ""))
    return (
        resource.endswith(TOKEN)
        or resource in ACTIVITIES
        or any(waits(inner) for branch in branches(state) for inner in branch["States"].values())
    )


def cost(state: Mapping[str, Any]) -> Cost:
    """What it takes to enter and leave a state once, with all that is inside it."""
    events = _STEP_EVENTS
    if state["Type"] == "Task":
        events += _CALL_EVENTS + (_SUBMITTED_EVENTS if str(state["Resource"]).endswith(TOKEN) else 0)
    elif state["Type"] == "Parallel":
        events += _PARALLEL_EVENTS
    inside = (cost(inner) for branch in branches(state) for inner in branch["States"].values())
    return sum(inside, Cost(1, events))


def unanswered(workflow: str) -> Cost:
    """What an attempt without an ACK costs: from asking for it to asking for the next."""
    made = of_workflow(workflow)
    return made.cost(made.way(made.start, [made.start], answered=False))


def answered_at_once(workflow: str) -> Cost:
    """What a message costs that is ACKed during its first delay: the whole execution."""
    made = of_workflow(workflow)
    if CATALOGUE[workflow].ended_by is EndedBy.STOP:
        waiting = next(name for name, state in made.states.items() if state["Type"] == "Wait")
        way = [*made.way(made.start, [waiting]), waiting]
    else:
        ends = [name for name, state in made.states.items() if state.get("End")]
        way = made.way(made.start, ends)
        way += [next(edge.target for edge in edges(made.states[way[-1]]) if edge.target in ends)]
    return made.cost(way) + Cost(0, EXECUTION_EVENTS)
