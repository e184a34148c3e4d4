"""`make draw`: draws the workflows' definitions into docs/workflows.md, and counts what they cost.

The page is written by hand, but for the blocks between `<!-- draw … -->` and `<!-- drawn -->`.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handlers.delivery.workflows import CATALOGUE, EXPRESS_SECONDS
from scripts import asl
from scripts.asl import EXPRESS, INTEGRATION, TOKEN, Cost, Edge, Machine, Via

PAGE = Path(__file__).parents[1] / "docs/workflows.md"
HISTORY = 25_000
"""Events that an execution's history may have."""
SCHEDULE = (15, 30, 14_400)

BLOCK = re.compile(r"(<!-- draw (?P<what>\w+) -->\n).*?(<!-- drawn -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Words:
    """What the table says of a workflow and no definition tells."""

    waits: str
    ended_by: str
    limits: str
    choose: str


WORDS = {
    "delivery_poll": Words(
        "a Wait; then the record is read",
        "nothing: it sees the end when it looks",
        "open until the delay is over, though the ACK is in",
        "every step is to be seen in the console, and nothing may depend on a callback",
    ),
    "poll_express": Words(
        "the same, as an Express workflow",
        "nothing",
        f"messages that expire within {EXPRESS_SECONDS} s; shows in its log only; runs at least once",
        "many messages live for seconds",
    ),
    "delivery_stop_on_ack": Words(
        "a Wait",
        "StopExecution",
        "a delivered message's execution shows as ABORTED; 200 stops a second",
        "the fewest transitions count",
    ),
    "delivery_callback": Words(
        "the task, with its token in the channel's queue",
        "SendTaskSuccess",
        "500 answers a second",
        "in doubt: it ends at once with the message, and the queue buffers the function",
    ),
    "delivery_event": Words(
        "the task, with its token in an event",
        "SendTaskSuccess",
        "500 answers a second; an event is 1.00 USD per million",
        "others are to see or to make the attempts: any rule, of any account",
    ),
    "delivery_activity": Words(
        "the activity's task, which a worker has pulled",
        "SendTaskSuccess",
        "needs a worker: on AWS the delay begins when one takes the task",
        "targets are behind NAT or a firewall, and something near them can pull",
    ),
    "delivery_push": Words(
        "an activity's task, beside a starter that sends",
        "SendTaskSuccess",
        "the most transitions; a function for each attempt",
        "the waiting is to be an activity, but no worker can run",
    ),
    "delivery_job_poller": Words(
        "a Wait; then the target is asked for its job's state",
        "nothing: it sees the end when it looks",
        "webhook only; each further look at a job takes {look.transitions} transitions and {look.events} events",
        "the message starts a job that takes its time, and the target can say how far it is",
    ),
}

CALLS = {
    f"{INTEGRATION}apigateway:invoke": "API: POST /{Path}",
    f"{INTEGRATION}dynamodb:getItem": "DynamoDB: read the record",
    f"{INTEGRATION}lambda:invoke": "Lambda: {FunctionName}",
    f"{INTEGRATION}sqs:sendMessage{TOKEN}": "SQS: a job with the task's token",
    f"{INTEGRATION}events:putEvents{TOKEN}": "EventBridge: a job with the task's token",
    "${activity}": "Activity: a worker pulls",
    "${push_activity}": "Activity: waits",
}
ERRORS = {"States.ALL": "any other error", "States.Timeout": "timed out", "States.HeartbeatTimeout": "silent worker"}

# USD for a million, us-east-1, autumn 2026.
TRANSITION = 25.00
API_REQUEST = 3.50
EVENT = 1.00
QUEUE_REQUEST = 0.40
READ = 0.125
FUNCTION = 0.20 + 0.05 * 0.25 * 13.3334
"""An invocation of 0.05 s with 0.25 GB, on arm64: an assumption, the same as in ADR 0003."""
EXPRESS_START = 1.00
EXPRESS_SECOND = 64 / 1024 * 16.67
ROUTE = API_REQUEST + FUNCTION + READ
ASKS = {
    "delivery_poll": ROUTE + READ,
    "poll_express": ROUTE + READ,
    "delivery_stop_on_ack": ROUTE,
    "delivery_callback": 0.0,
    "delivery_event": EVENT,
    "delivery_activity": 2 * (API_REQUEST + FUNCTION),
    "delivery_push": FUNCTION,
    "delivery_job_poller": ROUTE + FUNCTION + READ,
}
"""What each attempt costs for the scheduling alone, beside the transitions."""
TIMER = 3 * QUEUE_REQUEST + FUNCTION + READ
"""A timer of the queues: sent, received and deleted, and looked at; alone in its batch."""


# The page


def page() -> str:
    """The page as it has to be. Raises `ValueError` when it lacks a block."""
    blocks = {"table": table(), "prices": prices(), **{made.name: drawing(made) for made in asl.machines()}}
    missing = set(blocks)

    def fill(found: re.Match[str]) -> str:
        missing.discard(found["what"])
        return f"{found[1]}{blocks[found['what']]}{found[3]}"

    text = BLOCK.sub(fill, PAGE.read_text())
    if missing:
        raise ValueError(f"{PAGE.name} has no block <!-- draw {min(missing)} --> … <!-- drawn -->")
    return text


def table() -> str:
    """One row for each workflow."""
    heads = (
        "workflow", "what waits", "the ACK ends it by", "transitions an attempt without ACK",
        "transitions when ACKed at once", "events an attempt", f"attempts in {HISTORY:,} events", "limits",
        "choose it when",
    )  # fmt: skip
    return rows(heads, (row(workflow) for workflow in CATALOGUE))


def row(workflow: str) -> list[str]:
    """A workflow's row: words by hand, numbers counted."""
    words, attempt, acked = WORDS[workflow], asl.unanswered(workflow), asl.answered_at_once(workflow)
    express = workflow in EXPRESS
    fits = (HISTORY - acked.events) // attempt.events
    return [
        f"[{workflow}](#{workflow})",
        words.waits,
        words.ended_by,
        "not billed" if express else str(attempt.transitions),
        "not billed" if express else str(acked.transitions),
        "no history" if express else str(attempt.events),
        "no history" if express else f"{fits:,}",
        words.limits.format(look=look()),
        words.choose,
    ]


def look() -> Cost:
    """What one further look at a job costs."""
    made = asl.machine("delivery_job_poller")
    return made.cost(made.way("Wait", ["Wait"], without="Send"))


def prices() -> str:
    """What a million messages cost, for the scheduling alone."""
    heads = ("scheduler", "ACKed at once, USD", "ACKed after attempt 3, USD")
    first = [["queues", f"{TIMER:.2f}", f"{3 * TIMER:.2f}"]]
    return rows(heads, [*first, *([f"`{w}`", f"{price(w, 1):.2f}", f"{price(w, 3):.2f}"] for w in CATALOGUE)])


def price(workflow: str, attempts: int) -> float:
    """USD for a million messages that are ACKed during the delay after this attempt."""
    asks = attempts * ASKS[workflow]
    if workflow in EXPRESS:
        # It looks only when the delay is over.
        return asks + EXPRESS_START + min(EXPRESS_SECONDS, sum(SCHEDULE[:attempts])) * EXPRESS_SECOND
    transitions = (attempts - 1) * asl.unanswered(workflow).transitions + asl.answered_at_once(workflow).transitions
    return asks + transitions * TRANSITION


def rows(heads: Sequence[str], body: Sequence[Sequence[str]] | Iterator[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# The diagrams


def drawing(made: Machine) -> str:
    """A definition's diagram, as Markdown."""
    return f"```mermaid\n{diagram(made)}```\n"


def diagram(made: Machine) -> str:
    """A definition as a Mermaid flowchart: calls, choices, and dotted what becomes of errors."""
    lines = ["flowchart TD", "    begin(( ))", *_scope(made.document, "    "), f"    begin --> {made.start}"]
    for name, state in made.states.items():
        lines += [f"    {name} {_arrow(edge)} {edge.target}" for edge in _merged(asl.edges(state))]
    return "".join(f"{line}\n" for line in lines)


def _scope(scope: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, state in scope["States"].items():
        inside = asl.branches(state)
        if not inside:
            yield f"{indent}{_node(name, state)}"
            continue
        yield f'{indent}subgraph {name}["{name}: side by side"]'
        for branch in inside:
            yield from _scope(branch, f"{indent}    ")
        yield f"{indent}end"


def _node(name: str, state: Mapping[str, Any]) -> str:
    if state["Type"] == "Choice":
        return f'{name}{{"{state["Comment"]}"}}'
    if state["Type"] == "Wait":
        return f'{name}("{name}: {_field(state["SecondsPath"])} s")'
    if state["Type"] == "Task":
        return f'{name}["{name}<br/>{_call(state)}{_patience(state)}"]'
    return f'{name}(["{name}"])' if state.get("End") else f'{name}["{name}"]'


def _call(state: Mapping[str, Any]) -> str:
    words = CALLS[state["Resource"]].format_map(state["Parameters"])
    return re.sub(r"\$\{(\w+)_function\}", r"\1", words)


def _patience(state: Mapping[str, Any]) -> str:
    return (
        f"<br/>until answered, at most {_field(state['TimeoutSecondsPath'])} s" if "TimeoutSecondsPath" in state else ""
    )


def _field(path: str) -> str:
    return path.rpartition(".")[2]


def _merged(ways: Iterator[Edge]) -> Iterator[Edge]:
    """Errors that lead to the same state are one line."""
    caught: dict[str, list[str]] = {}
    for edge in ways:
        if edge.via is Via.CATCH:
            caught.setdefault(edge.target, []).append(_error(edge.label))
        else:
            yield edge
    yield from (Edge(Via.CATCH, target, ", ".join(labels)) for target, labels in caught.items())


def _error(name: str) -> str:
    return ERRORS.get(name, name.removeprefix("ApiGateway."))


def _arrow(edge: Edge) -> str:
    if edge.via is Via.CATCH:
        return f'-. "{edge.label}" .->'
    return f'-- "{edge.label}" -->' if edge.label else "-->"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(prog="draw", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    wanted = page()
    if not parser.parse_args(arguments).check:
        PAGE.write_text(wanted)
        return 0
    if PAGE.read_text() == wanted:
        return 0
    print(f"docs/{PAGE.name} is out of date: run `make draw`.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
